"""Data sets: every row of every file held to one format, every problem told with its file and line.

No torch, no tokenizer: bad data is found in a second, before the GPU does any work. Rows are read again where they are
needed instead of being kept, so that a million of them cost no memory.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobspec.data import FORMATS_OF, Columns, Format
from jobspec.formats import allowed, format_of, is_spoken, problem_of, standard
from jobspec.marker import FailureCode
from jobspec.runfile import RunFile, RunSource
from trainer.failures import TrainerFailure
from trainer.files import Unreadable, numbered_rows
from trainer.stop import StopSignal

#: Problems shown at once: enough to see a pattern, few enough to read.
MAX_PROBLEMS = 5
_STOP_ROWS = 1000


@dataclass(frozen=True, slots=True)
class Row:
    """One checked row with our names for its columns, and where it stands: ``data/train.jsonl: line 7``."""

    where: str
    value: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Part:
    """One file of a data set. ``name`` is how messages call it."""

    path: Path
    name: str
    rows: int
    weight: float


@dataclass(frozen=True, slots=True)
class DataSet:
    """Checked files, read as one. ``spoken``: prompts and answers are lists of messages rather than texts."""

    name: str
    format: Format
    spoken: bool
    columns: Columns
    parts: tuple[Part, ...]

    def __len__(self) -> int:
        return sum(part.rows for part in self.parts)

    def rows(self, stop: StopSignal, doing: str) -> Iterator[Row]:
        """Every row in the order of files and lines; ``doing`` says what for, should a stop be asked for."""
        for part in self.parts:
            for at, found in enumerate(numbered_rows(part.path, part.name)):
                if at % _STOP_ROWS == 0:
                    stop.check(f"{doing} {part.name}")
                if isinstance(found.value, Unreadable):
                    raise TrainerFailure(FailureCode.DATA_INVALID, f"{part.name}: {found.place}: {found.value.why}; the file changed while it was read.")
                yield Row(f"{part.name}: {found.place}", standard(found.value, self.columns))


def training_set(run: RunFile, root: Path, stop: StopSignal) -> DataSet:
    """The training rows, all checked. Raises TrainerFailure (data_missing, data_empty, data_invalid)."""
    return read_set(run.train_sources(), run, root, None if run.data_format == "auto" else run.data_format, stop)


def held_out_set(run: RunFile, root: Path, train: DataSet, stop: StopSignal) -> DataSet | None:
    """The rows of ``eval_file`` or ``eval_from``, held to the training rows' format; None where the manifest names none."""
    sources = run.eval_sources()
    return read_set(sources, run, root, train.format, stop) if sources else None


def read_set(sources: tuple[RunSource, ...], run: RunFile, root: Path, wanted: Format | None, stop: StopSignal) -> DataSet:
    """Every row of the sources read once and checked. Raises TrainerFailure with located problems."""
    if wanted is not None and wanted not in FORMATS_OF[run.method]:
        fitting = " or ".join(FORMATS_OF[run.method])
        raise TrainerFailure(FailureCode.DATA_INVALID, f"method {run.method} learns from {fitting} rows, but data.format is {wanted}.")
    checker = _Checker(run.method, run.columns, wanted)
    parts = []
    for source in sources:
        for file in source.files:
            name = _name_of(source, file)
            rows = checker.check(root / file, name, stop)
            parts.append(Part(root / file, name, rows, source.weight))
    assert checker.format is not None, "no file is without rows"
    name = parts[0].name if len(parts) == 1 else f"{parts[0].name} and {len(parts) - 1} more"
    return DataSet(name, checker.format, bool(checker.spoken), run.columns, tuple(parts))


def _name_of(source: RunSource, file: str) -> str:
    if not source.called:
        return file
    return source.called if len(source.files) == 1 else f"{source.called} ({file.rsplit('/', 1)[-1]})"


class _Checker:
    """Holds all rows of all files to the format of the first one."""

    def __init__(self, method: str, columns: Columns, wanted: Format | None) -> None:
        self._method, self._columns = method, columns
        self.format = wanted
        self.spoken: bool | None = None

    def check(self, path: Path, name: str, stop: StopSignal) -> int:
        """The number of rows in the file. Raises TrainerFailure."""
        rows, problems = 0, []
        for at, found in enumerate(numbered_rows(path, name)):
            if at % _STOP_ROWS == 0:
                stop.check(f"reading {name}")
            rows += 1
            problem = found.value.why if isinstance(found.value, Unreadable) else self._problem(found.value, f"{name}: {found.place}")
            if problem:
                problems.append(f"{found.place}: {problem}")
                if len(problems) >= MAX_PROBLEMS:
                    break
        if problems:
            more = " (and maybe more)" if len(problems) >= MAX_PROBLEMS else ""
            raise TrainerFailure(FailureCode.DATA_INVALID, f"{name}: {'; '.join(problems)}{more}. Allowed: {self._allowed()}.")
        if not rows:
            raise TrainerFailure(FailureCode.DATA_EMPTY, f"{name} has no rows: write one JSON object a line. Allowed: {self._allowed()}.")
        return rows

    def _problem(self, value: dict[str, Any], where: str) -> str | None:
        row = standard(value, self._columns)
        if self.format is None:
            try:
                self.format = format_of(row, self._method)
            except ValueError as why:
                raise TrainerFailure(FailureCode.DATA_INVALID, f"{where} {why}. Allowed: {self._allowed()}.") from None
        if problem := problem_of(row, self.format):
            return problem
        spoken = is_spoken(row, self.format)
        self.spoken = spoken if self.spoken is None else self.spoken
        if spoken != self.spoken:
            return f"{'messages' if spoken else 'texts'} where the rows before hold {'texts' if spoken else 'messages'}"
        return None

    def _allowed(self) -> str:
        return allowed((self.format,) if self.format else FORMATS_OF[self._method])
