"""A run whose processes are forked, the starting one from one that has imported the libraries, its ranks from it: a start takes a second, not ten.

What of a real start is missing: the ranks are no new processes (spawn). That is tested with real starts (test_process.py's). Besides, a test may
put something of its own into each rank before it begins.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench import forked
from trainer import launch, process

#: Called in each rank, with its number, before anything else is done there: what can be pickled (tests/trainer/planted.py).
Plant = Callable[[int], None]


class Forked:
    """One start on ``folder/run.json``."""

    def __init__(self, folder: Path, *plants: Plant) -> None:
        self._process = forked.server().Process(target=_start, args=(folder, plants))
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, patience_s: float) -> int | None:
        """The exit code of ``python -m trainer run``; None where it has not ended."""
        self._process.join(patience_s)
        return self._process.exitcode

    def kill(self) -> None:
        """Its ranks end with it."""
        self._process.kill()
        self._process.join()


def _start(folder: Path, plants: tuple[Plant, ...]) -> None:
    config, run_rank = launch._config, process.run_rank
    launch._config = lambda task: replace(config(task), start_method="fork")

    def and_plants(task: Any) -> int:
        for plant in plants:
            plant(int(os.environ["RANK"]))
        return run_rank(task)

    process.run_rank = and_plants
    forked.run(str(folder))
