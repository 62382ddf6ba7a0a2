"""Instance tags, set at birth by the launch call (TagSpecifications), read by IAM conditions, sweeps and the instance.

The instance reads them through IMDS (``InstanceMetadataTags: enabled``); keys therefore hold no ``/`` and no space (EC2
guide, "View tags using instance metadata").
"""

from datetime import UTC, datetime

PROJECT = "dropforge:project"
JOB = "dropforge:job"
ATTEMPT = "dropforge:attempt"
#: The frozen plan's client token: finds the instances of a launch whose answer was lost.
LAUNCH = "dropforge:launch"
#: Whole seconds since 1970 (UTC) at which the instance powers itself off, whatever happened.
DEADLINE = "dropforge:deadline"
#: Set by the sweep's first look at an instance that no job seems to name: whole seconds since 1970. Never set at birth.
STRAY_SINCE = "dropforge:stray-since"
NAME = "Name"

#: Tags without which an instance is not ours (I4 in docs/reliability.md).
REQUIRED = (PROJECT, JOB, ATTEMPT, LAUNCH, DEADLINE)


def instance_tags(*, project: str, job_id: str, attempt: int, client_token: str, deadline_at: datetime) -> dict[str, str]:
    """Every tag of a new instance; ``deadline_at`` is an aware time."""
    return {
        PROJECT: project,
        JOB: job_id,
        ATTEMPT: str(attempt),
        LAUNCH: client_token,
        DEADLINE: str(int(deadline_at.timestamp())),
        NAME: f"{project} {job_id} attempt {attempt}",
    }


def deadline_of(tags: dict[str, str]) -> datetime | None:
    """The deadline in an instance's tags as a UTC time, or None where the tag is missing or unreadable."""
    return _time_in(tags, DEADLINE)


def stray_since(tags: dict[str, str]) -> datetime | None:
    """When a sweep first found nobody naming the instance, or None."""
    return _time_in(tags, STRAY_SINCE)


def _time_in(tags: dict[str, str], key: str) -> datetime | None:
    text = tags.get(key, "")
    if not (text.isascii() and text.isdigit() and len(text) <= 11):
        return None
    return datetime.fromtimestamp(int(text), UTC)
