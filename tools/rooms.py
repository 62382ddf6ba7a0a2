"""Draws the rooms and their imports into docs/architecture.md: ``python -m tools.rooms [--check]``.

What imports what is read from the code by grimp, as import-linter reads it; what a room is for is the first sentence of its docstring.
"""

import ast
import re
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import grimp

from tools.generated import write_or_check
from tools.stack import ROOT

TARGET = ROOT / "docs/architecture.md"
PACKAGES = ("dropforge", "control_plane", "agent", "trainer", "planning", "pages", "jobspec")
#: Packages whose folders and files are rooms themselves; of the command line only the folders are.
_APART = ("control_plane",)
_FOLDERS_APART = ("dropforge",)
_BEGIN, _END = "<!-- rooms: python -m tools.rooms -->\n", "<!-- /rooms -->\n"


@cache
def _graph() -> grimp.ImportGraph:
    return grimp.build_graph(*PACKAGES, cache_dir=None)


def _place(room: str) -> Path:
    """The file or folder that the room is."""
    path = Path(*room.split("."))
    base = next(base for base in (ROOT / "functions", ROOT) if (base / path.parts[0]).is_dir())
    return base / path if (base / path).is_dir() else (base / path).with_suffix(".py")


def room_of(module: str) -> str:
    """``control_plane.core`` of ``control_plane.core.decide``, ``trainer`` of ``trainer.watch``; the command line's own files are ``dropforge``."""
    package, *rest = module.split(".")
    inner = f"{package}.{rest[0]}" if rest else package
    return inner if rest and (package in _APART or (package in _FOLDERS_APART and _place(inner).is_dir())) else package


@cache
def imports() -> dict[str, frozenset[str]]:
    """Each room, with those that a file of it imports, inside a function too."""
    found: dict[str, set[str]] = {}
    for module in _graph().modules:
        room = room_of(module)
        if room == module and room in _APART:
            continue  # the package's own file says what it is, and holds nothing
        others = {room_of(other) for other in _graph().find_modules_directly_imported_by(module)} - {room}
        found.setdefault(room, set()).update(others)
    return {room: frozenset(others) for room, others in found.items()}


def _drawn() -> dict[str, frozenset[str]]:
    """The rooms of the picture: the command line is one."""
    whole: dict[str, set[str]] = {}
    for room, others in imports().items():
        name = _in_picture(room)
        whole.setdefault(name, set()).update({_in_picture(other) for other in others} - {name})
    return {room: frozenset(others) for room, others in whole.items()}


def _in_picture(room: str) -> str:
    package = room.split(".")[0]
    return package if package in _FOLDERS_APART else room


def arrows(rooms: dict[str, frozenset[str]]) -> list[tuple[str, str]]:
    """The imports that do not follow from others. Raises graphlib.CycleError where two rooms need each other."""
    below: dict[str, set[str]] = {}
    kept = []
    for room in TopologicalSorter(rooms).static_order():
        direct = rooms[room]
        beneath = {far for near in direct for far in below[near]}
        below[room] = beneath | direct
        kept += [(room, other) for other in sorted(direct - beneath)]
    return sorted(kept)


def picture() -> str:
    """The mermaid text of the rooms."""
    rooms = _drawn()
    lines = ["flowchart TD"]
    for package in _APART:
        inner = sorted(room for room in rooms if room.startswith(f"{package}."))
        lines += [f"  subgraph {package}", *(f"    {room}[{room.split('.')[1]}]" for room in inner), "  end"]
    lines += [f"  {room}" for room in sorted(rooms) if "." not in room]
    return "\n".join([*lines, *(f"  {room} --> {other}" for room, other in arrows(rooms))]) + "\n"


def sentence(room: str) -> str:
    """The first sentence of the room's docstring."""
    place = _place(room)
    text = ast.get_docstring(ast.parse((place / "__init__.py" if place.is_dir() else place).read_text())) or ""
    first = re.split(r"(?<=[.!?])\s", text.split("\n\n")[0].replace("\n", " "))[0].rstrip(".:")
    return first.replace("``", "`").replace("|", "\\|")


def table() -> str:
    rows = ["| room | what it is | imports |", "|---|---|---|"]
    for package in PACKAGES:
        for room in sorted(room for room in imports() if room.split(".")[0] == package):
            place = _place(room).relative_to(ROOT).as_posix()
            others = ", ".join(f"`{other.removeprefix(f'{package}.')}`" for other in sorted(imports()[room])) or "nothing of ours"
            rows.append(f"| `{place}{'/' if _place(room).is_dir() else ''}` | {sentence(room)} | {others} |")
    return "\n".join(rows) + "\n"


def page(before: str) -> str:
    """The page with the rooms as the code has them."""
    section = f"{_BEGIN}\n```mermaid\n{picture()}```\n\n{table()}\n{_END}"
    return re.sub(f"{re.escape(_BEGIN)}.*?{re.escape(_END)}", lambda _: section, before, flags=re.DOTALL)


if __name__ == "__main__":
    sys.exit(write_or_check(TARGET, page(TARGET.read_text()), "the code"))
