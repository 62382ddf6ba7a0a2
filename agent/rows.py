"""A first look at a data file, before a GPU does any work. The trainer holds every row to the format later."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from jobspec.marker import FailureCode

MAX_ROW_BYTES = 8 * 1024 * 1024
Format = Literal["auto", "chat", "prompt-completion", "text"]


class BadRows(Exception):
    """Why a data file cannot be trained on; ``code`` names the remedy."""

    def __init__(self, code: FailureCode, message: str) -> None:
        super().__init__(message)
        self.code = code


def _is_chat(row: dict[str, Any]) -> bool:
    turns = row.get("messages")
    return isinstance(turns, list) and bool(turns) and all(isinstance(turn, dict) and {"role", "content"} <= turn.keys() for turn in turns)


def _is_pair(row: dict[str, Any]) -> bool:
    return isinstance(row.get("prompt"), str | list) and isinstance(row.get("completion"), str | list)


def _is_text(row: dict[str, Any]) -> bool:
    return isinstance(row.get("text"), str)


_SHAPES: dict[str, tuple[Callable[[dict[str, Any]], bool], str]] = {
    "chat": (_is_chat, '{"messages": [{"role": ..., "content": ...}]}'),
    "prompt-completion": (_is_pair, '{"prompt": ..., "completion": ...}'),
    "text": (_is_text, '{"text": ...}'),
}


def check_first_row(path: Path, format_: Format, name: str) -> None:
    """Raises BadRows where ``path`` has no rows or its first row is not of ``format_``; ``name`` is what the user calls it."""
    number, line = _first_line(path, name)
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise BadRows(FailureCode.DATA_INVALID, f"{name}, line {number} is not a JSON object in UTF-8 ({str(error)[:80]}); {_allowed(format_)}") from None
    shapes = _SHAPES if format_ == "auto" else {format_: _SHAPES[format_]}
    if not isinstance(row, dict) or not any(fits(row) for fits, _ in shapes.values()):
        found = f"keys {', '.join(sorted(row)[:8])}" if isinstance(row, dict) else f"a {type(row).__name__}"
        raise BadRows(FailureCode.DATA_INVALID, f"{name}, line {number} has {found[:200]}; {_allowed(format_)}")


def _first_line(path: Path, name: str) -> tuple[int, bytes]:
    with path.open("rb") as file:
        number = 0
        while line := file.readline(MAX_ROW_BYTES + 1):
            number += 1
            if len(line) > MAX_ROW_BYTES:
                raise BadRows(FailureCode.DATA_INVALID, f"{name}, line {number} is longer than {MAX_ROW_BYTES} bytes; one JSON object a line is needed")
            if line.strip():
                return number, line
    raise BadRows(FailureCode.DATA_EMPTY, f"{name} has no rows; give a file with one JSON object a line")


def _allowed(format_: Format) -> str:
    if format_ == "auto":
        return "each line must be one of " + ", ".join(shape for _, shape in _SHAPES.values())
    return f"format {format_} needs {_SHAPES[format_][1]} on each line"
