"""What saves cost: ``python -m bench.saves``. Side by side: written beside the training, written while it waits, and none at all.

Full training and LoRA of a Llama made from a config (random weights), a save each second so that many are seen, each variant in a
process of its own; then the checkpoint's way to the disk and to S3 (``bench.lean_s3`` on loopback, so that what is measured is the agent's own
part: reading, sha256, the client). The last columns are what ``checkpoint.interval: auto`` makes of it: the interval and the share of the time
that saves then take, for a spot instance that has just started.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from bench import loopback, machine
from jobspec.checkpoint import CheckpointManifest
from jobspec.saves import Costs, interval
from jobspec.wire import load

ROOT = Path(__file__).resolve().parents[1]
VARIANTS = ("beside", "waiting", "none")
MB = 1e6


@dataclass(frozen=True, slots=True)
class Run:
    """One training run, by its progress lines. Seconds and bytes; ``stalls`` and ``writes`` of each save but the last, which ends the run."""

    steps_s: float
    stalls: list[float]
    writes: list[float]
    size: int

    @property
    def stall_s(self) -> float:
        return statistics.median(self.stalls)

    @property
    def write_s(self) -> float:
        return statistics.median(self.writes)


def train(folder: Path, variant: str) -> Run:
    """A run in a process of its own. Raises SystemExit with the end of its log where it fails."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "functions")])
    with (folder / "trainer.log").open("wb") as log:
        command = [sys.executable, "-m", "bench.saves", "--one", variant, str(folder / "run.json")]
        code = subprocess.call(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": path}, stdout=log, stderr=log)  # noqa: S603 - our own interpreter, a fixed argument list
    if code:
        sys.exit(f"the trainer exited {code}:\n{(folder / 'trainer.log').read_text()[-3000:]}")
    return read(folder)


def read(folder: Path) -> Run:
    """What the progress lines of a run that is over say."""
    lines = [json.loads(line) for line in (folder / "progress.jsonl").read_text().splitlines()]
    at = [datetime.fromisoformat(line["at"]).timestamp() for line in lines if line["kind"] == "step"]
    saves = [line for line in lines if line["kind"] == "checkpoint"]
    newest = max((folder / "checkpoints").glob("step-*"))
    size = sum(file.size for file in load(CheckpointManifest, (newest / "checkpoint.json").read_bytes()).files)
    counted = saves[:-1] or saves
    return Run(at[-1] - at[0], [line["stall_s"] for line in counted], [line["seconds"] for line in counted], size)


def one(variant: str, run_file: str) -> int:
    """The trainer itself; for ``waiting`` on a host that has no memory for a copy."""
    from trainer import __main__ as trainer
    from trainer import host

    if variant == "waiting":
        host.free_memory_bytes = lambda: 0  # as on such a host
    return trainer.main(["run", run_file])


def upload_s(folder: Path) -> float:
    """Seconds that the agent's own upload of the newest checkpoint takes to an S3 on loopback that only moves bytes."""
    from agent.store import Store, connect

    os.environ.update(loopback.CREDENTIALS)
    with loopback.s3_server(folder, lean=True) as endpoint:
        os.environ["AWS_ENDPOINT_URL"] = endpoint
        s3 = connect(endpoint)
        s3.create_bucket(Bucket="bench-saves")
        newest = max((folder / "checkpoints").glob("step-*"))
        began = time.monotonic()
        for file in load(CheckpointManifest, (newest / "checkpoint.json").read_bytes()).files:
            Store(s3).upload("bench-saves", f"runs/j/w/checkpoints/{file.path}", newest / file.path, file, lambda: None)
        return time.monotonic() - began


def prepare(base: Path, name: str, asked: argparse.Namespace) -> dict[str, Path]:
    """A run folder for each variant, all with the same model and rows."""
    from bench.packing import make_model, write_rows

    model, rows = base / "model", base / "rows.jsonl"
    if not model.exists():
        make_model(model, asked.hidden, asked.layers)
        write_rows(rows, 100, 60)
    folders = {}
    for variant in VARIANTS:
        folder = folders[variant] = base / f"{name}-{variant}"
        (folder / "data").mkdir(parents=True)
        (folder / "model").symlink_to(model)
        (folder / "data/train.jsonl").symlink_to(rows)
        training = {"max_steps": asked.steps, "micro_batch_size": 2, "global_batch_size": 2, "max_length": 128, "gradient_checkpointing": False}
        run: dict[str, Any] = {
            "job_id": "bench-saves",
            "model_reference": "local/bench",
            "adapter": {"type": "full"} if name == "full" else {"r": 64, "alpha": 64},
            "training": training,
            "checkpoint": {"interval": 10**6 if variant == "none" else 1},
        }
        (folder / "run.json").write_text(json.dumps(run))
    return folders


HEADER = (
    "| trained | checkpoint | saves | training waits for a save, median (longest) | on the disk after | to the disk | to S3 on loopback | "
    "auto: every, share of the time |\n|---|---|---|---|---|---|---|---|"
)


def row(name: str, variant: str, run: Run, upload: float) -> str:
    """A line of the table."""
    costs = Costs(run.stall_s, run.write_s, upload)
    chosen = interval(costs, "spot", 0.0).seconds
    writing = run.write_s - (run.stall_s if variant == "beside" else 0.0)
    return (
        f"| {name}, {variant} | {run.size / MB:.0f} MB | {len(run.stalls)} | {run.stall_s:.3f} s ({max(run.stalls):.3f}) | {run.write_s:.2f} s "
        f"| {run.size / MB / writing:.0f} MB/s | {run.size / MB / upload:.0f} MB/s | {chosen:.0f} s, {run.stall_s / chosen:.2%} |"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--one", nargs=2, metavar=("VARIANT", "RUN.json"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        return one(*asked.one)
    sys.path.insert(0, str(ROOT))
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.stdout.write(machine.told("torch", "transformers", "trl", "peft") + "\n" + HEADER + "\n")
    with tempfile.TemporaryDirectory(prefix="bench-saves-") as folder:
        for name in ("full", "lora"):
            folders = prepare(Path(folder), name, asked)
            runs = {variant: train(folders[variant], variant) for variant in VARIANTS}
            upload = upload_s(folders["beside"])
            for variant in ("beside", "waiting"):
                sys.stdout.write(row(name, variant, runs[variant], upload) + "\n")
            told = ", ".join(f"{variant} {runs[variant].steps_s:.1f} s" for variant in VARIANTS)
            sys.stdout.write(f"| {name}: {asked.steps} steps took | {told} | | | | | | |\n")
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
