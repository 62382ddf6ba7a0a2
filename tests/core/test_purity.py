"""The core reads no clock and draws no lots: what it decides depends on its arguments alone (I15). Nor do the rooms that promise the same."""

import ast
import re
from pathlib import Path

import pytest

import control_plane.core
import jobspec
import pages
import planning

CORE, *OTHERS = (sorted(Path(next(iter(room.__path__))).glob("*.py")) for room in (control_plane.core, jobspec, pages, planning))
PURE = [*CORE, *(path for room in OTHERS for path in room)]
CALLS = {"now", "utcnow", "today", "time", "monotonic", "perf_counter", "random", "uuid4", "urandom", "getenv", "open", "print", "input"}


def impure_calls(source: str) -> list[str]:
    """Names of the called functions that would make a room depend on more than its arguments."""
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id if isinstance(node.func, ast.Name) else ""
            names += [name] if name in CALLS else []
    return names


@pytest.mark.parametrize("path", PURE, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_pure_room_is_pure(path: Path) -> None:
    assert impure_calls(path.read_text()) == []


@pytest.mark.parametrize("source", ["datetime.now(UTC)", "time.monotonic()", "uuid4()", "open('x')"])
def test_the_check_sees_what_it_is_for(source: str) -> None:
    assert impure_calls(source)


def test_the_cores_first_page_names_each_of_its_files() -> None:
    page = control_plane.core.__doc__ or ""
    named = re.findall(r"``(\w+)``", page.split("Start with")[1])
    assert sorted({*named}) == [path.stem for path in CORE if path.stem != "__init__"]
