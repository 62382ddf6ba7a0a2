"""Units that people write: durations (``90s``, ``15m``, ``4h``, ``1h30m``, ``2d``) in, whole seconds inside."""

import re
from datetime import datetime
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationInfo, WithJsonSchema

_PARTS = re.compile(r"(?:(\d{1,4})d)?(?:(\d{1,5})h)?(?:(\d{1,6})m)?(?:(\d{1,7})s)?", re.ASCII)
DURATION_PATTERN = r"^(?=\d)(\d{1,4}d)?(\d{1,5}h)?(\d{1,6}m)?(\d{1,7}s)?$"
#: Validation context of a document that a person wrote.
WRITTEN_BY_A_PERSON = {"written_by": "a person"}
DURATION_HELP = "a duration such as 90s, 15m, 4h, 1h30m or 2d"


def seconds_from(value: Any) -> int:
    """Whole seconds of a duration text. Raises ValueError for anything else: a bare number has no unit."""
    if isinstance(value, str) and value:
        found = _PARTS.fullmatch(value)
        if found and any(found.groups()):
            days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
            return days * 86400 + hours * 3600 + minutes * 60 + seconds
    raise ValueError(DURATION_HELP)


def duration_text(seconds: float) -> str:
    """``5400`` -> ``1h30m``; the inverse of :func:`seconds_from` for whole seconds."""
    whole = int(seconds)
    days, rest = divmod(whole, 86400)
    hours, rest = divmod(rest, 3600)
    minutes, secs = divmod(rest, 60)
    parts = [f"{n}{unit}" for n, unit in ((days, "d"), (hours, "h"), (minutes, "m"), (secs, "s")) if n]
    return "".join(parts) or "0s"


def _read(value: Any, info: ValidationInfo) -> int:
    # A document that was validated once (a ticket, a job item) holds whole seconds already; a person's number has no unit.
    if isinstance(value, int) and not isinstance(value, bool) and info.context != WRITTEN_BY_A_PERSON:
        return value
    return seconds_from(value)


def time_written(value: Any) -> datetime:
    """A time as a person writes it. Not left to pydantic: it reads a number, or a text of digits alone, as seconds since 1970."""
    if isinstance(value, datetime):
        return value
    if isinstance(value, str) and re.match(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ]", value):
        return datetime.fromisoformat(value)
    raise ValueError("a time is written as 2026-12-24T18:00:00+01:00")


Duration = Annotated[
    int,
    BeforeValidator(_read),
    Field(ge=1, le=90 * 86400),
    # What a person writes; what Dropforge writes are whole seconds, which is the field's own schema.
    WithJsonSchema({"type": "string", "pattern": DURATION_PATTERN, "description": DURATION_HELP}, mode="validation"),
]
