"""Every way of training against every way of dying: ``python -m bench.resume_proof --matrix``.

For each row a run is done to its end, then again with its process ended at random moments and started again, until so many
endings are counted: SIGKILL in one series, SIGTERM in another. A moment is drawn by what it falls into (loading and preparing,
a step, an evaluation, a save, the finish) and then at random within that. A run that reaches its end before it is ended is
checked, and the next begins. Equal means: the final weights, the whole curve (each loss, to the last digit), and the data
that every micro-batch was given.
"""

import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from bench import forked
from bench.resume_proof import make_run, progress, results

STEPS, EVALUATED = 30, 8
SIGNALS = (signal.SIGTERM, signal.SIGKILL)
POLL_S = 0.005
LONGEST_S = 1200


@dataclass(frozen=True, slots=True)
class Row:
    """One way of training. ``name`` for ``--rows``; ``settings`` over those of every run."""

    name: str
    method: str
    settings: dict[str, Any]


PACKED = {"training": {"packing": True}}
FULL = {"adapter": {"type": "full"}}
#: Two processes, which the one that is ended has started: their data is not recorded (it shows in losses and weights).
TWO = {"processes": 2}
ROWS = (
    Row("sft-lora", "sft", {}),
    Row("sft-lora-packed", "sft", PACKED),
    Row("dpo-lora", "dpo", {}),
    Row("sft-full", "sft", FULL),
    Row("sft-full-packed", "sft", {**PACKED, **FULL}),
    Row("dpo-full", "dpo", FULL),
    Row("sft-lora-packed-2", "sft", {**PACKED, **TWO}),
    Row("sft-full-packed-2", "sft", {**PACKED, **FULL, **TWO}),
)


@dataclass(frozen=True, slots=True)
class Times:
    """Of the uninterrupted run: until the first step could begin, a step, from the last one to the end. Seconds."""

    start: float
    step: float
    finish: float


@dataclass(slots=True)
class Series:
    """What came of one row under one signal. ``hit``: how many endings fell into what. ``lost``: steps taken again at most."""

    row: Row
    number: signal.Signals
    hit: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    runs: int = 0
    different: list[str] = field(default_factory=list)

    def line(self) -> str:
        where = ", ".join(f"{what} {count}" for what, count in sorted(self.hit.items()))
        verdict = f"DIFFERENT: {'; '.join(self.different)}" if self.different else "equal"
        return f"| {self.row.name} | {self.number.name} | {self.hit.total()} ({where}) | {self.runs} | {self.lost} | {verdict} |"


HEADER = "| row | signal | endings, by what they fell into | runs to the end | most steps lost | weights, losses, data |\n|---|---|---|---|---|---|"


class Rig:
    """Starts runs of one row in ``base``, watches and ends them."""

    def __init__(self, base: Path, row: Row, model: Path, data: Path, context: ForkServerContext, steps: int) -> None:
        self._base, self._model, self._data, self._context, self._steps = base, model, data, context, steps
        training = {"micro_batch_size": 4, "global_batch_size": 8, **row.settings.get("training", {})}
        self._settings = {"method": row.method, "evaluation": {"interval_steps": EVALUATED}, **row.settings, "training": training}
        self._made = 0

    def new(self) -> Path:
        self._made += 1
        return make_run(self._base / f"run-{self._made}", self._model, self._data, self._steps, self._settings)

    def start(self, folder: Path) -> BaseProcess:
        process = self._context.Process(target=forked.run, args=(str(folder),))
        process.start()
        return process

    def finish(self, folder: Path) -> None:
        """To the end, uninterrupted; raises SystemExit with the end of its log otherwise."""
        process = self.start(folder)
        process.join(LONGEST_S)
        if process.exitcode != 0:
            sys.exit(f"the trainer exited {process.exitcode} in {folder}:\n{(folder / 'trainer.log').read_text()[-3000:]}")

    def timed(self, folder: Path) -> Times:
        """Run to the end and measure it."""
        began, process = time.monotonic(), self.start(folder)
        until = dict.fromkeys(("started", "step", "completed"), 0.0)
        while process.is_alive():
            for kind in until:
                done = [line for line in progress(folder) if line["kind"] == kind]
                if done and (kind != "step" or done[-1]["step"] == self._steps):
                    until[kind] = until[kind] or time.monotonic() - began
            time.sleep(POLL_S)
        if process.exitcode != 0:
            sys.exit(f"the trainer exited {process.exitcode}:\n{(folder / 'trainer.log').read_text()[-3000:]}")
        return Times(until["started"], (until["step"] - until["started"]) / self._steps, time.monotonic() - began - until["step"])

    def wait(self, folder: Path, process: BaseProcess, moment: str, times: Times, draw: random.Random) -> bool:
        """Until the drawn moment; False where the run came to its end before."""
        steps = _steps(folder)
        match moment:
            case "loading":
                return _sleep(process, draw.uniform(0, times.start))
            case "step":
                wanted = steps + draw.randint(1, 5)
                return _until(process, lambda: _steps(folder) >= wanted) and _sleep(process, draw.uniform(0, times.step))
            case "evaluation":
                # Measured before its step is told: it runs when the step before it was told a step ago.
                wanted = (steps // EVALUATED + 1) * EVALUATED - 1
                return _until(process, lambda: _steps(folder) >= wanted) and _sleep(process, times.step * draw.uniform(1, 2))
            case "save":
                left = _staged(folder)
                return _until(process, lambda: _staged(folder) - left) and _sleep(process, draw.uniform(0, 0.03))
            case _:
                return _until(process, lambda: _steps(folder) >= self._steps) and _sleep(process, draw.uniform(0, times.finish))


def _staged(folder: Path) -> set[str]:
    """Checkpoints in the making, and what is left of those whose maker died."""
    return {path.name for path in (folder / "checkpoints").glob(".staging-*")}


MOMENTS = ("loading", "step", "step", "step", "evaluation", "save", "save", "finish")


def _steps(folder: Path) -> int:
    return max((int(line["step"]) for line in progress(folder) if line["kind"] == "step"), default=0)


def _until(process: BaseProcess, what: Any) -> bool:
    began = time.monotonic()
    while not what():
        if not process.is_alive():
            return False
        if time.monotonic() - began > LONGEST_S:
            sys.exit("the moment never came")
        time.sleep(POLL_S)
    return process.is_alive()


def _sleep(process: BaseProcess, seconds: float) -> bool:
    process.join(seconds)
    return process.is_alive()


def series(rig: Rig, reference: Path, times: Times, found: Series, endings: int, draw: random.Random) -> Series:
    """End and start again until ``endings`` are counted; every run that came to its end is compared with ``reference``."""
    folder = rig.new()
    while found.hit.total() < endings:
        moment, left, process = draw.choice(MOMENTS), _staged(folder), rig.start(folder)
        if rig.wait(folder, process, moment, times, draw):
            assert process.pid is not None
            writing = _staged(folder) - left
            process_ended(process, found.number)
            if process.exitcode != 0:  # else it was past its last look for a stop
                found.hit["save" if writing else moment if moment != "save" else "step"] += 1
        if process.exitcode not in (0, 75, -signal.SIGKILL, -signal.SIGTERM):
            sys.exit(f"the trainer exited {process.exitcode} in {folder}:\n{(folder / 'trainer.log').read_text()[-3000:]}")
        if process.exitcode == 0:
            compare(found, folder, reference)
            folder = rig.new()
    rig.finish(folder)
    compare(found, folder, reference)
    return found


def process_ended(process: BaseProcess, number: signal.Signals) -> None:
    """Send the signal and wait for the end."""
    if number == signal.SIGKILL:
        process.kill()
    else:
        process.terminate()
    process.join(LONGEST_S)


def _lost(folder: Path) -> int:
    """The most steps that any resume so far took again."""
    lost, last = 0, 0
    for line in progress(folder):
        if line["kind"] == "step":
            last = int(line["step"])
        elif line["kind"] in ("resumed", "started") and last:
            lost = max(lost, last - int(line.get("step", 0)))
            last = 0
    return lost


def compare(found: Series, folder: Path, reference: Path) -> None:
    found.runs += 1
    found.lost = max(found.lost, _lost(folder))
    if results(folder)["weights_sha256"] != results(reference)["weights_sha256"]:
        found.different.append(f"{folder.name}: weights")
    if (folder / "final/metrics.jsonl").read_bytes() != (reference / "final/metrics.jsonl").read_bytes():
        found.different.append(f"{folder.name}: losses")
    if forked.order(folder) != forked.order(reference):
        found.different.append(f"{folder.name}: data")


def matrix(rows: list[Row], endings: int, seed: int, steps: int = STEPS, signals: tuple[signal.Signals, ...] = SIGNALS) -> Iterator[Series]:
    """A series for each row and signal, on the tiny model."""
    from tests.tiny_model import make_tiny_model, write_rows_for

    context = forked.server()
    warm = context.Process(target=int)  # the server's imports are no run's loading
    warm.start()
    warm.join()
    with tempfile.TemporaryDirectory(prefix="resume-matrix-") as name:
        base = Path(name)
        model = make_tiny_model(base / "tiny")
        for row in rows:
            draw = random.Random(f"{seed} {row.name}")  # noqa: S311 - a moment that can be drawn again, no secret
            data = write_rows_for(row.method, base / f"{row.name}.jsonl", n=100)
            rig = Rig(base / row.name, row, model, data, context, steps)
            reference = rig.new()
            times = rig.timed(reference)
            for number in signals:
                yield series(rig, reference, times, Series(row, number), endings, draw)
