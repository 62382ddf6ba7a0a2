"""Bytecode beside the functions' modules: what Lambda's Python takes without looking at times, and no more than a start needs."""

import importlib.util
import struct
import sys
from pathlib import Path

import pytest

from tests.template.stack import Stack
from tools import bytecode


@pytest.fixture
def build(tmp_path: Path) -> Path:
    for name in ("AFunction", "BFunction"):
        for module in ("control_plane/one.py", "pydantic/main.py", "pydantic/v1/old.py", "tzdata/zones.py", "typing_extensions.py"):
            path = tmp_path / name / module
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("def fail():\n    raise ValueError\n")
    return tmp_path


def compiled(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix().partition(".")[0] for path in folder.rglob("*.pyc")}


def test_every_function_is_given_the_bytecode_of_what_a_start_imports(build: Path) -> None:
    assert bytecode.compile_all(build) == (2, 3)
    wanted = {"control_plane/__pycache__/one", "pydantic/__pycache__/main", "__pycache__/typing_extensions"}
    assert compiled(build / "AFunction") == compiled(build / "BFunction") == wanted


def test_it_is_taken_whatever_times_a_zip_gives_the_sources(build: Path) -> None:
    bytecode.compile_all(build)
    found = Path(importlib.util.cache_from_source(str(build / "BFunction/control_plane/one.py"))).read_bytes()
    # PEP 552: the flags' lowest bit says that a hash stands there, the next that it is to be checked.
    assert struct.unpack("<I", found[4:8])[0] == 0b01
    assert b"/var/task/control_plane/one.py" in found, "a traceback names the file as it lies on Lambda"


def test_what_is_not_built_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(bytecode, "RUNTIME", sys.version_info[:2])
    monkeypatch.setattr(sys, "argv", ["bytecode.py", str(tmp_path)])
    assert bytecode.main() == 1
    assert "run sam build first" in capsys.readouterr().err


def test_another_pythons_bytecode_is_refused(build: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(bytecode, "RUNTIME", (2, 7))
    monkeypatch.setattr(sys, "argv", ["bytecode.py", str(build)])
    assert bytecode.main() == 2
    assert "the functions run on 2.7" in capsys.readouterr().err
    assert compiled(build / "AFunction") == set()


def test_it_is_made_for_the_functions_own_python() -> None:
    assert {function["Runtime"] for function in Stack().of_type("AWS::Lambda::Function").values()} == {"python" + ".".join(map(str, bytecode.RUNTIME))}
