"""``python -m demo.material --to FOLDER``: make the demonstration's model and rows, once.

FOLDER then looks like the data bucket: models/smollm2-135m-instruct/, data/demo/train.jsonl and eval.jsonl; and
material.json names every file with its size and sha256. Each part is made aside and moved into place whole, material.json comes
last, and a second call that finds everything as recorded does nothing. Needs no network: the packages hold it all.
"""

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from demo.model import check_model, write_model
from demo.rows import write_rows

MODEL_PREFIX = "models/smollm2-135m-instruct"
DATA_PREFIX = "data/demo"
RECORD_NAME = "material.json"
#: A new number makes every folder of an older making be made anew.
MAKING = 1
#: No silence longer than this on the screen.
TICK_S = 4.0

Say = Callable[[str], None]


def make(to: Path, say: Say) -> dict[str, dict[str, str | int]]:
    """Make what is missing below ``to``; returns material.json's ``files``. Only one process makes at a time."""
    to.mkdir(parents=True, exist_ok=True)
    with _alone(to, say):
        recorded = _recorded(to)
        if recorded is not None:
            say(f"{to}: model and rows are there already ({_mib(recorded):.0f} MiB)")
            return recorded
        (to / RECORD_NAME).unlink(missing_ok=True)
        with _made_aside(to / DATA_PREFIX) as folder:
            counts = write_rows(folder)
        say(f"rows: {counts['train.jsonl']} to train on, {counts['eval.jsonl']} held out")
        _make_model(to / MODEL_PREFIX, say)
        files = _digests(to)
        aside = to / f".{RECORD_NAME}"
        aside.write_text(json.dumps({"making": MAKING, "files": files}, indent=1) + "\n", encoding="utf-8")
        os.replace(aside, to / RECORD_NAME)
        say(f"{to}: {len(files)} files, {_mib(files):.0f} MiB")
        return files


def _make_model(folder: Path, say: Say) -> None:
    _quiet()
    with _made_aside(folder) as aside:
        with _ticking(say, "widening the 4-bit weights"):
            parameters = write_model(aside)
        with _ticking(say, "loading the result as a trainer would"):
            check_model(aside)
    say(f"model: {parameters / 1e6:.0f} million parameters")


def _quiet() -> None:
    """Bars and hints of the libraries would break the lines printed here. tqdm looks only once, when it is imported."""
    os.environ["TQDM_DISABLE"] = "1"
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    os.environ["OMP_NUM_THREADS"] = str(min(2, os.cpu_count() or 1))


@contextmanager
def _alone(to: Path, say: Say) -> Iterator[None]:
    """Hold the folder's lock; the system drops it with the process, whatever ends that."""
    with (to / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another process is making this folder; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _made_aside(final: Path) -> Iterator[Path]:
    """A folder to write in, moved to ``final`` once the block ends well; what an earlier, broken run left is removed."""
    aside = final.with_name(f".{final.name}.making")
    for old in (aside, final):
        if old.exists():
            shutil.rmtree(old)
    aside.mkdir(parents=True)
    yield aside
    os.replace(aside, final)


@contextmanager
def _ticking(say: Say, what: str, tick_s: float = TICK_S) -> Iterator[None]:
    """Say what begins, that it still goes on, and how long it took."""
    done = threading.Event()
    began = time.monotonic()

    def tick() -> None:
        while not done.wait(tick_s):
            say(f"{what} ... {time.monotonic() - began:.0f} s")

    say(what)
    thread = threading.Thread(target=tick, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _digests(to: Path) -> dict[str, dict[str, str | int]]:
    return {str(path.relative_to(to)): _digest(path) for prefix in (DATA_PREFIX, MODEL_PREFIX) for path in sorted((to / prefix).rglob("*")) if path.is_file()}


def _digest(path: Path) -> dict[str, str | int]:
    with path.open("rb") as file:
        return {"size": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _recorded(to: Path) -> dict[str, dict[str, str | int]] | None:
    """The record's files, where every one of them is there as recorded; else None."""
    try:
        record = json.loads((to / RECORD_NAME).read_text(encoding="utf-8"))
        files: dict[str, dict[str, str | int]] = record["files"]
        whole = record["making"] == MAKING and bool(files) and files == _digests(to)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return files if whole else None


def _mib(files: dict[str, dict[str, str | int]]) -> float:
    return sum(int(file["size"]) for file in files.values()) / 2**20


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m demo.material", description="Make the demonstration's model and rows, once.")
    parser.add_argument("--to", type=Path, default=Path(".cache/demo"), help="folder to make them in (default: .cache/demo)")
    began = time.monotonic()

    def say(text: str) -> None:
        sys.stdout.write(f"[{time.monotonic() - began:5.1f} s] {text}\n")
        sys.stdout.flush()

    make(parser.parse_args(arguments).to, say)
    return 0


if __name__ == "__main__":
    sys.exit(main())
