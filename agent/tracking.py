"""Reports metrics to the services that a manifest names (``report_to``), from the lines that the trainer writes.

The trainer has no network and knows nothing of it. A job is never harmed by a service: what cannot be sent waits for the next turn, and
is left out in the end; its whole curve lies in ``final/metrics.jsonl`` all the same.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

from agent.parameters import Parameters
from agent.progress import lines_of
from jobspec.runfile import Progress, ProgressKind
from jobspec.ticket import Ticket

#: Points that wait at most: a service that is away for a day is told of the newest.
MOST_WAITING = 50_000
#: Turns that are passed over after a failure, doubled with each one in a row.
FIRST_PAUSE, LONGEST_PAUSE = 1, 32
#: The end of a job waits so long for its services, and no longer.
END_S = 15.0

log = logging.getLogger(__name__)


class TrackingFailed(Exception):
    """A service that did not take what it was told; the message names it, and holds no credentials."""


@dataclass(frozen=True, slots=True)
class Point:
    at: datetime
    step: int
    values: dict[str, float]


@dataclass(frozen=True, slots=True)
class Job:
    """What a service is told of a job. ``settings``: keys with a dot for each section, values as text."""

    job_id: str
    name: str
    began_ms: int
    settings: dict[str, str]


class Run(Protocol):
    """A job at one service."""

    def log(self, points: Sequence[Point]) -> None: ...

    def end(self, outcome: str, at_ms: int) -> None:
        """``outcome``: completed, failed or stopped."""


Open = Callable[[str, str, Job], Run]


@dataclass(slots=True)
class _Service:
    name: str
    project: str
    open: Open
    waiting: list[Point] = field(default_factory=list)
    run: Run | None = None
    pause: int = 0
    skipped: int = 0


class Reporter:
    """``turn`` is called again and again beside the training, ``end`` once. Neither raises."""

    def __init__(self, ticket: Ticket, progress: Path, parameters: Parameters, now: Callable[[], datetime], services: dict[str, Open] | None = None) -> None:
        named = ticket.manifest.report_to.named() if ticket.manifest.report_to is not None else {}
        if named and not parameters.path:
            log.warning("report_to: this stack was deployed without TrackingPath; nothing is reported (docs/tracking.md)")
            named = {}
        known = services or _services()
        self._services = [_Service(name, project, known[name]) for name, project in named.items()]
        self._job = Job(ticket.job_id, ticket.name, int(ticket.issued_at.timestamp() * 1000), settings_of(ticket))
        self._parameters, self._lines, self._now = parameters, lines_of(progress), now
        self._lock = threading.Lock()

    def turn(self) -> None:
        """Send what the trainer has written since the last turn."""
        if not self._services:
            return
        with self._lock:
            points = [point for line in next(self._lines) if (point := point_of(line)) is not None]
            for service in self._services:
                service.waiting = (service.waiting + points)[-MOST_WAITING:]
                if service.skipped < service.pause:
                    service.skipped += 1
                else:
                    self._send(service)

    def end(self, outcome: str) -> None:
        """The last points and the job's end, as far as the services take them in time."""
        if not self._services:
            return
        last = threading.Thread(target=self._end, args=(outcome,), name="tracking", daemon=True)
        last.start()
        last.join(END_S)
        if last.is_alive():
            log.warning("report_to: the services did not take the end of the job in %.0f s", END_S)

    def _end(self, outcome: str) -> None:
        for service in self._services:
            service.pause = 0
        self.turn()
        with self._lock:
            for service in self._services:
                self._tell(service, lambda run: run.end(outcome, int(self._now().timestamp() * 1000)))

    def _send(self, service: _Service) -> None:
        def send(run: Run) -> None:
            if service.waiting:
                run.log(service.waiting)

        if self._tell(service, send):
            service.waiting = []

    def _tell(self, service: _Service, word: Callable[[Run], None]) -> bool:
        try:
            if service.run is None:
                service.run = service.open(self._parameters.read(service.name), service.project, self._job)
            word(service.run)
        except Exception as error:
            # Whatever a service's library raises: the job goes on. Of others' errors the kind alone, for their words may hold a key.
            said = str(error) if isinstance(error, TrackingFailed) else type(error).__name__
            log.warning("report_to.%s: %s", service.name, said)
            service.pause, service.skipped = min(LONGEST_PAUSE, max(FIRST_PAUSE, 2 * service.pause)), 0
            return False
        service.pause = 0
        return True


def point_of(line: Progress) -> Point | None:
    """A step's or an evaluation's numbers, by the names that TensorBoard's files have."""
    match line.kind:
        case ProgressKind.STEP:
            values = {"train/loss": line.loss, "train/learning_rate": line.learning_rate, "train/tokens_per_s": line.tokens_per_s}
        case ProgressKind.EVAL:
            values = {"eval/loss": line.loss}
        case _:
            return None
    found = {name: value for name, value in values.items() if value is not None}
    return Point(line.at, line.step, found) if found else None


def settings_of(ticket: Ticket) -> dict[str, str]:
    """The manifest's choices of model, method, adapter and training."""
    manifest = ticket.manifest.model_dump(mode="json", exclude_none=True)
    found = {"model": ticket.manifest.model.reference(), "method": ticket.manifest.method}
    for section in ("adapter", "training", ticket.manifest.method):
        found |= {f"{section}.{key}": str(value)[:500] for key, value in manifest.get(section, {}).items()}
    return found


def _services() -> dict[str, Open]:
    from agent.mlflow import MlflowRun
    from agent.wandb_run import WandbRun

    return {"mlflow": MlflowRun, "wandb": WandbRun}
