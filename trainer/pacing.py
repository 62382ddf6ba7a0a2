"""When the next save is due: as the manifest says, or as often as pays by what was measured so far (``jobspec.saves``)."""

from dataclasses import replace
from pathlib import Path

from jobspec.runfile import RunFile
from jobspec.saves import LEAST_S, Costs, Interval, Uploaded, interval
from jobspec.wire import UnreadableDocument, load
from trainer.progress import Now
from trainer.room import Clock


class Pace:
    """``now`` gives aware times and is asked once, for the instance's age; ``clock`` is monotonic seconds."""

    def __init__(self, run: RunFile, root: Path, now: Now, clock: Clock) -> None:
        self._run, self._published, self._clock = run, root / run.published_file, clock
        self._began, self._age_s = clock(), 0.0
        if run.launched_at is not None:
            self._age_s = max(0.0, (now() - run.launched_at).total_seconds())

    def next(self, costs: Costs | None) -> Interval:
        """Seconds from the last save to the next, by what is known now."""
        wanted = self._run.checkpoint.interval
        if wanted != "auto":
            return Interval(wanted, "as checkpoint.interval says")
        known = replace(costs, upload_s=self._upload_s()) if costs is not None else None
        return interval(known, self._run.market, self._age_s + self._clock() - self._began)

    def due(self, passed_s: float, costs: Costs | None) -> bool:
        """A save is due, ``passed_s`` after the last one."""
        # Nothing is read before it can be due: this is asked after each step.
        return passed_s >= (LEAST_S if self._run.checkpoint.interval == "auto" else 0) and passed_s >= self.next(costs).seconds

    def _upload_s(self) -> float | None:
        """What the last upload took, as the agent told; None before the first, or without an agent."""
        try:
            return load(Uploaded, self._published.read_bytes()).seconds
        except (OSError, UnreadableDocument):
            return None
