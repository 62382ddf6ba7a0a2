"""Status objects: all of them, or the one that a person means by a name, the beginning of one, or a job id."""

import difflib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import click
from botocore.exceptions import ClientError

from dropforge.stack import CONNECTIONS, Stack
from jobspec import keys, wire
from jobspec.children import child_id, sweep_of
from jobspec.heartbeat import Heartbeat
from jobspec.status import Status, SweptJob

ENDS = frozenset({"SUCCEEDED", "REJECTED", "FAILED", "CANCELLED", "STOPPED_DEADLINE", "STOPPED_BUDGET"})
#: S3's clock and that of the functions may differ, and S3 tells whole seconds.
CLOCKS_APART = timedelta(minutes=5)
#: Status objects that are read before it is looked whether there are enough.
AT_ONCE = 2 * CONNECTIONS
#: So many candidates are listed where a beginning fits several names.
MOST_CANDIDATES = 10
_STATUS_SUFFIX, _REFUSED_SUFFIX = ".json", ".refused.json"


@dataclass(frozen=True, slots=True)
class Listed:
    """A row of the list. ``beside``: a manifest that was refused while a job of the same name was active."""

    status: Status
    beside: bool = False


def all_statuses(stack: Stack) -> list[Listed]:
    """The newest job of each name, and refused manifests beside active jobs; newest first."""
    return newest_statuses(stack, None)[0]


def newest_statuses(stack: Stack, most: int | None, beginning: str = "") -> tuple[list[Listed], int]:
    """The ``most`` jobs that were accepted last (None: all), newest first, and how many more there are; of those only whose name has that beginning.

    A status is written after its job was accepted. So what was written before the last of so many was accepted need not be read.
    """
    waiting = sorted(_status_objects(stack, beginning), key=lambda item: item["LastModified"], reverse=True)
    rows: list[Listed] = []
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        while waiting:
            if most is not None and len(rows) >= most and waiting[0]["LastModified"] + CLOCKS_APART < rows[most - 1].status.accepted_at:
                break
            some, waiting = waiting[:AT_ONCE], waiting[AT_ONCE:]
            rows += [row for row in pool.map(lambda item: _listed(stack, item["Key"]), some) if row is not None]
            rows.sort(key=lambda row: row.status.accepted_at, reverse=True)
    shown = rows if most is None else rows[:most]
    return shown, len(rows) - len(shown) + len(waiting)


def _listed(stack: Stack, key: str) -> Listed | None:
    """None where it was deleted since it was listed."""
    body = read_object(stack, stack.data_bucket, key)
    return Listed(wire.load(Status, body), key.endswith(_REFUSED_SUFFIX)) if body is not None else None


def the_status(stack: Stack, word: str) -> Status:
    """The status that ``word`` means. Raises ClickException: unknown (with what is near it), or the beginning of several (with them)."""
    exact = read_status(stack, word)
    if exact is not None:
        return exact
    names = [_name_of(key) for key in _status_keys(stack) if not key.endswith(_REFUSED_SUFFIX)]
    # A job's id is its name with a suffix.
    for name in sorted((name for name in names if word.startswith(f"{name}-")), key=len, reverse=True):
        by_id = read_status(stack, name)
        if by_id is not None and by_id.job_id == word:
            return by_id
    swept = _swept(stack, word)
    if swept is not None:
        return _told_by_its_sweep(*swept)
    beginning = [name for name in names if word and name.startswith(word)]
    if len(beginning) == 1:
        only = read_status(stack, beginning[0])
        if only is not None:
            return only
    if beginning:
        more = f" and {len(beginning) - MOST_CANDIDATES} more" if len(beginning) > MOST_CANDIDATES else ""
        raise click.ClickException(f"{word!r} is the beginning of {len(beginning)} jobs: {', '.join(beginning[:MOST_CANDIDATES])}{more}. Write one in full.")
    near = difflib.get_close_matches(word, names, n=3)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    raise click.ClickException(
        f"No job {word!r} in stack {stack.name}.{hint} `dropforge list` shows what there is; a manifest that was just put takes a few seconds to appear."
    )


def unstarted(stack: Stack, word: str) -> tuple[Status, SweptJob] | None:
    """A sweep at work, and that job of it which it has not started yet; None where ``word`` means none. Such a job has no status of its own."""
    found = _swept(stack, word)
    return found if found is not None and found[1].state is None and found[0].state not in ENDS else None


def _swept(stack: Stack, word: str) -> tuple[Status, SweptJob] | None:
    """The newest sweep that has a job of that name or id, and the job's line in its table."""
    for name in (word, word.rpartition("-")[0]):
        sweep = sweep_of(name)
        found = read_status(stack, sweep) if sweep is not None else None
        for job in found.sweep.jobs if found is not None and found.sweep is not None else ():
            assert found is not None
            job = job.model_copy(update={"job_id": child_id(found.name, found.job_id, job.number)})
            if word in (job.name, job.job_id):
                return found, job
    return None


def _told_by_its_sweep(sweep: Status, job: SweptJob) -> Status:
    """The status of a job that never had one, for it was cancelled before its start. Raises ClickException where it was not started, and that was all."""
    if job.state is None:
        how = f"is over ({sweep.state})" if sweep.state in ENDS else "does that when its turn comes"
        raise click.ClickException(f"{job.name} has not been started: its sweep {how}. How that stands: dropforge status {sweep.name}")
    own = {"job_id": job.job_id, "name": job.name, "state": job.state, "reason": job.reason, "parent": sweep.name}
    return sweep.model_copy(update=own | {"sweep": None, "history": (), "page": None, "budget_usd": None})


def read_status(stack: Stack, name: str) -> Status | None:
    """The status object of that name, or None where there is none (yet)."""
    body = read_object(stack, stack.data_bucket, keys.status_key(name))
    return wire.load(Status, body) if body is not None else None


def read_heartbeat(stack: Stack, job_id: str, instance_id: str) -> Heartbeat | None:
    """The newest heartbeat of the job's instance, found by its place in the listing: its writer's first half is the role's."""
    writer = next((writer for writer in writers_on_record(stack, job_id) if keys.instance_of(writer) == instance_id), None)
    body = read_object(stack, stack.outputs_bucket, keys.heartbeat_key(job_id, writer)) if writer is not None else None
    return wire.load(Heartbeat, body) if body is not None else None


def writers_on_record(stack: Stack, job_id: str) -> list[str]:
    """Each ``aws:userid`` under which an instance of the job wrote; an instance that has written nothing has none."""
    prefix = f"{keys.RUN_PREFIX}{job_id}/"
    folders = stack.s3.list_objects_v2(Bucket=stack.outputs_bucket, Prefix=prefix, Delimiter="/").get("CommonPrefixes", [])
    return [folder["Prefix"].removeprefix(prefix).rstrip("/") for folder in folders]


def read_object(stack: Stack, bucket: str, key: str) -> bytes | None:
    """The object's bytes, or None where there is none."""
    try:
        body: bytes = stack.s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    except ClientError as error:
        if error.response["Error"].get("Code") in ("NoSuchKey", "404"):
            return None
        raise
    return body


def place_of(location: str) -> tuple[str, str]:
    """Bucket and key of ``s3://bucket/key``."""
    bucket, _, key = location.removeprefix("s3://").partition("/")
    return bucket, key


def _status_keys(stack: Stack) -> list[str]:
    return [item["Key"] for item in _status_objects(stack)]


def _status_objects(stack: Stack, beginning: str = "") -> list[Any]:
    pages = stack.s3.get_paginator("list_objects_v2").paginate(Bucket=stack.data_bucket, Prefix=keys.STATUS_PREFIX + beginning)
    return [item for page in pages for item in page.get("Contents", []) if item["Key"].endswith(_STATUS_SUFFIX)]


def _name_of(key: str) -> str:
    return key.removeprefix(keys.STATUS_PREFIX).removesuffix(_STATUS_SUFFIX)
