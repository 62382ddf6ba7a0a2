"""From the run file to rows ready for the trainer: read, held out, tokenised, checked, reported. No model is loaded."""

import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobspec.marker import FailureCode
from jobspec.runfile import ProgressKind, RunFile
from trainer.base_model import check_base_model
from trainer.failures import TrainerFailure
from trainer.progress import ProgressLog
from trainer.rows import DataFile, Row, read_rows
from trainer.stop import StopSignal
from trainer.tokens import Tokenised, check_tokenised, describe, tokenise


@dataclass(frozen=True, slots=True)
class Rows:
    """Checked rows before any tokenizer is loaded. ``probe`` is the row whose answer is shown before and after."""

    data: DataFile
    train: list[Row]
    eval_data: DataFile
    held_out: list[Row]
    config: dict[str, Any]

    @property
    def probe(self) -> Row:
        return (self.held_out or self.train)[0]


@dataclass(frozen=True, slots=True)
class Prepared:
    """Everything that training needs of the data."""

    rows: Rows
    tokenizer: Any
    train: Tokenised
    held_out: Tokenised | None
    report: str


def read_all(run: RunFile, root: Path, stop: StopSignal) -> Rows:
    """Rows of both files and the model's configuration, all checked without torch. Raises TrainerFailure."""
    data = read_rows(root / run.train_file, run.train_file, run.data_format, stop)
    if run.eval_file:
        eval_data = read_rows(root / run.eval_file, run.eval_file, data.format, stop)
        train, held_out = data.rows, eval_data.rows
    else:
        eval_data = data
        train, held_out = split(data.rows, run.eval_fraction, run.training.seed)
    return Rows(data, train, eval_data, held_out, check_base_model(root / run.model_dir, run.model_reference))


def split(rows: list[Row], fraction: float, seed: int) -> tuple[list[Row], list[Row]]:
    """Training and held-out rows: a seeded draw of ``fraction`` of them, one at least where there are two rows or more."""
    if fraction == 0 or len(rows) < 2:
        return rows, []
    count = min(max(1, round(len(rows) * fraction)), len(rows) - 1)
    drawn = set(random.Random(seed).sample(range(len(rows)), count))  # noqa: S311 - a reproducible draw, not a secret
    return [row for at, row in enumerate(rows) if at not in drawn], [row for at, row in enumerate(rows) if at in drawn]


def prepare(run: RunFile, root: Path, rows: Rows, log: ProgressLog, stop: StopSignal) -> Prepared:
    """Tokenise, check and report; writes the DATA progress line. Raises TrainerFailure."""
    started = time.monotonic()
    tokenizer = load_tokenizer(root / run.model_dir)
    positions = rows.config.get("max_position_embeddings")
    train = tokenise(rows.data, rows.train, tokenizer, run.training, stop)
    check_tokenised(rows.data, train, run.training, positions if isinstance(positions, int) else None)
    held_out = tokenise(rows.eval_data, rows.held_out, tokenizer, run.training, stop) if rows.held_out else None
    if held_out is not None and not held_out.input_ids:
        held_out = None
    report = describe(rows.data.format, train, held_out)
    shown = f"{report}; the first row is trained to say {_first_supervised(tokenizer, train)!r}"
    log.write(ProgressKind.DATA, shown, seconds=round(time.monotonic() - started, 3))
    return Prepared(rows, tokenizer, train, held_out, report)


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


def _first_supervised(tokenizer: Any, tokenised: Tokenised) -> str:
    """The tokens that carry loss in the first row, decoded: shows at a glance whether the mask is right."""
    said = [token for token, label in zip(tokenised.input_ids[0], tokenised.labels[0], strict=True) if label == token]
    return str(tokenizer.decode(said))[:200]
