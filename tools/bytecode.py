"""Bytecode into what ``sam build`` made: ``python3.13 tools/bytecode.py [.aws-sam/build]``. Standard library only.

Lambda cannot write beside a function's code, so without this each start compiles every module anew: some 0.3 s of a start
(docs/benchmarks.md, "Lambda start"). Optional: without it the functions do the same, later. The bytecode is not held against its sources'
times, which a zip changes (PEP 552, "unchecked hash"), and names them as they lie on Lambda.
"""

import compileall
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from py_compile import PycInvalidationMode

#: The functions' Runtime in template.yaml: another Python's bytecode is none to it.
RUNTIME = (3, 13)
#: What a start imports. The rest - old pydantic's shim, zone data, the page's templates - would be bytes for nobody.
_OF_POWERTOOLS = tuple(
    f"aws_lambda_powertools/{part}" for part in ("exceptions", "logging", "metrics", "shared", "tracing", "utilities/jmespath_utils", "warnings")
)
PACKAGES = (
    "control_plane",
    "jobspec",
    "planning",
    "pages",
    "pydantic",
    "pydantic_core",
    "annotated_types",
    "typing_inspection",
    "yaml",
    "jmespath",
    *_OF_POWERTOOLS,
)
MODULES = ("typing_extensions.py", *(f"aws_lambda_powertools/{name}.py" for name in ("__init__", "package_logger", "utilities/__init__")))
_LEFT_OUT = {"v1", "deprecated"}
BUILD = Path(".aws-sam/build")
ON_LAMBDA = "/var/task"


class NotBuilt(RuntimeError):
    """There is nothing to compile, or it does not compile."""


def functions(build: Path) -> list[Path]:
    """The functions' folders. Raises NotBuilt."""
    found = sorted(path.parent for path in build.glob("*/control_plane"))
    if not found:
        raise NotBuilt(f"{build} holds no function: run sam build first")
    return found


def sources(folder: Path) -> Iterator[Path]:
    for package in PACKAGES:
        yield from (path for path in (folder / package).rglob("*.py") if not _LEFT_OUT & set(path.relative_to(folder).parts))
    yield from (folder / name for name in MODULES if (folder / name).exists())


def compile_one(folder: Path) -> int:
    """Compile one function's folder; the count of modules. Raises NotBuilt."""
    count = 0
    for source in sources(folder):
        if not compileall.compile_file(
            source, quiet=1, force=True, invalidation_mode=PycInvalidationMode.UNCHECKED_HASH, stripdir=folder, prependdir=ON_LAMBDA
        ):
            raise NotBuilt(f"{source} does not compile")
        count += 1
    return count


def compile_all(build: Path) -> tuple[int, int]:
    """(functions, modules in each). All functions are one bundle: the first is compiled, the others are given its bytecode."""
    first, *others = functions(build)
    count = compile_one(first)
    for other in others:
        for compiled in first.rglob("__pycache__/*.pyc"):
            into = other / compiled.relative_to(first)
            into.parent.mkdir(exist_ok=True)
            shutil.copyfile(compiled, into)
    return 1 + len(others), count


def main() -> int:
    build = Path(sys.argv[1]) if len(sys.argv) > 1 else BUILD
    if sys.version_info[:2] != RUNTIME:
        mine, wanted = (".".join(map(str, version[:2])) for version in (sys.version_info, RUNTIME))
        print(f"This is Python {mine}; the functions run on {wanted}: run this file with that.", file=sys.stderr)
        return 2
    try:
        count, modules = compile_all(build)
    except NotBuilt as problem:
        print(problem, file=sys.stderr)
        return 1
    print(f"bytecode of {modules} modules in {count} functions")
    return 0


if __name__ == "__main__":
    sys.exit(main())
