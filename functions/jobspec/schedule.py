"""The manifest's ``schedule``: at which times a job is put, and no sooner than an hour after the one before.

Cron expressions are read by cronsim, times of day by the zone database (tzdata): both only where there is a schedule, for agents have neither.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from jobspec.base import Document, UtcTime
from jobspec.methods import Located
from jobspec.units import time_written

CRON_PATTERN = r"^[0-9A-Za-z*,/#-]+( [0-9A-Za-z*,/#-]+){4}$"
TIMEZONE_PATTERN = r"^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+){0,2}$"
LEAST_APART = timedelta(hours=1)
#: ``-20261125-0300`` is appended to the schedule's name.
DATE_CHARACTERS = 14
#: Times that are held against each other; rules repeat themselves long before.
_LOOKED_AT = 400
#: Where that begins: a first of January, so that every kind of day comes.
_FROM = datetime(2027, 1, 1, tzinfo=UTC)
#: Times that passed unseen (the tick was dead): more than a year of hours.
MOST_PASSED = 10_000


class Schedule(Document):
    """Put this job again and again, by the clock. The manifest is the schedule: change it to change it, delete it to end it."""

    cron: Annotated[str, StringConstraints(strict=True, pattern=CRON_PATTERN)] = Field(
        description="Five fields: minute, hour, day of the month, month, day of the week, such as `0 3 * * mon-fri`; an hour apart at least."
    )
    timezone: Annotated[str, StringConstraints(strict=True, pattern=TIMEZONE_PATTERN, max_length=64)] = Field(
        "UTC", description="Zone of those times, such as Europe/Berlin."
    )
    until: Annotated[UtcTime, BeforeValidator(time_written)] | None = Field(None, description="No job is put after this: 2026-12-24T18:00:00+01:00.")

    @model_validator(mode="after")
    def _can_be_kept(self) -> "Schedule":
        from cronsim import CronSimError

        try:
            zone_of(self.timezone)
        except (KeyError, ValueError, OSError):
            raise Located(("timezone",), "is no zone of the time zone database, such as Europe/Berlin or America/New_York") from None
        try:
            # In UTC: the hour that summer time takes away or gives twice is no fault of the expression.
            times = list(islice(_times(self.cron, _FROM), _LOOKED_AT))
        except CronSimError as error:
            raise Located(("cron",), f"is no cron expression: {error}") from None
        if not times:
            raise Located(("cron",), "names no time that ever comes")
        least = min((after - before for before, after in pairwise(times)), default=LEAST_APART)
        if least < LEAST_APART:
            raise Located(("cron",), f"puts jobs {least.total_seconds() / 60:.0f} minutes apart; an hour is the least")
        return self

    def times_after(self, since: datetime) -> Iterator[datetime]:
        """The times after ``since`` (exclusive), in UTC, up to ``until``."""
        for at in _times(self.cron, since.astimezone(zone_of(self.timezone))):
            moment = at.astimezone(UTC)
            if self.until is not None and moment > self.until:
                return
            yield moment

    def passed(self, since: datetime, now: datetime) -> tuple[datetime, ...]:
        """The times after ``since`` up to ``now``, oldest first."""
        found = []
        for at in islice(self.times_after(since), MOST_PASSED):
            if at > now:
                break
            found.append(at)
        return tuple(found)

    def next_after(self, since: datetime) -> datetime | None:
        return next(self.times_after(since), None)


def zone_of(name: str) -> Any:
    from zoneinfo import ZoneInfo

    return ZoneInfo(name)


def dated_name(name: str, at: datetime) -> str:
    """``nightly-20261125-0300``, in UTC: no two times of a schedule have one name."""
    return f"{name}-{at.astimezone(UTC):%Y%m%d-%H%M}"


def time_in(name: str, schedule: str) -> datetime | None:
    """The time in the name of a schedule's job, or of a job of a sweep that it has put; None where there is none."""
    dated = name.removeprefix(f"{schedule}-")[: DATE_CHARACTERS - 1]
    try:
        at = datetime.strptime(dated, "%Y%m%d-%H%M").replace(tzinfo=UTC)
    except ValueError:
        return None
    return at if name.startswith(dated_name(schedule, at)) else None


def _times(cron: str, since: datetime) -> Iterator[datetime]:
    from cronsim import CronSim

    yield from CronSim(cron, since)
