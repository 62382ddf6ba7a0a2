"""Door: the tick, every minute. Raises at its end if anything failed, so that the failure is seen and tried again."""

from typing import Any

from control_plane.census import census
from control_plane.handlers.door import PartlyDone, door
from control_plane.handlers.rooms import Rooms
from control_plane.submission import Submission
from control_plane.tick import tick

#: Time kept for the sweep, which must run even when the jobs take all they can.
SWEEP_MS = 15_000


class TickFailed(PartlyDone):
    """Part of the tick failed."""


def handle(event: Any, context: Any, rooms: Rooms) -> dict[str, Any]:
    def has_time() -> bool:
        return bool(context.get_remaining_time_in_millis() > SWEEP_MS)

    began = rooms.now()
    result = tick(
        rooms.driver,
        rooms.bus,
        rooms.spend,
        rooms.each,
        stray_grace_s=rooms.settings.stray_grace_s,
        monthly_cap_usd=rooms.settings.monthly_cap_usd,
        has_time=has_time,
        pause=rooms.pause,
    )
    found, failures = census(Submission(rooms.driver, rooms.settings.read_buckets), rooms.settings.data_bucket, rooms.each, has_time, tick_began=began)
    counts = {**result.counts, "ManifestsFound": found}
    if result.failures or failures:
        raise TickFailed([*result.failures, *failures], counts)
    # Between jobs they stay in the log: CloudWatch bills a metric of one's own for each hour in which it is sent (pricing page, "Metrics").
    return {"metrics": counts} if any(counts.values()) else dict(counts)


handler = door(handle, "driver")
