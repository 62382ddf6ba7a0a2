"""What an attempt's agent and trainer printed: from CloudWatch, or from an instance's folder in the local cloud."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import click
from botocore.exceptions import ClientError

from dropforge.jobs.find import ENDS
from dropforge.jobs.here import local_home
from dropforge.stack import Stack, new_session
from jobspec.status import AttemptStatus, Status

FOLLOW_EVERY_S = 2.0
#: CloudWatch takes events some seconds after they were printed, and not in order over streams: each look goes back this far.
OVERLAP_MS = 30_000
_CONSOLES = ("agent", "trainer")


@dataclass(frozen=True, slots=True)
class Printed:
    """One line: when it was taken (None in the local cloud, whose files have no times), who printed it, what."""

    at: datetime | None
    who: str
    text: str


class Source(Protocol):
    def fresh(self) -> list[Printed]:
        """Lines that were not given before, oldest first."""
        ...


def source_of(stack: Stack, attempt: AttemptStatus, job_id: str) -> Source:
    """Where this attempt's lines are."""
    home = local_home()
    if home is None:
        return CloudWatch(new_session().client("logs"), f"/dropforge/{stack.name}/instances", f"{job_id}/{attempt.number}/", attempt.launched_at)
    return Files(home / "instances" / str(attempt.instance_id))


def attempt_of(status: Status, number: int | None) -> AttemptStatus:
    """The attempt asked for, or the newest. Raises ClickException with what there is."""
    if not status.attempts:
        raise click.ClickException(f"{status.name} has had no instance yet: it is {status.state} ({status.reason}).")
    if number is None:
        return status.attempts[-1]
    for attempt in status.attempts:
        if attempt.number == number:
            return attempt
    raise click.ClickException(f"{status.name} has no attempt {number}; it has 1 to {status.attempts[-1].number}.")


def follow(source: Source, status: Callable[[], Status | None], number: int) -> Iterator[Printed]:
    """Every line until the attempt is over."""
    while True:
        current = status()
        over = current is None or current.state in ENDS or any(a.number == number and a.ended_at is not None for a in current.attempts)
        yield from source.fresh()
        if over:
            return
        time.sleep(FOLLOW_EVERY_S)


class CloudWatch:
    """The attempt's streams ``JOB-ID/N/agent``, ``.../trainer`` and ``.../bootstrap`` in the stack's log group (template.yaml, InstanceLogs)."""

    def __init__(self, logs: Any, group: str, beginning: str, since: datetime | None) -> None:
        self._logs, self._group, self._beginning = logs, group, beginning
        self._from_ms = int(since.timestamp() * 1000) if since is not None else 0
        self._given: set[str] = set()

    def fresh(self) -> list[Printed]:
        asked = {"logGroupName": self._group, "logStreamNamePrefix": self._beginning, "startTime": self._from_ms}
        try:
            pages = list(self._logs.get_paginator("filter_log_events").paginate(**asked))
        except ClientError as error:
            if error.response["Error"].get("Code") != "ResourceNotFoundException":
                raise
            raise click.ClickException(
                f"There is no log group {self._group}: the stack is older than its logs, or another one. `dropforge doctor` looks."
            ) from None
        events = [event for page in pages for event in page["events"] if event["eventId"] not in self._given]
        self._given.update(event["eventId"] for event in events)
        if events:
            self._from_ms = max(self._from_ms, max(event["timestamp"] for event in events) - OVERLAP_MS)
        events.sort(key=lambda event: event["timestamp"])
        return [
            Printed(datetime.fromtimestamp(event["timestamp"] / 1000, UTC), event["logStreamName"].removeprefix(self._beginning), event["message"].rstrip("\n"))
            for event in events
        ]


class Files:
    """The same lines in the local cloud: what the containers' stand-ins wrote, and the instance's console."""

    def __init__(self, instance: Path) -> None:
        self._paths = {"console": instance / "console.log"} | {who: instance / "var/lib/dropforge/logs" / f"{who}.log" for who in _CONSOLES}
        self._read = dict.fromkeys(self._paths, 0)

    def fresh(self) -> list[Printed]:
        lines = []
        for who, path in self._paths.items():
            if not path.exists():
                continue
            with path.open("rb") as file:
                file.seek(self._read[who])
                body = file.read()
            whole = body[: body.rfind(b"\n") + 1]
            self._read[who] += len(whole)
            lines += [Printed(None, who, line) for line in whole.decode(errors="replace").splitlines()]
        return lines
