"""The trainer in a process of its own, forked from one that has imported its libraries: a start takes a second, not ten.

Everything from the command line on is the trainer's own; the one thing added is a record of the data: for each micro-batch
the digest of what the model was given. Loaded by multiprocessing's fork server (:func:`server`) before anything else is.
"""

import hashlib
import multiprocessing
import os
import sys
from collections import Counter
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

from trainer.__main__ import main

ORDER_NAME = "order.txt"


def server() -> ForkServerContext:
    """What starts processes for :func:`run`; ``OMP_NUM_THREADS`` must be set before the first."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([f"{__name__}_libraries"])
    return context


def run(folder: str) -> None:
    """``python -m trainer run folder/run.json``; its words go to ``folder/trainer.log``. Ends this process."""
    log = os.open(f"{folder}/trainer.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    _record_order(Path(folder) / ORDER_NAME)
    sys.exit(main(["run", f"{folder}/run.json"]))


def _record_order(path: Path) -> None:
    """From now on each micro-batch leaves a line ``step micro-batch digest``, written at once."""
    from transformers import Trainer

    trained, seen = Trainer.training_step, Counter[int]()

    def recorded(self: Any, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        step = self.state.global_step + 1
        with path.open("a") as file:
            file.write(f"{step} {seen[step]} {_digest(inputs)}\n")
        seen[step] += 1
        return trained(self, model, inputs, *args, **kwargs)

    Trainer.training_step = recorded


def _digest(inputs: Any) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(inputs.items()) if isinstance(inputs, dict) else enumerate(inputs):
        digest.update(f"{name}".encode())
        digest.update(value.cpu().numpy().tobytes() if hasattr(value, "cpu") else repr(value).encode())
    return digest.hexdigest()


def order(folder: Path) -> dict[str, set[str]]:
    """Digests by step and micro-batch; more than one for the same place is another order of the data."""
    found: dict[str, set[str]] = {}
    if not (folder / ORDER_NAME).exists():  # of several ranks, which are other processes
        return found
    for line in (folder / ORDER_NAME).read_text().splitlines():
        place, _, digest = line.rpartition(" ")
        found.setdefault(place, set()).add(digest)
    return found
