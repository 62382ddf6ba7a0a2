"""What every door shares: the driver, built once a container, and one canonical log line an invocation.

Bad input is recorded and succeeds; a passing fault is raised, so that AWS delivers the event again and, in the end, to the
dead-letter queue. Nothing is swallowed.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import cache, wraps
from threading import Lock
from time import perf_counter, sleep
from typing import TYPE_CHECKING, Any, Protocol

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.logging.utils import copy_config_to_registered_loggers
from aws_lambda_powertools.metrics import MetricUnit

from control_plane.adapters.clients import AT_ONCE, client
from control_plane.core.events import Ignored
from control_plane.handlers.rooms import Rooms
from control_plane.ports import A, B
from control_plane.settings import settings_from

if TYPE_CHECKING:
    from control_plane.core.state import Job

logger = Logger()
# The rooms log through the standard library; their lines get the same JSON form, and the same invocation's keys.
logging.getLogger("control_plane")
copy_config_to_registered_loggers(source_logger=logger, include={"control_plane"})
metrics = Metrics(namespace=os.environ.get("POWERTOOLS_METRICS_NAMESPACE", "Dropforge"))
_counting = Lock()
#: CloudWatch knows no unit of money.
_UNITS = {
    "GpuPercent": MetricUnit.Percent,
    "LaunchWaitSeconds": MetricUnit.Seconds,
    "SpendUsdPerHour": MetricUnit.NoUnit,
    "SpendUsdThisMonth": MetricUnit.NoUnit,
}


def _now() -> datetime:
    return datetime.now(UTC)


def _counted(name: str, count: int) -> None:
    # Kept by Powertools until the invocation is over, and sent then even if it raises. It knows of no threads.
    with _counting:
        metrics.add_metric(name=name, unit=MetricUnit.Count, value=count)


def _each(work: Callable[[A], B], things: Iterable[A]) -> Iterator[B]:
    """Most of a job's time is waiting for answers: several wait side by side."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield from pool.map(work, things)


@cache
def rooms() -> Rooms:
    """The rooms over AWS; its clients live as long as the container."""
    return Rooms(settings_from(), client, _now, _counted, _each, sleep)


class PartlyDone(Exception):
    """A round did what it could, and some of it failed: what is owed is on record or seen anew, and the next round does it."""

    def __init__(self, failures: list[str], counts: Mapping[str, float]) -> None:
        super().__init__("; ".join(failures[:5]))
        self.counts = counts


class Handle(Protocol):
    """What a door does with an event. A dict's ``metrics`` are counted, the rest of it is logged."""

    def __call__(self, event: Any, context: Any, rooms: Rooms) -> Job | Ignored | dict[str, Any] | None: ...


def door(handle: Handle, *opens: str) -> Any:
    """A Lambda handler of ``handle``: measured, and with one log line that says what became of the event.

    ``opens``: rooms that it wants for nearly every event, where one waits for it. On Lambda they are opened while the container starts
    (Lambda guide, "Best practices": clients outside of the handler); elsewhere a door is imported without the settings that they need.
    """
    if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
        for room in opens:
            getattr(rooms(), room)

    @logger.inject_lambda_context(clear_state=True)
    @wraps(handle)
    def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
        started = perf_counter()
        # The event itself is never logged: it may hold what a stranger wrote.
        facts: dict[str, Any] = {"event_id": str(event.get("id", ""))[:64] if isinstance(event, dict) else ""}
        try:
            facts |= _told(handle(event, context, rooms()))
        except Exception as error:
            facts |= {"outcome": "raised", "error": type(error).__name__}
            if isinstance(error, PartlyDone):
                facts["metrics"] = error.counts
            raise
        finally:
            counts = facts.pop("metrics", {})
            for name, value in counts.items():
                metrics.add_metric(name=name, unit=_UNITS.get(name, MetricUnit.Count), value=value)
            facts |= counts
            logger.info("handled", extra={**facts, "took_ms": round(1000 * (perf_counter() - started), 1)})
            # Between jobs there are none: CloudWatch bills a metric of one's own for each hour in which it is sent.
            if metrics.metric_set:
                metrics.flush_metrics()
        return facts

    return handler


def _told(result: Job | Ignored | dict[str, Any] | None) -> dict[str, Any]:
    match result:
        case Ignored(reason=reason):
            return {"outcome": "ignored", "reason": reason}
        case dict():
            return {"outcome": "done", **result}
        case None:
            return {"outcome": "ignored", "reason": "no such job"}
        case job:
            return {"outcome": "done", "job_id": job.job_id, "state": job.state.value, "reason": job.reason, "version": job.version}
