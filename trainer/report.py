"""What is counted while rows are prepared, when it is too bad to train on, and how it reads."""

import random
import statistics
from array import array
from dataclasses import dataclass, field
from typing import Any

from jobspec.data import Format
from jobspec.manifest import Training
from jobspec.marker import FailureCode
from jobspec.prepared import DataFacts
from trainer.failures import TrainerFailure
from trainer.tokens import Encoded, Sequence

#: Around what carries loss in a decoded sample.
OPEN, CLOSE = "\u27e6", "\u27e7"
_BUCKETS = (32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)
_SAMPLE_CHARACTERS = 700


@dataclass(slots=True)
class Counts:
    """Of the rows that go one way: to training, or to be held out. Lengths are of the longer text, before anything was cut."""

    stop_token: int | None
    lengths: "array[int]" = field(default_factory=lambda: array("q"))
    kept: int = 0
    tokens: int = 0
    supervised: int = 0
    supervised_lost: int = 0
    rows_cut: int = 0
    rows_without_stop: int = 0

    def add(self, encoded: Encoded, *, supervised: bool = True) -> bool:
        """Count a row; False where it must be dropped, because a text has no supervised token left."""
        sequences = encoded.sequences
        self.lengths.append(encoded.length)
        self.tokens += sum(sequence.length for sequence in sequences)
        self.supervised += sum(sequence.supervised for sequence in sequences)
        self.supervised_lost += sum(sequence.supervised - sequence.kept for sequence in sequences)
        self.rows_cut += any(sequence.length > len(sequence.ids) for sequence in sequences)
        if supervised and not all(sequence.kept for sequence in sequences):
            return False
        self.kept += 1
        self.rows_without_stop += supervised and any(self._no_stop(sequence) for sequence in sequences)
        return True

    def _no_stop(self, sequence: Sequence) -> bool:
        last = max(at for at, supervised in enumerate(sequence.mask) if supervised)
        return sequence.kept == sequence.supervised and sequence.ids[last] != self.stop_token


def check_counts(name: str, counts: Counts, training: Training, positions: int | None) -> None:
    """Refuse data that would train nothing, or lose more than the manifest allows. Raises TrainerFailure (data_invalid)."""
    longest = max(counts.lengths)
    if counts.supervised == 0:
        raise TrainerFailure(FailureCode.DATA_INVALID, f"{name}: 0 % of its tokens would carry loss; check training.loss_on and the chat template.")
    lost = counts.supervised_lost / counts.supervised
    if lost > training.max_truncated_fraction or not counts.kept:
        raise TrainerFailure(
            FailureCode.DATA_INVALID,
            f"{name}: max_length {training.max_length} would cut {counts.supervised_lost} of {counts.supervised} supervised tokens ({lost:.1%}) "
            f"in {counts.rows_cut} of {len(counts.lengths)} rows; allowed: {training.max_truncated_fraction:.1%}. "
            f"Set training.max_length to {longest} (the longest row), shorten the rows, or raise training.max_truncated_fraction.",
        )
    if positions is not None and min(longest, training.max_length) > positions:
        raise TrainerFailure(
            FailureCode.DATA_INVALID,
            f"{name}: rows of up to {min(longest, training.max_length)} tokens, but the base model has {positions} positions: "
            f"set training.max_length to {positions} or less.",
        )


def facts_of(data_format: Format, train: Counts, held_out: Counts) -> DataFacts:
    """The counts as they are kept and shown."""
    return DataFacts(
        format=data_format,
        rows=train.kept,
        held_out=held_out.kept,
        tokens=train.tokens,
        supervised=train.supervised,
        supervised_lost=train.supervised_lost,
        rows_cut=train.rows_cut,
        rows_dropped=len(train.lengths) - train.kept,
        rows_without_stop=train.rows_without_stop,
        shortest=min(train.lengths),
        median=int(statistics.median(train.lengths)),
        longest=max(train.lengths),
        histogram=_histogram(train.lengths),
    )


def _histogram(lengths: "array[int]") -> dict[str, int]:
    counts: dict[int, int] = {}
    for length in lengths:
        bucket = next((bound for bound in _BUCKETS if length <= bound), 0)
        counts[bucket] = counts.get(bucket, 0) + 1
    return {str(bound or "more"): counts[bound] for bound in (*_BUCKETS, 0) if bound in counts}


def describe(facts: DataFacts) -> str:
    """The data report in a few sentences: rows, lengths, supervised share, what was cut."""
    parts = [f"{facts.rows} rows to train on ({facts.format}), {facts.held_out} held out"]
    shares = ", ".join(f"{count} longer" if bound == "more" else f"{count} up to {bound}" for bound, count in facts.histogram.items())
    parts.append(f"{facts.shortest} to {facts.longest} tokens, median {facts.median} ({shares})")
    if facts.supervised:
        parts.append(f"{facts.supervised / facts.tokens:.0%} of {facts.tokens} tokens carry loss")
    parts.append(f"{facts.rows_cut} rows cut at max_length ({facts.supervised_lost} supervised tokens lost), {facts.rows_dropped} dropped")
    if facts.rows_without_stop:
        parts.append(f"{facts.rows_without_stop} rows do not end with the tokenizer's stop token: the model may not learn to stop there")
    return "; ".join(parts)


@dataclass(slots=True)
class Samples:
    """Three rows to look at: the first, the longest, and one drawn from all. Keeps no more than these."""

    seed: int
    first: Encoded | None = None
    longest: Encoded | None = None
    drawn: Encoded | None = None
    _seen: int = 0
    _draw: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._draw = random.Random(self.seed)  # noqa: S311 - a reproducible draw, not a secret

    def look(self, encoded: Encoded) -> None:
        self._seen += 1
        self.first = self.first or encoded
        if self.longest is None or encoded.length > self.longest.length:
            self.longest = encoded
        if self._draw.randrange(self._seen) == 0:
            self.drawn = encoded

    def texts(self, tokenizer: Any) -> tuple[str, ...]:
        """``data/train.jsonl: line 7: text`` for each, what carries loss in marks."""
        rows = {each.index: each for each in (self.first, self.drawn, self.longest) if each is not None}
        return tuple(f"{each.row.where}: {' | '.join(marked(tokenizer, sequence) for sequence in each.sequences)}"[:2000] for each in rows.values())


def marked(tokenizer: Any, sequence: Sequence) -> str:
    """The decoded text, with what carries loss between OPEN and CLOSE; the middle of a long one is left out."""
    text, ids, at = "", sequence.ids, 0
    while at < len(ids):
        end = next((later for later in range(at, len(ids)) if sequence.mask[later] != sequence.mask[at]), len(ids))
        part = tokenizer.decode(ids[at:end], clean_up_tokenization_spaces=False)
        text += f"{OPEN}{part}{CLOSE}" if sequence.mask[at] else part
        at = end
    half = _SAMPLE_CHARACTERS // 2
    return text if len(text) <= _SAMPLE_CHARACTERS else f"{text[:half]} ... {text[-half:]}"
