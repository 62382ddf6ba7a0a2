"""How soon a function answers, beside the least that could: ``python -m bench.lambda_start [--starts 7] [--handlers submit ...]``.

Each handler of template.yaml, from a bundle as ``sam build`` makes it, in a fresh process of .venv-lambda through the real runtime client.
Beside it in turn: the same as it is deployed, after ``tools/bundle.py``; and the floor, a handler that imports boto3, makes its
clients as it starts and makes the very calls that the other made. AWS answers from a tape, at once. Prints medians with their range,
ratios, peak memory and the slowest imports. Refuses to report on a run with an error or with a call that was not taped.
"""

import argparse
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from moto import mock_aws
from rich.console import Console
from rich.table import Table

from bench.lambda_start.layout import ROOT, Layout, lay_out
from bench.lambda_start.process import Run, run
from bench.lambda_start.story import CREDENTIALS, Story
from bench.lambda_start.tape import Tape

#: What a memory setting of 256 MB leaves a function.
MEMORY_GOAL_MIB, COLD_GOAL, WARM_GOAL, BUNDLE_GOAL_MB = 256, 1.3, 1.5, 15
VARIANTS = ("floor", "as built", "as deployed")
_IMPORT = re.compile(r"import time:\s+(\d+) \|\s+(\d+) \| +([\w.]+)")


@dataclass
class Row:
    """One handler's runs, by variant."""

    name: str
    what: str
    calls: int = 0
    runs: dict[str, list[Run]] = field(default_factory=lambda: {variant: [] for variant in VARIANTS})

    def cold(self, variant: str) -> list[float]:
        return [one.cold_s for one in self.runs[variant]]

    def cpu(self, variant: str) -> list[float]:
        return [one.cold_cpu_s for one in self.runs[variant]]

    def warm(self, variant: str) -> list[float]:
        return [second for one in self.runs[variant] for second in one.warm_s]


def told(seconds: Iterable[float]) -> str:
    """Median and range in milliseconds."""
    found = sorted(1000 * value for value in seconds)
    return f"{statistics.median(found):.0f} ({found[0]:.0f}-{found[-1]:.0f})"


def ratio(row: Row, variant: str, of: str) -> float:
    """Median against the floor's, of ``cold``, ``cpu`` or ``warm``."""
    return float(statistics.median(getattr(row, of)(variant)) / statistics.median(getattr(row, of)("floor")))


def imports(layout: Layout, handler: str, settings: dict[str, str], most: int = 10) -> list[str]:
    """The slowest modules by their own time, with that time and with what they bring, in milliseconds."""
    code = f"import sys; sys.path[:0] = {[str(layout.task), str(layout.runtime)]!r}; import {handler.rpartition('.')[0]}"
    command = [layout.python, "-S", "-B", "-X", "importtime", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**settings, **CREDENTIALS, "PATH": os.environ["PATH"]})
    found = sorted(((int(own), int(whole), name) for own, whole, name in _IMPORT.findall(done.stderr)), reverse=True)
    return [f"{name} {own / 1000:.0f} ({whole / 1000:.0f})" for own, whole, name in found[:most]]


def measured(row: Row, folder: Path, layouts: dict[str, Layout], story: Story, event: object, tape: Tape, starts: int, warm: int) -> None:
    """Tape the door's calls once, write them down for the floor, then start every variant in turn."""
    handler, log = f"control_plane.handlers.{row.name}.handler", folder / f"{row.name}.log"
    settings = {**story.environment, "BENCH_CALLS": str(folder / f"{row.name}.calls"), "BENCH_HANDLER": handler}
    tape.begin(taping=True)
    run(layouts["as built"], handler, event, settings, tape, warm=0, log=log)
    tape.begin(taping=False)
    run(layouts["as built"], "spy.handler", event, settings, tape, warm=1, log=log)
    row.calls = sum(tape.calls.values())
    for variant in VARIANTS:
        run(layouts[variant], "floor.handler" if variant == "floor" else handler, event, settings, tape, warm=0, log=log)
    for _ in range(starts):
        for variant in VARIANTS:
            row.runs[variant].append(run(layouts[variant], "floor.handler" if variant == "floor" else handler, event, settings, tape, warm=warm, log=log))


def report(rows: list[Row], built_bytes: int, deployed_bytes: int) -> None:
    table = Table("handler", "calls", "variant", "cold ms", "x", "cold cpu ms", "x", "warm ms", "x", "peak MiB", title="start to first answer")
    for row in rows:
        for variant in VARIANTS:
            peak = max(one.memory_mib for one in row.runs[variant])
            figures = [text for of in ("cold", "cpu", "warm") for text in (told(getattr(row, of)(variant)), f"{ratio(row, variant, of):.2f}")]
            table.add_row(row.name if variant == "floor" else "", str(row.calls) if variant == "floor" else "", variant, *figures, f"{peak:.0f}")
    Console(width=150).print(table)
    print(f"bundle, unpacked: {built_bytes / 1e6:.1f} MB as built, {deployed_bytes / 1e6:.1f} MB as deployed (goal {BUNDLE_GOAL_MB})")
    for variant in VARIANTS[1:]:
        for of, goal in (("cold", COLD_GOAL), ("cpu", COLD_GOAL), ("warm", WARM_GOAL)):
            worst = max(rows, key=lambda row: ratio(row, variant, of))
            met = sum(ratio(row, variant, of) <= goal for row in rows)
            print(f"{variant}, {of}: {met} of {len(rows)} within {goal} of the floor; the farthest {worst.name}, {ratio(worst, variant, of):.2f}")
    peak = max(one.memory_mib for row in rows for variant in VARIANTS[1:] for one in row.runs[variant])
    print(f"peak memory {peak:.0f} MiB (goal: {MEMORY_GOAL_MIB} is enough)")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.lambda_start")
    parser.add_argument("--starts", type=int, default=7)
    parser.add_argument("--warm", type=int, default=10, help="answers after each start's first")
    parser.add_argument("--handlers", nargs="+", default=[], help="only these")
    options = parser.parse_args()
    os.environ.update(CREDENTIALS, MOTO_EC2_LOAD_DEFAULT_AMIS="false")
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL"):
        os.environ.pop(name, None)
    with tempfile.TemporaryDirectory() as temporary, mock_aws():
        folder = Path(temporary)
        built = lay_out(folder)
        deployed = Layout(built.python, folder / "deployed" / "task", built.runtime)
        shutil.copytree(built.task, deployed.task)
        subprocess.run([built.python, ROOT / "tools/bundle.py", deployed.task.parent, "--botocore", built.runtime / "botocore"], check=True)
        layouts = {"floor": built, "as built": built, "as deployed": deployed}
        version = subprocess.run([built.python, "-VV"], capture_output=True, text=True, check=True).stdout.strip()
        print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {version}; {options.starts} starts of each, in turn")
        story, tape, rows = Story(), Tape(), []
        for name, what, ready in story.scenes():
            event = ready()
            wanted = not options.handlers or name in options.handlers
            row = Row(name, what)
            # One that is not wanted is told its part all the same: the next stand on it.
            if wanted:
                measured(row, folder, layouts, story, event, tape, options.starts, options.warm)
                rows.append(row)
                slowest = ", ".join(imports(built, f"control_plane.handlers.{name}.handler", story.environment))
                print(f"{name}: {what}\n  slowest imports, ms of their own (with what they bring): {slowest}", flush=True)
            else:
                tape.begin(taping=True)
                run(built, f"control_plane.handlers.{name}.handler", event, story.environment, tape, warm=0, log=folder / f"{name}.log")
        report(rows, built.bundle_bytes, deployed.bundle_bytes)
        tape.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
