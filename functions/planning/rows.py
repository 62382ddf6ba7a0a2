"""The data from a look at its beginning: how many rows, how long. Characters are counted; tokens are guessed from them, as a range."""

import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from jobspec.data import Columns
from jobspec.formats import standard
from planning.shape import CannotTell

#: How much of a data file is looked at, and how many of its rows.
LOOK_BYTES, MAX_ROWS_SEEN = 256 * 1024, 2000
#: More than this does not come out of a look at a compressed file.
MAX_UNPACKED_BYTES = 8 * 1024**2
#: Characters a token: byte-pair vocabularies of 32,000 and more give about 4 in English prose, fewer in code and other languages.
FEWEST_CHARACTERS, TYPICAL_CHARACTERS, MOST_CHARACTERS = 2.5, 4.0, 8.0
#: Tokens that a template or an end token adds to a row: a guess.
TEMPLATE_TOKENS = 8
_TEXT_KEYS = ("messages", "prompt", "completion", "text", "chosen", "rejected")


@dataclass(frozen=True, slots=True)
class Rows:
    """``characters`` of each sequence that was seen, shortest first. ``counted``: every row was seen, so the number is no guess."""

    number: float
    characters: tuple[int, ...]
    counted: bool = False

    def padded_tokens(self, characters_per_token: float, most: int, together: int) -> float:
        """Mean length in tokens, each cut at ``most``, to which rows are padded where ``together`` are padded to their longest."""
        return _padded_tokens(self.characters, characters_per_token, most, together)


@lru_cache(maxsize=64)
def _padded_tokens(characters: tuple[int, ...], characters_per_token: float, most: int, together: int) -> float:
    """A plan asks the same of every instance type, and of each for several ends."""
    return padded_length([min(most, count / characters_per_token + TEMPLATE_TOKENS) for count in characters], together)


def together(sources: list[tuple[Rows, float]]) -> Rows:
    """Several sources as one; each row counts by its source's weight. Of every source's sample, its share of the rows is taken."""
    number = sum(rows.number * weight for rows, weight in sources)
    if len(sources) == 1:
        return replace(sources[0][0], number=number)
    drawn: list[int] = []
    for rows, weight in sources:
        share = max(1, round(MAX_ROWS_SEEN * rows.number * weight / number))
        drawn += [rows.characters[at * len(rows.characters) // share] for at in range(share)]
    return Rows(number, tuple(sorted(drawn)), all(rows.counted for rows, _ in sources))


def padded_length(lengths: list[float], together: int) -> float:
    """Mean length to which rows are padded, where ``together`` rows drawn at random are padded to their longest."""
    total = len(lengths)
    return sum(length * (((at + 1) / total) ** together - (at / total) ** together) for at, length in enumerate(lengths))


def rows_of(head: bytes, size: int, name: str, columns: Columns, *, pairs: bool = False) -> Rows:
    """Rows of a JSONL file of ``size`` bytes from its beginning. ``pairs``: each row is two sequences. Raises CannotTell."""
    if name.endswith((".parquet", ".zst")):
        raise CannotTell(f"how many rows {name} has cannot be told from its beginning")
    text, whole_size = _unpacked(head, size, name)
    lines = [line for line in text.split(b"\n") if line.strip()]
    complete = len(text) >= whole_size
    if not complete:
        # The last line is cut somewhere.
        lines = lines[:-1]
    if not lines:
        raise CannotTell(f"no whole row in the first {LOOK_BYTES // 1024} KiB of {name}" if head else f"{name} is empty")
    seen = lines[:: max(1, len(lines) // MAX_ROWS_SEEN)]
    lengths = sorted(_characters(line, columns, pairs) for line in seen)
    mean_bytes = sum(len(line) + 1 for line in lines) / len(lines)
    return Rows(len(lines) if complete else whole_size / mean_bytes, tuple(lengths), complete)


def _unpacked(head: bytes, size: int, name: str) -> tuple[bytes, float]:
    """The beginning as text, and the whole file's size as text: a guess by the ratio so far where it is compressed."""
    if not name.endswith(".gz"):
        return head, size
    unpack = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        text = unpack.decompress(head, MAX_UNPACKED_BYTES)
    except zlib.error:
        raise CannotTell(f"{name} is not gzip") from None
    read = len(head) - len(unpack.unconsumed_tail)
    return text, len(text) if read >= size and unpack.eof else len(text) * size / max(1, read) + 1


def _characters(line: bytes, columns: Columns, pairs: bool) -> int:
    """Characters of one sequence of the row; of a line that is no JSON object, its bytes."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return len(line)
    if not isinstance(row, dict):
        return len(line)
    row = standard(row, columns)
    if pairs and "chosen" in row and "rejected" in row:
        return (2 * _length(row.get("prompt")) + _length(row["chosen"]) + _length(row["rejected"])) // 2
    known = [row[key] for key in _TEXT_KEYS if key in row]
    return sum(map(_length, known or list(row.values())))


def _length(value: Any) -> int:
    return sum(len(text) for text in _texts(value))


def _texts(value: Any) -> Iterator[str]:
    """Every text inside, without recursion: a row may be nested as deeply as JSON's reader allows."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, list):
            waiting.extend(one)
        elif isinstance(one, dict):
            # Of a message, what is said: roles and names are a token or two.
            waiting.extend([one["content"]] if "content" in one else one.values())
