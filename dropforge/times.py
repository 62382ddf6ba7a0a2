"""Times and sums for a reader: his own zone, with UTC at hand; dollars and minutes as the receipt has them."""

from datetime import UTC, datetime, timedelta


def told(moment: datetime) -> str:
    """``2026-11-25 14:03:07 CET (13:03:07 UTC)``; in UTC itself just once."""
    here = moment.astimezone()
    if here.utcoffset() == timedelta(0):
        return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    return f"{here:%Y-%m-%d %H:%M:%S %Z} ({moment.astimezone(UTC):%H:%M:%S} UTC)"


def ago(moment: datetime, now: datetime) -> str:
    """``3m ago``; the largest unit alone, for lists."""
    seconds = max(0, int((now - moment).total_seconds()))
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{seconds // length}{unit} ago"
    return f"{seconds}s ago"
