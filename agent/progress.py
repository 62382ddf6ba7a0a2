"""Follows ``progress.jsonl`` as the trainer appends to it. A line that is no Progress document is passed over, and said."""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from jobspec.marker import Failure, FailureCode
from jobspec.runfile import Progress, ProgressKind
from jobspec.wire import UnreadableDocument, load

#: A line holds one message of 2000 characters at most; anything much longer was not written by our trainer.
MAX_LINE_BYTES = 64 * 1024
READ_BYTES = 4 * 1024 * 1024

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Told:
    """What the lines said so far. ``first_step``: where this instance began; ``save_s``: the longest save;
    ``stall_s``, ``write_s``, ``next_save_s``: of the last one."""

    step: int = 0
    total_steps: int | None = None
    first_step: int | None = None
    loss: float | None = None
    tokens_per_s: float | None = None
    save_s: float = 0.0
    stall_s: float | None = None
    write_s: float = 0.0
    next_save_s: float = 0.0
    load_s: float | None = None
    #: Of the trainer that took the first step: when its model was loaded, and its own stages.
    started_at: datetime | None = None
    stages_s: dict[str, float] = field(default_factory=dict)
    message: str = ""
    failure: Failure | None = None


def lines_of(path: Path) -> Iterator[list[Progress]]:
    """Each ``next`` gives what was appended since the one before; no end. A reader of its own for whoever follows the file."""
    offset, rest = 0, b""
    while True:
        try:
            with path.open("rb") as file:
                file.seek(offset)
                new = file.read(READ_BYTES)
        except OSError:
            new = b""
        offset += len(new)
        *lines, rest = (rest + new).split(b"\n")
        rest = rest[: MAX_LINE_BYTES + 1]
        yield list(_documents(line for line in lines if line.strip() and len(line) <= MAX_LINE_BYTES))


def _documents(lines: Iterable[bytes]) -> Iterator[Progress]:
    for line in lines:
        try:
            yield load(Progress, line)
        except UnreadableDocument as error:
            log.warning("progress line passed over: %s", error)


class ProgressReader:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.told = Told()
        self._lines = lines_of(path)

    def read(self) -> Told:
        """Take in what was appended since the last call."""
        for line in next(self._lines):
            self._take(line)
        return self.told

    def _take(self, line: Progress) -> None:
        told = self.told
        told.total_steps = line.total_steps or told.total_steps
        told.message = line.message or told.message
        match line.kind:
            case ProgressKind.STARTED:
                told.load_s = line.seconds if told.load_s is None else told.load_s
                told.started_at = told.started_at if told.stages_s else line.at
            case ProgressKind.RESUMED:
                told.step = line.step
                told.first_step = line.step if told.first_step is None else told.first_step
            case ProgressKind.STEP:
                # Without a resume before the first step, the run began at 0.
                told.first_step = 0 if told.first_step is None else told.first_step
                told.stages_s = told.stages_s or line.stages_s
                told.step = line.step
                told.loss = told.loss if line.loss is None else line.loss
                told.tokens_per_s = line.tokens_per_s if line.tokens_per_s is not None and line.tokens_per_s >= 0 else told.tokens_per_s
            case ProgressKind.CHECKPOINT | ProgressKind.INTERRUPTED:
                told.step = max(told.step, line.step)
                told.save_s = max(told.save_s, line.seconds or 0.0)
                if line.stall_s is not None and line.next_s is not None:
                    told.stall_s, told.write_s, told.next_save_s = max(line.stall_s, 0.0), max(line.seconds or 0.0, 0.0), max(line.next_s, 0.0)
            case ProgressKind.FAILED:
                told.failure = Failure(code=line.failure or FailureCode.TRAINER_ERROR, message=line.message or "the trainer gave no reason")
            case ProgressKind.DATA | ProgressKind.EVAL | ProgressKind.SAMPLE | ProgressKind.WARNING | ProgressKind.COMPLETED:
                pass
