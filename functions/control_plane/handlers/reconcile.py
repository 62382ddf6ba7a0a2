"""Door: the tick, every minute. Raises at its end if anything failed, so that the failure is seen and tried again."""

from typing import Any

from aws_lambda_powertools.metrics import MetricUnit

from control_plane.handlers.door import bus, door, driver, metrics, settings
from control_plane.tick import tick

#: Time kept for the sweep, which must run even when the jobs take all they can.
SWEEP_MS = 15_000


class TickFailed(Exception):
    """Part of the tick failed; what it owes is on record, and the next tick does it."""


@door
def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    result = tick(driver(), bus(), stray_grace_s=settings().stray_grace_s, has_time=lambda: context.get_remaining_time_in_millis() > SWEEP_MS)
    for name, value in (
        ("JobsDriven", result.driven),
        ("JobsLeft", result.left),
        ("LiveInstances", result.live_instances),
        ("StraysEnded", result.strays_ended),
    ):
        metrics.add_metric(name=name, unit=MetricUnit.Count, value=value)
    if result.failures:
        raise TickFailed("; ".join(result.failures[:5]))
    return {"driven": result.driven, "left": result.left, "live_instances": result.live_instances, "strays_ended": result.strays_ended}
