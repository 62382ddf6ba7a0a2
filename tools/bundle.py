"""Makes what ``sam build`` made start sooner: ``python3.13 tools/bundle.py [.aws-sam/build] [--botocore FOLDER]``. Standard library only.

Optional: without it the functions do the same, later (docs/benchmarks.md, "Lambda start"). Into each function's folder it puts

* ``aws_models``: botocore's descriptions of the services, cut down to the calls that the adapters make. Whole, EC2's alone takes 50 ms to read.
  What else botocore knows - endpoints, signing - stays Lambda's own.
* bytecode. Lambda cannot write beside the code, so without it each start compiles every module anew, some 0.2 s. It is not held against its
  sources' times, which a zip changes (PEP 552, "unchecked hash"), and names them as they lie on Lambda.

and it takes away what no door imports (``NOT_IMPORTED``), and what no loader reads: the debugging symbols of compiled packages, 2.3 MB of
PyYAML's. Then every door and every room is imported from there once, where this machine is of the functions' kind.
"""

import argparse
import compileall
import gzip
import json
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterable, Iterator
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec
from pathlib import Path
from py_compile import PycInvalidationMode
from typing import Any

#: The functions' Runtime in template.yaml: another Python's bytecode is none to it.
RUNTIME = (3, 13)
BUILD = Path(".aws-sam/build")
ON_LAMBDA = "/var/task"
#: What is there for other users of the packages, by pattern.
NOT_IMPORTED = (
    "aws_lambda_powertools/event_handler",  # web APIs, with Swagger's page: 2.2 MB
    "aws_lambda_powertools/utilities/[!_j]*",  # parsers, idempotency, batches...; all but jmespath_utils, which its logger names
    "pydantic/v1",  # the old major version
    "pydantic/mypy.py",  # the type checker's plugin
    "**/*.pyi",  # types without code
)
#: The calls of ``control_plane/adapters``, which a test holds against their source; ``HeadBucket`` is botocore's own, to learn a bucket's region.
CALLS = {
    "dynamodb": ("GetItem", "PutItem", "Query", "TransactWriteItems", "UpdateItem"),
    "ec2": ("CreateFleet", "CreateTags", "DescribeInstances", "DescribeSpotPriceHistory", "DescribeSubnets", "TerminateInstances"),
    "events": ("PutEvents",),
    "s3": ("GetObject", "HeadBucket", "HeadObject", "ListObjectsV2", "PutObject"),
    "sns": ("Publish",),
    "ssm": ("GetParameter",),
}
#: What a start imports. The rest - zone data, the page's templates, what pydantic imports when it is asked for - would be bytes for nobody.
PACKAGES = (
    *("control_plane", "jobspec", "planning", "pages", "pydantic", "pydantic_core", "annotated_types", "typing_inspection", "yaml", "jmespath"),
    *("aws_lambda_powertools", "jinja2", "markupsafe"),
)
MODULES = ("typing_extensions.py",)
_NOT_COMPILED = tuple(f"pydantic/{name}" for name in ("color.py", "dataclasses.py", "deprecated/", "networks.py", "type_adapter.py"))
_IMPORTS = """
import importlib, pkgutil, sys
sys.path[:0] = [sys.argv[1]]
sys.path.append(sys.argv[2])
import control_plane.handlers
for room in pkgutil.walk_packages(control_plane.__path__, "control_plane."):
    importlib.import_module(room.name)
"""


class NotBuilt(RuntimeError):
    """There is nothing to work on, or what came of it does not start."""


def functions(build: Path) -> list[Path]:
    """The functions' folders. Raises NotBuilt."""
    found = sorted(path.parent for path in build.glob("*/control_plane"))
    if not found:
        raise NotBuilt(f"{build} holds no function: run sam build first")
    return found


def botocore_folder() -> Path:
    """Where a botocore lies: this Python's, or that of ``make setup``'s sam. Raises NotBuilt."""
    mine = find_spec("botocore")
    found = [Path(mine.origin).parent] if mine and mine.origin else []
    found += sorted(Path(__file__).parents[1].glob(".venv-sam/lib/python*/site-packages/botocore"))
    if not found:
        raise NotBuilt("no botocore to take the services' models from: name its folder with --botocore, or run make setup, which brings sam's")
    return found[0]


def take_away(folder: Path) -> None:
    for path in [path for pattern in NOT_IMPORTED for path in folder.glob(pattern)]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in folder.rglob("*.so"):
        path.write_bytes(loaded_part(path.read_bytes()))


def loaded_part(library: bytes) -> bytes:
    """A shared library without what comes behind its segments: its sections, which linkers and debuggers read, and no loader.

    ELF-64 as of every machine that Lambda has; anything else is left as it is. Offsets: elf(5), Elf64_Ehdr and Elf64_Phdr.
    """
    if library[:6] != b"\x7fELF\x02\x01":
        return library
    (table,) = struct.unpack_from("<Q", library, 32)
    size, count = struct.unpack_from("<HH", library, 54)
    segments = [struct.unpack_from("<Q16xQ", library, table + number * size + 8) for number in range(count)]
    kept = bytearray(library[: max(table + size * count, *(offset + length for offset, length in segments))])
    # No sections: e_shoff, and e_shentsize, e_shnum, e_shstrndx.
    struct.pack_into("<Q", kept, 40, 0)
    struct.pack_into("<HHH", kept, 58, 0, 0, 0)
    return bytes(kept)


# --- the services' models -------------------------------------------------------------------------------------------


def put_models(folder: Path, botocore: Path) -> None:
    """Raises NotBuilt where botocore does not know a call."""
    for service, calls in CALLS.items():
        newest = max((botocore / "data" / service).iterdir())
        into = folder / "aws_models" / service / newest.name
        into.mkdir(parents=True, exist_ok=True)
        for kind, cut in (("service-2", cut_model), ("paginators-1", cut_pages)):
            try:
                known = cut(_read(newest / kind), calls)
            except KeyError as missing:
                raise NotBuilt(f"the botocore in {botocore} has no {missing} of {service}: take a newer one") from None
            (into / f"{kind}.json").write_text(json.dumps(known, separators=(",", ":")))


def cut_model(model: dict[str, Any], calls: Iterable[str]) -> dict[str, Any]:
    """The model with those operations, and the shapes that they and their answers are made of. Raises KeyError."""
    operations = {name: model["operations"][name] for name in calls}
    shapes: dict[str, Any] = {}
    wanted = list(_named(operations))
    while wanted:
        name = wanted.pop()
        if name not in shapes:
            shapes[name] = model["shapes"][name]
            wanted += _named(shapes[name])
    return model | {"operations": _without_words(operations), "shapes": _without_words(shapes)}


def cut_pages(pages: dict[str, Any], calls: Iterable[str]) -> dict[str, Any]:
    return {"pagination": {name: how for name, how in pages["pagination"].items() if name in calls}}


def _named(part: Any) -> Iterator[str]:
    """The shapes that a part of a model refers to: every ``"shape": NAME``."""
    if isinstance(part, dict):
        if isinstance(part.get("shape"), str):
            yield part["shape"]
        part = list(part.values())
    if isinstance(part, list):
        for one in part:
            yield from _named(one)


def _without_words(part: Any) -> Any:
    if isinstance(part, dict):
        # A member may be named so, too: then it is no text.
        return {name: _without_words(one) for name, one in part.items() if not (name == "documentation" and isinstance(one, str))}
    return [_without_words(one) for one in part] if isinstance(part, list) else part


def _read(path: Path) -> dict[str, Any]:
    packed = path.with_name(f"{path.name}.json.gz")
    read: dict[str, Any] = json.loads(gzip.decompress(packed.read_bytes()) if packed.exists() else path.with_name(f"{path.name}.json").read_bytes())
    return read


# --- bytecode -------------------------------------------------------------------------------------------------------


def sources(folder: Path) -> Iterator[Path]:
    for package in PACKAGES:
        yield from (path for path in (folder / package).rglob("*.py") if not path.relative_to(folder).as_posix().startswith(_NOT_COMPILED))
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


# --- all of it ------------------------------------------------------------------------------------------------------


def make(build: Path, botocore: Path) -> tuple[int, int]:
    """(functions, modules in each). All functions are one bundle: the first is compiled, the others are given its bytecode."""
    first, *others = functions(build)
    for folder in (first, *others):
        take_away(folder)
        put_models(folder, botocore)
    count = compile_one(first)
    for other in others:
        for compiled in first.rglob("__pycache__/*.pyc"):
            into = other / compiled.relative_to(first)
            into.parent.mkdir(exist_ok=True)
            shutil.copyfile(compiled, into)
    return 1 + len(others), count


def is_importable_here(folder: Path) -> bool:
    """Its compiled packages are for this machine and this Python."""
    return all(path.name.endswith(EXTENSION_SUFFIXES[0]) for path in folder.rglob("*.so"))


def check(folder: Path, botocore: Path) -> None:
    """Import every door and every room from the folder, in a Python of its own. Raises NotBuilt."""
    command = [sys.executable, "-I", "-S", "-B", "-c", _IMPORTS, str(folder), str(botocore.parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotBuilt(f"what is left in {folder} cannot be imported; build anew and deploy without this step, and tell us:\n{done.stderr[-2000:]}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="tools/bundle.py", description="Makes what sam build made start sooner.")
    parser.add_argument("build", nargs="?", type=Path, default=BUILD)
    parser.add_argument("--botocore", type=Path, help="its folder, to take the services' models from; otherwise this Python's, or that of .venv-sam")
    options = parser.parse_args()
    if sys.version_info[:2] != RUNTIME:
        mine, wanted = (".".join(map(str, version[:2])) for version in (sys.version_info, RUNTIME))
        print(f"This is Python {mine}; the functions run on {wanted}: run this file with that.", file=sys.stderr)
        return 2
    try:
        first = functions(options.build)[0]
        botocore = options.botocore or botocore_folder()
        count, modules = make(options.build, botocore)
        if here := is_importable_here(first):
            check(first, botocore)
    except NotBuilt as problem:
        print(problem, file=sys.stderr)
        return 1
    size_mb = sum(path.stat().st_size for path in first.rglob("*") if path.is_file()) / 1e6
    print(f"{count} functions of {size_mb:.1f} MB unpacked, with bytecode of {modules} modules and the models of {len(CALLS)} services")
    print("every door and room imports" if here else "no door was imported: the compiled packages are for another kind of machine than this one")
    return 0


if __name__ == "__main__":
    sys.exit(main())
