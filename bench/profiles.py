"""Where the trainer's time goes: ``python -m bench.profiles imports``, ``python -m bench.profiles steps [--folded FILE]``.

``imports``: CPU seconds of a start's imports in fresh processes, then Python's own import-time listing (``-X importtime``, which makes them slower,
so its seconds are for comparing modules), by package and by the dearest subtrees. ``steps``: a run of a made Llama, looked at every few
milliseconds from a thread of its own; which functions of ours and of the libraries the trainer stood in once the first step was over.
``--folded`` keeps the stacks as flamegraph.pl and speedscope read them.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from bench import machine

ROOT = Path(__file__).resolve().parents[1]
START = "import os\nfrom trainer.__main__ import ENVIRONMENT\nos.environ.update(ENVIRONMENT)\nimport trainer.run, trainer.story\n"
USED = START + "import resource\nused = resource.getrusage(resource.RUSAGE_SELF)\nprint(used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)\n"
_LINE = re.compile(r"import time:\s*(\d+) \|\s*(\d+) \|( *)(\S+)")
SAMPLE_S = 0.005
MOST = 15


def listing(text: str) -> tuple[Counter[str], list[tuple[float, str]]]:
    """Of ``-X importtime``'s lines: seconds of each package's own modules, and (seconds, module) with all that it brought, the dearest first."""
    own: Counter[str] = Counter()
    whole = []
    for line in text.splitlines():
        if found := _LINE.match(line):
            own[found[4].split(".")[0]] += int(found[1]) / 1e6  # type: ignore[assignment]  # Counter's values are said to be whole
            whole.append((int(found[2]) / 1e6, found[4]))
    return own, sorted(whole, reverse=True)


def _python(code: str, *options: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "functions")]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *options, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)  # noqa: S603 - a fixed program
    if done.returncode:
        sys.exit(f"the imports failed, nothing is reported:\n{done.stderr[-3000:]}")
    return done


def imports(times: int) -> None:
    used = [tuple(map(float, _python(USED).stdout.split())) for _ in range(times + 1)][1:]  # the first one reads the disk
    sys.stdout.write(f"imports of a start: {machine.spread(cpu for cpu, _ in used)} CPU s, {machine.spread((mib for _, mib in used), 0)} MiB\n\n")
    own, whole = listing(_python(START, "-X", "importtime").stderr)
    total = sum(own.values())
    sys.stdout.write("| package | share of the imports |\n|---|---|\n")
    sys.stdout.writelines(f"| {name} | {seconds / total:.1%} |\n" for name, seconds in own.most_common(MOST))
    sys.stdout.write("\n| module, with what it brings first | share |\n|---|---|\n")
    sys.stdout.writelines(f"| {name} | {seconds / total:.1%} |\n" for seconds, name in whole[: 2 * MOST])


class Sampler(threading.Thread):
    """Looks at the thread that made it, and counts the stacks it stands in from the end of the first step on."""

    def __init__(self, progress: Path) -> None:
        super().__init__(daemon=True)
        self.stacks: Counter[str] = Counter()
        self._progress, self._watched, self._over = progress, threading.get_ident(), threading.Event()

    def run(self) -> None:
        while not self._over.wait(SAMPLE_S):
            if self.stacks or self._has_stepped():
                frame = sys._current_frames().get(self._watched)
                self.stacks[";".join(reversed(list(_names(frame))))] += 1

    def _has_stepped(self) -> bool:
        return self._progress.exists() and b'"kind":"step"' in self._progress.read_bytes()

    def end(self) -> None:
        self._over.set()
        self.join()


def _names(frame: FrameType | None) -> list[str]:
    names = []
    while frame is not None:
        code = frame.f_code
        path = Path(code.co_filename)
        names.append(f"{path.parent.name}/{path.stem}.{code.co_name}")
        frame = frame.f_back
    return names


def inside(stacks: Counter[str]) -> Counter[str]:
    """The stacks of the training loop, from the loop on."""
    found: Counter[str] = Counter()
    for stack, count in stacks.items():
        _, loop, below = stack.partition("._inner_training_loop;")
        if loop:
            found[f"loop;{below}"] += count
    return found


def shares(stacks: Counter[str]) -> list[tuple[float, str]]:
    """(Share of the samples that the function is in, function), of any function the largest first, equal ones by name; recursion counts once."""
    found: Counter[str] = Counter()
    for stack, count in stacks.items():
        for name in set(stack.split(";")):
            found[name] += count
    return [(count / stacks.total(), name) for name, count in sorted(found.items(), key=lambda each: (-each[1], each[0]))]


def steps(asked: argparse.Namespace) -> None:
    from bench.packing import make_model, write_rows
    from trainer.run import run_file
    from trainer.stop import StopSignal

    with tempfile.TemporaryDirectory(prefix="bench-profiles-") as name:
        folder = Path(name)
        make_model(folder / "model", asked.hidden, asked.layers)
        write_rows(folder / "data/train.jsonl", 400, 100)
        training = {"max_steps": asked.steps, "global_batch_size": 8, "micro_batch_size": 4, "gradient_checkpointing": False}
        run = {"job_id": "profile", "model_reference": "local/model", "adapter": {"r": 8, "alpha": 16}, "eval_fraction": 0, "training": training}
        (folder / "run.json").write_text(json.dumps({**run, "checkpoint": {"interval": 10**6}}))
        sampler = Sampler(folder / "progress.jsonl")
        sampler.start()
        code = run_file(folder / "run.json", lambda: datetime.now(UTC), time.monotonic, StopSignal())
        sampler.end()
        if code:
            sys.exit(f"the trainer exited {code}, nothing is reported: {(folder / 'progress.jsonl').read_text()[-2000:]}")
    stepped = inside(sampler.stacks)
    if asked.folded:
        asked.folded.write_text("".join(f"{stack} {count}\n" for stack, count in sorted(stepped.items())))
    sys.stdout.write(f"{stepped.total()} samples of {asked.steps} steps\n\n| inside the training loop | share |\n|---|---|\n")
    sys.stdout.writelines(f"| {name} | {share:.1%} |\n" for share, name in shares(stepped)[: 4 * MOST])
    ours = [(share, name) for share, name in shares(stepped) if name.startswith("trainer/") and (ROOT / f"{name.partition('.')[0]}.py").exists()]
    sys.stdout.write("\n| of it in code of ours, or below | share |\n|---|---|\n")
    sys.stdout.writelines(f"| {name} | {share:.1%} |\n" for share, name in ours[:MOST])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("imports", "steps"))
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--folded", type=Path, help="a file for the stacks")
    asked = parser.parse_args()
    sys.stdout.write(machine.told("torch", "transformers", "trl", "peft") + "\n")
    imports(asked.times) if asked.what == "imports" else steps(asked)
    return 0


if __name__ == "__main__":
    sys.exit(main())
