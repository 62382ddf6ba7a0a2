"""From the run file to rows ready for the trainer: read, held out, tokenised, checked, reported, kept. No model is loaded."""

import bisect
import itertools
import random
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobspec.marker import FailureCode
from jobspec.prepared import Part, PreparedManifest, Probe
from jobspec.runfile import ProgressKind, RunFile
from trainer.base_model import check_base_model
from trainer.failures import TrainerFailure
from trainer.prepared import HELD_OUT_NAME, TRAIN_NAME, data_sha256, find_prepared, prepared_key, publish_prepared
from trainer.progress import ProgressLog
from trainer.rendering import Renderer
from trainer.report import Counts, Samples, check_counts, describe, facts_of
from trainer.rows import DataSet, Row, held_out_set, training_set
from trainer.stop import StopSignal
from trainer.tables import new_table, open_table
from trainer.tokens import Encoded, encode

_SHOWN = 400


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows that are good to be prepared, or were prepared before; no tokenizer is loaded yet."""

    config: dict[str, Any]
    data_sha256: str
    key: str
    #: None where the prepared folder is whole and has this key.
    train: DataSet | None
    held_out: DataSet | None
    found: PreparedManifest | None
    #: Why what lies in the prepared folder is not used; empty where nothing lies there, or it is.
    passed_over: str = ""


@dataclass(frozen=True, slots=True)
class Prepared:
    """Everything that training needs of the data.

    ``train`` and ``held_out`` are datasets.Dataset, mapped from disk: for sft ``input_ids`` and ``labels``; for dpo, orpo and
    reward ``prompt``, ``chosen``, ``rejected``; for kto ``prompt``, ``completion``, ``label``; for grpo ``prompt`` and the
    row's other columns. Prompts and answers are texts, or lists of messages. A row of weight 3 is in ``train`` three times.
    """

    tokenizer: Any
    train: Any
    held_out: Any | None
    manifest: PreparedManifest
    report: str

    @property
    def probe(self) -> Probe:
        return self.manifest.probe

    def probe_ids(self, most: int) -> list[int]:
        """The probe's first tokens."""
        ids: list[int] = self.tokenizer(self.probe.prompt, add_special_tokens=self.probe.special_tokens)["input_ids"]
        return ids[:most] or [self.tokenizer.eos_token_id]


def read_all(run: RunFile, root: Path, stop: StopSignal) -> Rows:
    """All files and the model's configuration, checked without torch. Raises TrainerFailure."""
    data = data_sha256(run, root, stop)
    config: dict[str, Any] | None = None
    key, found, why = "", None, ""
    if (root / run.prepared_dir).exists():
        config = check_base_model(root / run.model_dir, run.model_reference)
        key = prepared_key(run, root, data)
        found, why = find_prepared(root / run.prepared_dir, key, stop)
    train = training_set(run, root, stop) if found is None else None
    held_out = held_out_set(run, root, train, stop) if train is not None else None
    config = config or check_base_model(root / run.model_dir, run.model_reference)
    return Rows(config, data, key or prepared_key(run, root, data), train, held_out, found, why)


def prepare(run: RunFile, root: Path, rows: Rows, log: ProgressLog, stop: StopSignal) -> Prepared:
    """Tokenise, check, keep and report; writes DATA progress lines. Raises TrainerFailure."""
    started = time.monotonic()
    tokenizer = load_tokenizer(root / run.model_dir)
    folder, manifest = root / run.prepared_dir, rows.found
    if manifest is None:
        if rows.passed_over:
            log.write(ProgressKind.DATA, f"the prepared data in {folder.name}/ is not used, since {rows.passed_over}; the rows are prepared again")
        manifest = publish_prepared(folder, lambda staging: _Preparation(run, rows, tokenizer, stop).write(staging))
    earlier = "" if rows.found is None else f" (prepared earlier, in {manifest.seconds:.0f} s)"
    log.write(ProgressKind.DATA, describe(manifest.facts) + earlier, seconds=round(time.monotonic() - started, 3))
    for sample in manifest.samples:
        log.write(ProgressKind.DATA, f"sample: {sample}")
    return _opened(run, folder, tokenizer, manifest)


def open_prepared(run: RunFile, root: Path, manifest: PreparedManifest) -> Prepared:
    """What another process of the run prepared and checked."""
    return _opened(run, root / run.prepared_dir, load_tokenizer(root / run.model_dir), manifest)


def _opened(run: RunFile, folder: Path, tokenizer: Any, manifest: PreparedManifest) -> Prepared:
    train, held_out = open_table(folder / TRAIN_NAME), open_table(folder / HELD_OUT_NAME)
    taken = taken_rows(manifest.parts, run.training.seed)
    kept = held_out if len(held_out) else None
    return Prepared(tokenizer, train.select(taken) if taken is not None else train, kept, manifest, describe(manifest.facts))


def drawn_rows(rows: int, fraction: float, seed: int) -> frozenset[int]:
    """Indices of the rows to hold out: a seeded draw of ``fraction`` of them, one at least where there are two rows or more."""
    if fraction == 0 or rows < 2:
        return frozenset()
    count = min(max(1, round(rows * fraction)), rows - 1)
    return frozenset(random.Random(seed).sample(range(rows), count))  # noqa: S311 - a reproducible draw, not a secret


def taken_rows(parts: tuple[Part, ...], seed: int) -> list[int] | None:
    """Indices of one epoch's rows, each as often as its part's weight says; None where each counts once.

    Of a weight's fraction, a seeded draw of so many rows is taken once more: 2.5 takes every row twice and half of them a third time.
    """
    if all(part.weight == 1 for part in parts):
        return None
    draw = random.Random(seed)  # noqa: S311 - as above
    taken: list[int] = []
    begin = 0
    for part in parts:
        rows = range(begin, begin + part.rows)
        whole, fraction = int(part.weight), part.weight % 1
        more = draw.sample(rows, round(part.rows * fraction))
        taken += sorted([row for row in rows for _ in range(whole)] + more)
        begin = rows.stop
    if not taken:
        raise TrainerFailure(FailureCode.DATA_EMPTY, "the weights in data.train take no row at all: raise them.")
    return taken


class _Preparation:
    """One pass over each data set, each row going to its table as it is tokenised."""

    def __init__(self, run: RunFile, rows: Rows, tokenizer: Any, stop: StopSignal) -> None:
        assert rows.train is not None, "there is nothing to prepare"
        self._run, self._rows, self._data, self._tokenizer, self._stop = run, rows, rows.train, tokenizer, stop
        self._renderer = Renderer(tokenizer, self._data.format, self._data.spoken, run.training.loss_on)
        self._train, self._held_out = Counts(tokenizer.eos_token_id), Counts(tokenizer.eos_token_id)
        self._samples = Samples(run.training.seed)
        self._ends = list(itertools.accumulate(part.rows for part in self._data.parts))
        self._kept_of_file = [0] * len(self._ends)

    def write(self, folder: Path) -> PreparedManifest:
        """Fill ``folder`` with both tables; gives the manifest without its files. Raises TrainerFailure."""
        started = time.monotonic()
        data, run = self._data, self._run
        drawn = frozenset() if self._rows.held_out is not None else drawn_rows(len(data), run.eval_fraction, run.training.seed)
        probe: Row | None = None
        with ExitStack() as stack:
            train = stack.enter_context(new_table(folder / TRAIN_NAME, data.format, spoken=data.spoken))
            held_out = stack.enter_context(new_table(folder / HELD_OUT_NAME, data.format, spoken=data.spoken))
            for encoded in self._encoded(data):
                if encoded.index in drawn:
                    self._held_out_row(encoded, held_out)
                    probe = probe or encoded.row
                else:
                    self._train_row(encoded, train)
            if self._rows.held_out is not None:
                for encoded in self._encoded(self._rows.held_out):
                    self._held_out_row(encoded, held_out)
                    probe = probe or encoded.row
        if data.format != "prompt":
            positions = self._rows.config.get("max_position_embeddings")
            check_counts(data.name, self._train, run.training, positions if isinstance(positions, int) else None)
        assert self._samples.first is not None
        return PreparedManifest(
            job_id=run.job_id,
            key=self._rows.key,
            facts=facts_of(data.format, self._train, self._held_out),
            parts=tuple(Part(rows=kept, weight=part.weight) for kept, part in zip(self._kept_of_file, data.parts, strict=True)),
            samples=self._samples.texts(self._tokenizer),
            probe=self._probe(probe or self._samples.first.row),
            seconds=round(time.monotonic() - started, 3),
            files=(),
        )

    def _encoded(self, data: DataSet) -> Any:
        return encode(data.rows(self._stop, "tokenising"), self._renderer, self._run.training.max_length)

    def _train_row(self, encoded: Encoded, table: Any) -> None:
        self._samples.look(encoded)
        if self._train.add(encoded, supervised=self._data.format != "prompt"):
            table.add(encoded)
            self._kept_of_file[bisect.bisect_right(self._ends, encoded.index)] += 1

    def _held_out_row(self, encoded: Encoded, table: Any) -> None:
        if self._held_out.add(encoded, supervised=self._data.format != "prompt"):
            table.add(encoded)

    def _probe(self, row: Row) -> Probe:
        question, prompt = self._renderer.probe(row)
        return Probe(question=question.strip()[:_SHOWN], prompt=prompt[:200_000], special_tokens=self._renderer.special_tokens)


def load_tokenizer(folder: Path) -> Any:
    """The model's fast tokenizer, with a padding token. Raises TrainerFailure (model_invalid)."""
    from transformers import AutoTokenizer

    make: Any = AutoTokenizer
    try:
        tokenizer = make.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except Exception as error:  # the tokenizers library raises plain Exception for a damaged file
        raise TrainerFailure(FailureCode.MODEL_INVALID, f"the base model's tokenizer does not load: {type(error).__name__}: {error}") from error
    if not tokenizer.is_fast or tokenizer.eos_token_id is None:
        lacks = "an end-of-text token" if tokenizer.is_fast else "a fast form (tokenizer.json)"
        raise TrainerFailure(FailureCode.MODEL_INVALID, f"the base model's tokenizer lacks {lacks}")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer
