"""What every part of a run shares."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from jobspec.runfile import RunFile
from trainer.progress import Now, ProgressLog
from trainer.ranks import ALONE, Ranks
from trainer.stages import Stages
from trainer.stop import StopSignal

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Room:
    """A run's file, its folder, its log, its stop signal, its clocks, and who trains with it. ``clock`` is monotonic seconds."""

    run: RunFile
    root: Path
    log: ProgressLog
    stop: StopSignal
    now: Now
    clock: Clock
    stages: Stages
    ranks: Ranks = ALONE

    def stage_over(self, name: str) -> None:
        """That stage of the start is over."""
        self.stages.end(name, self.clock())
