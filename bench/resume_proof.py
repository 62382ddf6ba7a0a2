"""Proof that an interrupted run ends with the same bits: sha256 of the final weights, interrupted against uninterrupted.

``python -m bench.resume_proof`` trains a tiny model once to its end, then again and again with the process ended in the
middle - by SIGTERM (a warned interruption) and by SIGKILL (a silent death) at several steps - and started again. Every
start is a real ``python -m trainer run`` in a process of its own. Exits 1 where a digest differs.
``--matrix`` does so for every way of training, at random moments (bench/matrix.py).
``--model DIR --data FILE`` takes a real model and data set, ``--method`` and ``--full`` what is trained, ``--steps N`` the
length, ``--at`` the steps to end it at.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
POLL_S = 0.005
LONGEST_RUN_S = 3600


@dataclass(frozen=True, slots=True)
class Ending:
    """How one run was ended, and what came of it. ``lost`` counts steps that were taken twice."""

    how: str
    ended_at: int
    resumed_from: int
    lost: int
    weights_sha256: str


def start(folder: Path) -> subprocess.Popen[bytes]:
    """The trainer on ``folder/run.json`` in a process of its own; its words go to ``folder/trainer.log``."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "functions")])
    with (folder / "trainer.log").open("ab") as log:
        command = [sys.executable, "-m", "trainer", "run", str(folder / "run.json")]
        return subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": path}, stdout=log, stderr=log)  # noqa: S603 - our own interpreter, a fixed argument list


def progress(folder: Path) -> list[dict[str, Any]]:
    """Every whole line of the progress file."""
    path = folder / "progress.jsonl"
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in lines]


def run_to_end(folder: Path, expected: int) -> None:
    """Run the trainer to its own end; raises SystemExit with the end of its log for any other exit code."""
    code = start(folder).wait(LONGEST_RUN_S)
    if code != expected:
        sys.exit(f"the trainer exited {code}, not {expected}:\n{(folder / 'trainer.log').read_text()[-3000:]}")


def run_and_end(folder: Path, at_step: int, number: signal.Signals) -> int:
    """Start, send the signal once ``at_step`` is reported, wait. Returns the last step reported."""
    process = start(folder)
    began = time.monotonic()
    while not any(line["kind"] == "step" and line["step"] >= at_step for line in progress(folder)):
        if process.poll() is not None or time.monotonic() - began > LONGEST_RUN_S:
            process.kill()
            sys.exit(f"the trainer ended before step {at_step}:\n{(folder / 'trainer.log').read_text()[-3000:]}")
        time.sleep(POLL_S)
    process.send_signal(number)
    process.wait(LONGEST_RUN_S)
    return max(int(line["step"]) for line in progress(folder) if line["kind"] == "step")


def results(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "final" / "results.json").read_text())
    return found


def make_run(folder: Path, model: Path, data: Path, steps: int, settings: dict[str, Any]) -> Path:
    """A run folder whose model and data are links, with a save every second so that a silent death has something to resume."""
    (folder / "data").mkdir(parents=True)
    (folder / "model").symlink_to(model.resolve())
    (folder / "data" / "train.jsonl").symlink_to(data.resolve())
    run = {
        "job_id": "resume-proof",
        "model_reference": f"local/{model.name}",
        "adapter": {"r": 8, "alpha": 16, "dropout": 0.1},
        "training": {"max_steps": steps, "learning_rate": 0.002, "gradient_checkpointing": False, **settings["training"]},
        "checkpoint": {"interval": 1},
        **{key: value for key, value in settings.items() if key != "training"},
    }
    (folder / "run.json").write_text(json.dumps(run))
    return folder


def endings(base: Path, model: Path, data: Path, steps: int, at: list[int], settings: dict[str, Any]) -> Iterator[Ending]:
    """One ending for each signal and step, each in a fresh folder."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for step in at:
            folder = make_run(base / f"{number.name}-{step}", model, data, steps, settings)
            ended_at = run_and_end(folder, step, number)
            run_to_end(folder, 0)
            resumed = [line.get("step", 0) for line in progress(folder) if line["kind"] == "resumed"]
            resumed_from = resumed[-1] if resumed else 0
            yield Ending(number.name, ended_at, resumed_from, ended_at - resumed_from, results(folder)["weights_sha256"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="folder of a real base model (default: a tiny one made for the purpose)")
    parser.add_argument("--data", type=Path, help="JSONL data set for it")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--at", type=int, nargs="+", default=[5, 20], help="steps to end the run at")
    parser.add_argument("--micro-batch", type=int, default=4)
    parser.add_argument("--global-batch", type=int, default=8)
    parser.add_argument("--method", choices=("sft", "dpo", "kto", "orpo", "reward", "grpo"), default="sft")
    parser.add_argument("--full", action="store_true", help="train every weight, without an adapter")
    parser.add_argument("--threads", type=int, help="CPU threads (default: 1 for the tiny model, else torch's own choice); sums depend on their number")
    parser.add_argument("--matrix", action="store_true", help="every way of training against every way of dying, on the tiny model")
    parser.add_argument("--rows", nargs="+", help="of the matrix only these (bench/matrix.py, ROWS)")
    parser.add_argument("--endings", type=int, default=20, help="of the matrix: moments at which each row is ended by each signal")
    parser.add_argument("--seed", type=int, default=1, help="of the matrix: what the moments are drawn from")
    asked = parser.parse_args()
    if asked.matrix:
        return _matrix(asked.rows, asked.endings, asked.seed)
    if (asked.model is None) != (asked.data is None):
        parser.error("--model and --data go together")
    if threads := asked.threads or (1 if asked.model is None else None):
        os.environ["OMP_NUM_THREADS"] = str(threads)
    settings: dict[str, Any] = {"training": {"micro_batch_size": asked.micro_batch, "global_batch_size": asked.global_batch}, "method": asked.method}
    if asked.full:
        settings["adapter"] = {"type": "full"}
    if asked.method == "grpo":
        settings["grpo"] = {"rewards": [{"name": "length", "max_characters": 12}], "num_generations": 4, "max_completion_length": 8}
    with tempfile.TemporaryDirectory(prefix="resume-proof-") as name:
        base = Path(name)
        model, data = asked.model, asked.data
        if model is None:
            sys.path.insert(0, str(ROOT))
            from tests.tiny_model import make_tiny_model, write_rows_for

            model, data = make_tiny_model(base / "tiny"), write_rows_for(asked.method, base / "rows.jsonl", n=100)
        whole = make_run(base / "whole", model, data, asked.steps, settings)
        run_to_end(whole, 0)
        reference = results(whole)["weights_sha256"]
        return _report(reference, asked.steps, endings(base, model, data, asked.steps, asked.at, settings))


def _matrix(names: list[str] | None, endings: int, seed: int) -> int:
    os.environ["OMP_NUM_THREADS"] = "1"
    sys.path.insert(0, str(ROOT))
    from bench.matrix import HEADER, ROWS, matrix

    sys.stdout.write(f"seed {seed}\n\n{HEADER}\n")
    different = 0
    for found in matrix([row for row in ROWS if names is None or row.name in names], endings, seed):
        different += len(found.different)
        sys.stdout.write(found.line() + "\n")
        sys.stdout.flush()
    return 1 if different else 0


def _report(reference: str, steps: int, found: Iterator[Ending]) -> int:
    sys.stdout.write(f"uninterrupted, {steps} steps: {reference}\n")
    differing = 0
    for ending in found:
        same = ending.weights_sha256 == reference
        differing += not same
        verdict = "equal" if same else f"DIFFERENT {ending.weights_sha256}"
        sys.stdout.write(f"{ending.how:8} after step {ending.ended_at:4}, resumed from {ending.resumed_from:4}, steps lost {ending.lost:3}: {verdict}\n")
        sys.stdout.flush()
    sys.stdout.write("every interrupted run ended with the same bits\n" if not differing else f"{differing} runs ended with other bits\n")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
