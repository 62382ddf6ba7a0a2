"""From rendered rows to token ids and labels: which tokens carry loss, and what ``max_length`` cuts off.

Spans of text become masks of tokens by the tokens' character offsets, which every fast tokenizer gives.
"""

import bisect
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from trainer.rendering import Renderer, Span
from trainer.rows import Row

#: The label that TRL and torch leave out of the loss.
IGNORED = -100
_BATCH_ROWS = 500


@dataclass(frozen=True, slots=True)
class Sequence:
    """One text in tokens, cut at ``max_length``. ``length`` and ``supervised`` count before the cut, ``kept`` is what is left of them."""

    ids: list[int]
    mask: list[bool]
    length: int
    supervised: int
    kept: int

    @property
    def labels(self) -> list[int]:
        return [token if supervised else IGNORED for token, supervised in zip(self.ids, self.mask, strict=True)]


@dataclass(frozen=True, slots=True)
class Encoded:
    """A row and its texts in tokens: one, or two of a preference row. ``index`` counts rows from 0."""

    index: int
    row: Row
    sequences: tuple[Sequence, ...]

    @property
    def length(self) -> int:
        """Of the longer text, before anything was cut."""
        return max(sequence.length for sequence in self.sequences)


def encode(rows: Iterable[Row], renderer: Renderer, max_length: int) -> Iterator[Encoded]:
    """Every row in tokens. Raises TrainerFailure (data_invalid) where a template cannot render one."""
    index = 0
    for batch in _batches(rows):
        texts = [renderer.texts(row) for row in batch]
        flat = [each for texts_of_row in texts for each in texts_of_row]
        found = renderer.tokenizer([text for text, _ in flat], add_special_tokens=renderer.special_tokens, return_offsets_mapping=True)
        sequences = iter(
            _sequence(list(ids), _mask(offsets, spans), max_length)
            for ids, offsets, (_, spans) in zip(found["input_ids"], found["offset_mapping"], flat, strict=True)
        )
        for row, texts_of_row in zip(batch, texts, strict=True):
            yield Encoded(index, row, tuple(next(sequences) for _ in texts_of_row))
            index += 1


def _batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    batch: list[Row] = []
    for row in rows:
        batch.append(row)
        if len(batch) == _BATCH_ROWS:
            yield batch
            batch = []
    if batch:
        yield batch


def _sequence(ids: list[int], mask: list[bool], max_length: int) -> Sequence:
    return Sequence(ids[:max_length], mask[:max_length], len(ids), sum(mask), sum(mask[:max_length]))


def _mask(offsets: list[Span], spans: list[Span]) -> list[bool]:
    """True for each token that overlaps a span; special tokens that a tokenizer adds have no characters and carry none."""
    starts = [start for start, _ in spans]
    mask = []
    for begin, end in offsets:
        at = bisect.bisect_left(starts, end) - 1
        mask.append(begin < end and at >= 0 and begin < spans[at][1])
    return mask
