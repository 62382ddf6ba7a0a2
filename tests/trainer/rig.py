"""What the trainer's tests share: a run folder made in a line, a run done in this process, and its progress lines."""

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

from jobspec.runfile import ExitCode
from tests.tiny_model import write_chat_rows
from trainer import host
from trainer.run import run_file
from trainer.stop import StopSignal

START = datetime(2026, 11, 1, tzinfo=UTC)
TRAINING = {"max_steps": 10, "global_batch_size": 8, "micro_batch_size": 4, "learning_rate": 0.002, "gradient_checkpointing": False}
ADAPTER = {"r": 4, "alpha": 8, "dropout": 0.1}


class ProcessEnded(BaseException):
    """Stands for a death in the middle: not an Exception, so that nothing below can answer to it."""


def make_run(folder: Path, model: Path | None = None, *, rows: int = 40, training: dict[str, Any] | None = None, **fields: Any) -> Path:
    """A run folder with a link to ``model`` and ``rows`` chat rows; returns the path of its run file."""
    folder.mkdir(parents=True, exist_ok=True)
    if model is not None:
        (folder / "model").symlink_to(model)
    if not (folder / "data/train.jsonl").exists():
        write_chat_rows(folder / "data/train.jsonl", n=rows)
    run = {"job_id": "job-1", "model_reference": "s3://bucket/tiny", "adapter": ADAPTER, "training": {**TRAINING, **(training or {})}, **fields}
    (folder / "run.json").write_text(json.dumps(run))
    return folder / "run.json"


def save_each_step() -> Callable[[], float]:
    """A clock on which an hour passes between any two looks: a save is due after each step."""
    hours = iter(range(10**9))
    return lambda: next(hours) * 3600.0


@dataclass
class Now:
    """A clock that does ``then`` when a line is about to be written and ``after`` lines of ``kind`` are in the file already."""

    folder: Path
    kind: str = ""
    after: int = 0
    then: Callable[[], None] = lambda: None
    ticks: int = 0

    def __call__(self) -> datetime:
        self.ticks += 1
        if self.kind and sum(line["kind"] == self.kind for line in lines(self.folder)) >= self.after:
            self.kind = ""
            self.then()
        return START + timedelta(seconds=self.ticks)


def do_run(path: Path, *, now: Now | None = None, clock: Callable[[], float] = lambda: 0.0, beside: bool = False) -> ExitCode:
    """``python -m trainer run`` in this process. The standing clock saves only at a stop and at the end.

    Unless saves are to be written ``beside`` the training, the host has no memory for a copy: each save is then whole before the next step.
    """
    with patch.object(host, "free_memory_bytes", lambda: 2**50 if beside else 0):
        return run_file(path, now or Now(path.parent), clock, StopSignal())


def stop_after(folder: Path, kind: str, after: int) -> Now:
    """The stop file appears with the line that follows the ``after``-th one of ``kind``."""
    return Now(folder, kind, after, (folder / "stop").touch)


def die_after(folder: Path, kind: str, after: int) -> Now:
    """The process ends in place of the line that follows the ``after``-th one of ``kind``."""

    def die() -> None:
        raise ProcessEnded

    return Now(folder, kind, after, die)


def lines(folder: Path, kind: str | None = None) -> list[dict[str, Any]]:
    """The progress lines, or those of one kind. One that is being written is none yet, and one that a death cut short is none, as for the agent."""
    path = folder / "progress.jsonl"
    found = []
    for line in path.read_bytes().split(b"\n")[:-1] if path.exists() else []:
        with suppress(ValueError):
            found.append(json.loads(line))
    return [line for line in found if kind in (None, line["kind"])]


def failure(folder: Path) -> tuple[str, str]:
    """Code and message of the last line, which must be FAILED."""
    last = lines(folder)[-1]
    assert last["kind"] == "failed", last
    return last["failure"], last["message"]


def results(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "final/results.json").read_text())
    return found


def curve(folder: Path) -> list[dict[str, Any]]:
    """The entries of a finished run's metrics.jsonl: its steps' and its evaluations'."""
    return [json.loads(line) for line in (folder / "final/metrics.jsonl").read_text().splitlines()]


def resumable_copy(source: Path, target: Path, newest: int) -> Path:
    """A copy of a finished run that ended after step ``newest``: no final folder, no later checkpoint. Returns its run file."""
    shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns("final", "progress.jsonl"))
    for folder in (target / "checkpoints").iterdir():
        if int(folder.name.removeprefix("step-")) > newest:
            shutil.rmtree(folder)
    return target / "run.json"
