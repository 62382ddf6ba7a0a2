"""A first look at a data file, before a GPU does any work. The trainer holds every row to the format later.

The agent holds credentials, so it takes a stranger's file apart no further than it must: what is packed by zstd or is
Parquet is left to the trainer, which has none.
"""

import gzip
import json
import zlib
from pathlib import Path
from typing import Any

from jobspec.data import FORMATS_OF, Data
from jobspec.formats import allowed, format_of, problem_of, standard
from jobspec.marker import FailureCode

MAX_ROW_BYTES = 8 * 1024 * 1024
#: Blank lines before the first row that are passed over.
MAX_BLANK_LINES = 10_000
_GZIP = b"\x1f\x8b"
_LEFT_TO_THE_TRAINER = (b"\x28\xb5\x2f\xfd", b"PAR1")


class BadRows(Exception):
    """Why a data file cannot be trained on; ``code`` names the remedy."""

    def __init__(self, code: FailureCode, message: str) -> None:
        super().__init__(message)
        self.code = code


def check_first_row(path: Path, method: str, data: Data, name: str) -> None:
    """Raises BadRows where ``path`` has no rows or its first row is not what ``method`` learns from; ``name`` is what the user calls it."""
    with path.open("rb") as file:
        first = file.read(4)
    if first in _LEFT_TO_THE_TRAINER:
        return
    formats = FORMATS_OF[method] if data.format == "auto" else (data.format,)
    number, line = _first_line(path, name, packed=first[:2] == _GZIP)
    try:
        row: Any = json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise BadRows(
            FailureCode.DATA_INVALID, f"{name}, line {number} is not a JSON object in UTF-8 ({str(error)[:80]}). Allowed: {allowed(formats)}"
        ) from None
    if problem := _problem(row, method, data):
        raise BadRows(FailureCode.DATA_INVALID, f"{name}, line {number} {problem[:600]}. Allowed: {allowed(formats)}")


def _problem(row: Any, method: str, data: Data) -> str | None:
    if not isinstance(row, dict):
        return f"has a {type(row).__name__} where a JSON object belongs"
    row = standard(row, data.columns)
    try:
        wanted = format_of(row, method) if data.format == "auto" else data.format
    except ValueError as why:
        return str(why)
    problem = problem_of(row, wanted)
    return f"has {problem}" if problem else None


def _first_line(path: Path, name: str, *, packed: bool) -> tuple[int, bytes]:
    try:
        with gzip.open(path, "rb") if packed else path.open("rb") as file:
            number = 0
            while number < MAX_BLANK_LINES and (line := file.readline(MAX_ROW_BYTES + 1)):
                number += 1
                if len(line) > MAX_ROW_BYTES:
                    raise BadRows(FailureCode.DATA_INVALID, f"{name}, line {number} is longer than {MAX_ROW_BYTES} bytes; one JSON object a line is needed")
                if line.strip():
                    return number, line
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise BadRows(FailureCode.DATA_INVALID, f"{name} is packed by gzip, and damaged ({error}); pack and upload it again") from None
    raise BadRows(FailureCode.DATA_EMPTY, f"{name} has no rows; give a file with one JSON object a line")
