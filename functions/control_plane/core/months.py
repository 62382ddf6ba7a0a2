"""Calendar months, in UTC: what a monthly budget counts by."""

from datetime import UTC, datetime


def month_of(at: datetime) -> str:
    """``2026-11``."""
    return f"{at.astimezone(UTC):%Y-%m}"


def next_month(now: datetime) -> datetime:
    """The start of the next calendar month: when a monthly budget begins anew."""
    now = now.astimezone(UTC)
    return datetime(now.year + now.month // 12, now.month % 12 + 1, 1, tzinfo=UTC)
