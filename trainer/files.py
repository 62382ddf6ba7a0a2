"""What lies in a data file: JSON Lines, plain or packed by gzip or zstd, or Parquet; told by its first bytes, not its name.

Rows come one at a time, so that a file of any size costs little memory. Whatever a stranger packed is bounded before it
is unpacked: the file, each row, all rows together, and how many times larger than its file the content may grow.
"""

import gzip
import io
import json
import zlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobspec.formats import kind
from jobspec.marker import FailureCode
from trainer.failures import TrainerFailure

MAX_FILE_BYTES = 8 * 1024**3
MAX_ROW_BYTES = 4 * 1024**2
MAX_UNPACKED_BYTES = 32 * 1024**3
#: Text packs 3 to 20 times smaller, text of one repeated row 100 times; what grows more is made to grow.
MAX_GROWTH = 300
#: Below this nothing is said about growth: an almost empty file may grow as it likes.
SMALL_BYTES = 64 * 1024**2
MAX_BLANK_LINES = 100_000
#: Rows of a Parquet file that are decoded at once.
PARQUET_ROWS = 200
MAX_PARQUET_COLUMNS = 1000

_GZIP, _ZSTD, _PARQUET = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PAR1"


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A row that is none: what was found in its place."""

    why: str


@dataclass(frozen=True, slots=True)
class Numbered:
    """A row as it stands in its file: ``place`` is ``line 7`` or ``row 7``, counted from 1."""

    place: str
    value: dict[str, Any] | Unreadable


def numbered_rows(path: Path, name: str) -> Iterator[Numbered]:
    """Every row of the file that is not blank. Raises TrainerFailure where nothing after a place can be trusted."""
    check_file(path, name)
    with path.open("rb") as file:
        first = file.read(4)
    if first == _PARQUET:
        return _parquet_rows(path, name)
    return _json_rows(path, name, first)


def check_file(path: Path, name: str) -> None:
    """Raises TrainerFailure (data_missing, data_empty, data_invalid) for a file that is not worth opening."""
    if not path.is_file():
        raise TrainerFailure(FailureCode.DATA_MISSING, f"{name}: there is no such file. Check the data set's location in the manifest.")
    size = path.stat().st_size
    if size == 0:
        raise TrainerFailure(FailureCode.DATA_EMPTY, f"{name} is empty (0 bytes): write one JSON object a line.")
    if size > MAX_FILE_BYTES:
        raise _invalid(name, f"has {size} bytes; the limit is {MAX_FILE_BYTES}. Split the data set, or take a sample of it")


def _invalid(name: str, what: str) -> TrainerFailure:
    return TrainerFailure(FailureCode.DATA_INVALID, f"{name} {what}.")


def _json_rows(path: Path, name: str, first: bytes) -> Iterator[Numbered]:
    with closing(_unpacked(path, first)) as file:
        number = taken = blank = 0
        most = _most_bytes(path, packed=first[:2] == _GZIP or first == _ZSTD)
        while raw := _line(file, name, number + 1):
            number += 1
            taken += len(raw)
            if len(raw) > MAX_ROW_BYTES:
                raise _invalid(name, f": line {number} is longer than {MAX_ROW_BYTES} bytes. Allowed: one JSON object a line, each within that")
            if taken > most:
                raise _invalid(name, f"unpacks to more than {most} bytes, which is what a file of its size may; unpack it yourself, look at it, and split it")
            blank = 0 if raw.strip() else blank + 1
            if blank > MAX_BLANK_LINES:
                raise _invalid(name, f": {blank} blank lines in a row up to line {number}; take them out")
            if not blank:
                yield Numbered(f"line {number}", _parsed(raw, number))


def _most_bytes(path: Path, *, packed: bool) -> int:
    return min(MAX_UNPACKED_BYTES, max(SMALL_BYTES, MAX_GROWTH * path.stat().st_size)) if packed else MAX_UNPACKED_BYTES


def _unpacked(path: Path, first: bytes) -> io.BufferedIOBase:
    if first[:2] == _GZIP:
        return gzip.open(path, "rb")
    if first == _ZSTD:
        import pyarrow as pa  # brought along by datasets; reads zstd within its default window of 128 MiB

        stream: Any = pa.CompressedInputStream(pa.OSFile(str(path)), "zstd")
        return io.BufferedReader(stream, 1024 * 1024)
    return path.open("rb")


def _line(file: io.BufferedIOBase, name: str, number: int) -> bytes:
    try:
        return file.readline(MAX_ROW_BYTES + 1)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise _invalid(name, f"is packed, and damaged or cut off at line {number} ({error}): pack and upload it again") from None


def _parsed(raw: bytes, number: int) -> dict[str, Any] | Unreadable:
    try:
        value = json.loads(raw.decode("utf-8-sig" if number == 1 else "utf-8"))
    except UnicodeDecodeError as error:
        return Unreadable(f"byte {error.start} is not UTF-8 text (is the file compressed, or in another encoding?)")
    except json.JSONDecodeError as error:
        return Unreadable(f"not JSON ({error.msg} at column {error.colno})")
    except RecursionError:
        return Unreadable("nested too deeply")
    except ValueError as error:  # a number of thousands of digits
        return Unreadable(f"not JSON that can be read ({str(error)[:80]})")
    if isinstance(value, dict):
        return value
    hint = "; one object a line, not one array for the file" if isinstance(value, list) else ""
    return Unreadable(f"{kind(value)} where a JSON object belongs{hint}")


def _parquet_rows(path: Path, name: str) -> Iterator[Numbered]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number, taken, most = 0, 0, _most_bytes(path, packed=True)
    try:
        with pq.ParquetFile(path, memory_map=True) as file:
            if file.metadata.num_columns > MAX_PARQUET_COLUMNS:
                raise _invalid(name, f"has {file.metadata.num_columns} columns; the limit is {MAX_PARQUET_COLUMNS}")
            for batch in file.iter_batches(batch_size=PARQUET_ROWS):
                taken += batch.nbytes
                if taken > most or batch.nbytes > MAX_ROW_BYTES * batch.num_rows:
                    raise _invalid(name, f": rows {number + 1} and following hold more than {MAX_ROW_BYTES} bytes each, or all rows more than {most}")
                for value in batch.to_pylist():
                    number += 1
                    yield Numbered(f"row {number}", value)
    except (pa.ArrowException, OSError, MemoryError, UnicodeDecodeError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise _invalid(name, f"is Parquet, but not to be read after row {number} ({str(error).splitlines()[0][:200]}): write and upload it again") from None
