"""A trainer that speaks the run-file protocol in plain Python: starts in a third of a second, steps as fast as it is told.

``python fake_trainer.py run RUN.json``. Its orders are the text of the first training row, itself JSON:
``{"text": "{\\"step_s\\": 0.01, \\"save_every\\": 5}"}``. The state of step n is a fixed function of n, so that a test
can tell a resume at the right step from one that is not.

Orders: ``step_s`` seconds a step; ``save_every`` steps; ``state_bytes`` size of a checkpoint; ``fail_at`` step (fails as
out of memory); ``die_at`` step (ends itself with SIGKILL, each time); ``deaf`` (heeds no stop); ``no_result``.
"""

import hashlib
import json
import os
import shutil
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

from jobspec.base import FileDigest
from jobspec.checkpoint import CheckpointManifest, Identity
from jobspec.keys import checkpoint_folder
from jobspec.marker import FailureCode
from jobspec.runfile import ExitCode, Progress, ProgressKind, RunFile, TrainerResults
from jobspec.wire import dump, load

ZEROS = "0" * 64


def state_of(step: int, size: int) -> bytes:
    return (f"state of step {step}\n".encode() * (size // 16 + 1))[:size]


class FakeTrainer:
    def __init__(self, run_path: Path) -> None:
        self.folder = run_path.parent
        self.run = load(RunFile, run_path.read_bytes())
        first = (self.folder / self.run.train_sources()[0].files[0]).read_text().splitlines()[0]
        self.orders: dict[str, Any] = {"step_s": 0.01, "save_every": 5, "state_bytes": 64, **json.loads(json.loads(first)["text"])}
        self.total = self.run.training.max_steps or 20
        self.stopped = False

    def tell(self, kind: ProgressKind, **fields: Any) -> None:
        with (self.folder / self.run.progress_file).open("ab") as file:
            file.write(Progress(kind=kind, at=datetime.now(UTC), total_steps=self.total, **fields).model_dump_json().encode() + b"\n")

    def on_term(self, _number: int, _frame: FrameType | None) -> None:
        self.stopped = True

    def newest(self) -> int:
        """The newest checkpoint whose state is whole; 0 where there is none."""
        steps = []
        for path in (self.folder / self.run.checkpoints_dir).glob("step-*"):
            manifest = load(CheckpointManifest, (path / "checkpoint.json").read_bytes())
            state = (path / "nested" / "state.bin").read_bytes()
            if hashlib.sha256(state).hexdigest() == manifest.files[0].sha256 and state == state_of(manifest.step, len(state)):
                steps.append(manifest.step)
        return max(steps, default=0)

    def save(self, step: int) -> None:
        started = time.monotonic()
        checkpoints = self.folder / self.run.checkpoints_dir
        aside, place = checkpoints / ".staging-x", checkpoints / checkpoint_folder(step)
        shutil.rmtree(aside, ignore_errors=True)
        (aside / "nested").mkdir(parents=True)
        state = state_of(step, int(self.orders["state_bytes"]))
        (aside / "nested" / "state.bin").write_bytes(state)
        manifest = CheckpointManifest(
            job_id=self.run.job_id,
            step=step,
            total_steps=self.total,
            created_at=datetime.now(UTC),
            identity=Identity(model_sha256=ZEROS, data_sha256=ZEROS, settings={}, libraries={}),
            files=(FileDigest(path="nested/state.bin", size=len(state), sha256=hashlib.sha256(state).hexdigest()),),
        )
        (aside / "checkpoint.json").write_bytes(dump(manifest))
        shutil.rmtree(place, ignore_errors=True)
        aside.rename(place)
        for old in sorted(checkpoints.glob("step-*"))[: -self.run.checkpoint.keep]:
            shutil.rmtree(old)
        self.tell(ProgressKind.CHECKPOINT, step=step, seconds=time.monotonic() - started, stall_s=0.25, next_s=90)

    def is_asked_to_stop(self) -> bool:
        return (self.stopped or (self.folder / self.run.stop_file).exists()) and not self.orders.get("deaf")

    def hold(self) -> None:
        """Take no step until the file ``go`` is there or a stop is asked for: what a test does meanwhile is in time on any machine."""
        while not (self.folder / "go").exists() and not self.is_asked_to_stop():
            time.sleep(0.01)

    def train(self) -> ExitCode:
        first = step = self.newest()
        if step:
            self.tell(ProgressKind.RESUMED, step=step)
        self.tell(ProgressKind.STARTED, step=step, seconds=0.1)
        while step < self.total:
            if step == self.orders.get("hold_at") and step > first:
                self.hold()
            if self.is_asked_to_stop():
                self.save(step)
                self.tell(ProgressKind.INTERRUPTED, step=step)
                return ExitCode.INTERRUPTED
            if self.orders.get("die_at") == step:
                os.kill(os.getpid(), signal.SIGKILL)
            if self.orders.get("fail_at") == step:
                self.tell(ProgressKind.FAILED, step=step, message="the GPU's memory is full", failure=FailureCode.OUT_OF_MEMORY)
                return ExitCode.FAILED
            time.sleep(self.orders["step_s"])
            step += 1
            stages_s = {"prepare": 0.02, "import": 0.03, "load": 0.1, "measure": 0.0, "first_step": self.orders["step_s"]} if step == first + 1 else {}
            self.tell(ProgressKind.STEP, step=step, loss=1 / step, tokens_per_s=100.0, stages_s=stages_s)
            if step % self.orders["save_every"] == 0:
                self.save(step)
        if not self.orders.get("no_result"):
            self.finish(first)
        self.tell(ProgressKind.COMPLETED, step=step)
        return ExitCode.COMPLETED

    def finish(self, first: int) -> None:
        aside = self.folder / "final-aside"
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        (aside / "adapter_model.safetensors").write_bytes(state_of(self.total, 256))
        results = TrainerResults(
            steps=self.total, first_step=first, train_loss=1 / self.total, tokens=100, data_sha256=ZEROS, model_sha256=ZEROS, weights_sha256=ZEROS
        )
        (aside / "results.json").write_bytes(dump(results))
        aside.rename(self.folder / self.run.final_dir)


def main() -> int:
    trainer = FakeTrainer(Path(sys.argv[2]))
    signal.signal(signal.SIGTERM, trainer.on_term)
    print("aws variables seen:", sorted(name for name in os.environ if name.startswith("AWS")), flush=True)
    return trainer.train()


if __name__ == "__main__":
    raise SystemExit(main())
