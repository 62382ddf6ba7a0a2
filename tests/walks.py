"""Walks through the code that docs/architecture.md tells file by file, and what is called while one is walked."""

import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).parents[1]
#: A file, by the names that it is imported by, and a function of it.
Step = tuple[str, str]
_ROOMS = (ROOT / "functions", ROOT)


def steps(part: str) -> list[Step]:
    """What the page names in that part of the walk of a spot warning, in its order."""
    page = (ROOT / "docs/architecture.md").read_text()
    (walk,) = re.findall(r"^## A spot warning, file by file\n(.*?)^## ", page, re.MULTILINE | re.DOTALL)
    (told,) = re.findall(rf"^{part}\b.*?\n\n(.*?)(?=\n\n|\Z)", walk, re.MULTILINE | re.DOTALL)
    return re.findall(r"`([\w/]+\.py)` `(\w+)`", told)


@contextmanager
def walked() -> Iterator[list[Step]]:
    """The functions of this repository that are called meanwhile, by any thread, in the order of their calls."""
    calls: list[Step] = []
    names: dict[str, str | None] = {}

    def named(file: str) -> str | None:
        path = Path(file)
        return next((path.relative_to(room).as_posix() for room in _ROOMS if path.is_relative_to(room)), None)

    def note(frame: FrameType, event: str, _argument: Any) -> None:
        if event != "call":
            return
        code = frame.f_code
        if code.co_filename not in names:
            names[code.co_filename] = named(code.co_filename)
        if (name := names[code.co_filename]) is not None:
            calls.append((name, code.co_name))

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        yield calls
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def missed(told: list[Step], calls: list[Step]) -> list[Step]:
    """The told steps from the first on that was not called after those before it; empty where the walk is as it is told."""
    left = list(told)
    for call in calls:
        if left and call == left[0]:
            left.pop(0)
    return left
