"""A function's folders as Lambda lays them out: ``task`` (/var/task) is the bundle, ``runtime`` what Lambda itself ships.

The bundle is functions/ with the packages that functions/requirements.txt pins, as ``sam build`` puts them together: without
bytecode. ``runtime`` is what requirements/lambda.txt has beside it - the runtime client, boto3 - with its bytecode.
"""

import compileall
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
ENVIRONMENT = ROOT / ".venv-lambda"


@dataclass(frozen=True, slots=True)
class Layout:
    python: str
    task: Path
    runtime: Path

    @property
    def bundle_bytes(self) -> int:
        return sum(path.stat().st_size for path in self.task.rglob("*") if path.is_file())


def lay_out(folder: Path) -> Layout:
    """Both folders, made below ``folder``. Raises SystemExit where .venv-lambda is missing or is not what the requirements say."""
    python = ENVIRONMENT / "bin" / "python"
    if not python.exists():
        raise SystemExit(".venv-lambda is missing: python3 tools/setup.py test")
    (packages,) = ENVIRONMENT.glob("lib/python3.*/site-packages")
    task, runtime = folder / "task", folder / "runtime"
    shutil.copytree(ROOT / "functions", task, ignore=shutil.ignore_patterns("__pycache__"))
    runtime.mkdir()
    pins = pinned((ROOT / "functions/requirements.txt").read_text())
    lambdas = pinned((ROOT / "requirements/lambda.txt").read_text())
    found = {}
    for record in packages.glob("*.dist-info/RECORD"):
        name = plain(record.parent.name.removesuffix(".dist-info").rpartition("-")[0])
        found[name] = record.parent.name.removesuffix(".dist-info").rpartition("-")[2]
        if name in pins or name in lambdas:
            _copy(packages, record.read_text(), task if name in pins else runtime)
    wrong = [f"{name}=={version}" for name, version in (pins | lambdas).items() if found.get(name) != version]
    if wrong:
        raise SystemExit(f".venv-lambda lacks {', '.join(wrong)}: python3 tools/setup.py test")
    interpreter = subprocess.run([python, "-c", "import sys; print(sys._base_executable)"], capture_output=True, text=True, check=True).stdout.strip()
    with_bytecode(interpreter, runtime)
    return Layout(interpreter, task, runtime)


def with_bytecode(python: str, folder: Path) -> None:
    """Compile what lies there, by the functions' own Python."""
    subprocess.run([python, "-m", compileall.__name__, "-q", str(folder)], check=True)


def pinned(requirements: str) -> dict[str, str]:
    """Version by plain name of every pinned line."""
    lines = [line.partition("#")[0].strip() for line in requirements.splitlines()]
    return {plain(name.partition("[")[0]): version for name, _, version in (line.partition("==") for line in lines if "==" in line)}


def plain(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


def _copy(packages: Path, record: str, into: Path) -> None:
    for line in record.splitlines():
        name = line.partition(",")[0]
        if not name.startswith("..") and "__pycache__" not in name and (packages / name).is_file():
            (into / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(packages / name, into / name)
