"""Object keys: where each document lies. The only place in the project that puts a key together or takes one apart.

Data bucket (people and the control plane write)::

    jobs/<anything>.yaml|.yml|.json       manifests; the only prefix that the submit rule matches
    jobs/<job id>.cancel                  ends that one job of a sweep or a schedule, which share one manifest; the others go on
    status/<name>.json                    status of the newest job of that name
    status/<name>.refused.json            a manifest of that name that was refused while its job was active
    reports/<name>.html                   the page of the newest job of that name, drawn after each change
    receipts/<YYYY-MM>/<job id>.json      a finished job's last status, by the month (UTC) in which it was accepted
    tickets/<writer>/ticket.json          what one instance shall do; written once the instance is on record
    tickets/<writer>/stop.json            asks that instance for a last save and an end
    data/... models/...                   the user's own, by convention

Outputs bucket (instances write, each only under its own ``<writer>``)::

    runs/<job id>/<writer>/heartbeat.json
    runs/<job id>/<writer>/checkpoints/step-00000120/<files>, checkpoint.json last
    runs/<job id>/<writer>/checkpoints/prepared/<files>, prepared.json last; the tokenised rows, which expire as checkpoints do
    runs/<job id>/<writer>/final/<files>
    runs/<job id>/<writer>/logs/<file>
    runs/<job id>/<writer>/completion.json   the completion marker, written once, last

``<writer>`` is the instance's ``aws:userid``, ``<role id>:<instance id>``: a policy with ``${aws:userid}`` then gives each
instance its own prefix, and no instance can forge another's marker (IAM guide, "Policy variables").
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime

#: EC2 ids have 8 hexadecimal digits (old) or 17 (since 2016).
INSTANCE_ID_PATTERN = r"^i-[0-9a-f]{8,17}$"
MANIFEST_PREFIX = "jobs/"
STATUS_PREFIX = "status/"
REPORT_PREFIX = "reports/"
RECEIPT_PREFIX = "receipts/"
TICKET_PREFIX = "tickets/"
RUN_PREFIX = "runs/"
MARKER_NAME = "completion.json"
#: Below a final prefix: the base with its adapter merged in.
MERGED_FOLDER = "merged/"
HEARTBEAT_NAME = "heartbeat.json"
CHECKPOINT_MANIFEST_NAME = "checkpoint.json"

#: S3 keys in events may or may not be URL-encoded (aws.md); only characters that encode to themselves are allowed.
_MANIFEST_KEY = re.compile(r"jobs/(?:[A-Za-z0-9._-]+/)*([A-Za-z0-9._-]+)\.(yaml|yml|json)")
_CANCEL_KEY = re.compile(r"jobs/([a-z0-9][a-z0-9-]{0,62})\.cancel")
_STATUS_KEY = re.compile(r"status/([a-z0-9][a-z0-9-]{0,63})\.json")
_MARKER_KEY = re.compile(r"runs/([a-z0-9][a-z0-9-]{0,62})/([A-Z0-9]{4,64}):(i-[0-9a-f]{8,17})/completion\.json")
_CHECKPOINT_KEY = re.compile(r".*/checkpoints/step-(\d{8,})/checkpoint\.json")


@dataclass(frozen=True, slots=True)
class MarkerKey:
    """The parts of a completion marker's key."""

    job_id: str
    writer: str
    instance_id: str


def split_location(location: str, bucket: str) -> tuple[str, str]:
    """Bucket and key of a manifest's location; a plain key lies in ``bucket``."""
    if location.startswith("s3://"):
        found, _, key = location.removeprefix("s3://").partition("/")
        return found, key
    return bucket, location


def is_manifest_key(key: str) -> bool:
    """True for a key that the submit handler accepts as a manifest."""
    return _MANIFEST_KEY.fullmatch(key) is not None


def cancel_key(job_id: str) -> str:
    return f"{MANIFEST_PREFIX}{job_id}.cancel"


def cancelled_by(key: str) -> str | None:
    """The id of the job that an object of this key cancels; None for any other key."""
    found = _CANCEL_KEY.fullmatch(key)
    return found.group(1) if found else None


def name_from_key(key: str) -> str:
    """A valid job name made of a manifest key's last part: for manifests too broken to say their own name."""
    stem = key.rsplit("/", 1)[-1].rsplit(".", 1)[0].lower()
    return re.sub(r"[^a-z0-9]+", "-", stem).strip("-")[:48].strip("-") or "unnamed"


def status_key(name: str) -> str:
    return f"{STATUS_PREFIX}{name}.json"


def refused_key(name: str) -> str:
    return f"{STATUS_PREFIX}{name}.refused.json"


def report_key(name: str) -> str:
    return f"{REPORT_PREFIX}{name}.html"


def status_name(key: str) -> str | None:
    """The job's name in a status object's key; None for any other key, a refusal's too."""
    found = _STATUS_KEY.fullmatch(key)
    return found.group(1) if found else None


def receipts_prefix(month: str) -> str:
    """``month``: ``2026-11``."""
    return f"{RECEIPT_PREFIX}{month}/"


def receipt_key(accepted_at: datetime, job_id: str) -> str:
    return f"{receipts_prefix(f'{accepted_at.astimezone(UTC):%Y-%m}')}{job_id}.json"


def writer_of(role_id: str, instance_id: str) -> str:
    """The instance's ``aws:userid``. ``role_id`` is the instance role's unique id (``AROA...``)."""
    return f"{role_id}:{instance_id}"


def instance_of(writer: str) -> str:
    return writer.rsplit(":", 1)[-1]


def ticket_key(writer: str) -> str:
    return f"{TICKET_PREFIX}{writer}/ticket.json"


def stop_key(writer: str) -> str:
    return f"{TICKET_PREFIX}{writer}/stop.json"


def run_prefix(job_id: str, writer: str) -> str:
    return f"{RUN_PREFIX}{job_id}/{writer}/"


def heartbeat_key(job_id: str, writer: str) -> str:
    return run_prefix(job_id, writer) + HEARTBEAT_NAME


def marker_key(job_id: str, writer: str) -> str:
    return run_prefix(job_id, writer) + MARKER_NAME


def final_prefix(job_id: str, writer: str) -> str:
    return run_prefix(job_id, writer) + "final/"


def logs_prefix(job_id: str, writer: str) -> str:
    return run_prefix(job_id, writer) + "logs/"


def checkpoints_prefix(job_id: str, writer: str) -> str:
    return run_prefix(job_id, writer) + "checkpoints/"


def prepared_prefix(job_id: str, writer: str) -> str:
    return checkpoints_prefix(job_id, writer) + "prepared/"


def checkpoint_folder(step: int) -> str:
    """``step-00000120``: zero-padded, so that a plain listing is in order of steps."""
    return f"step-{step:08d}"


def checkpoint_prefix(job_id: str, writer: str, step: int) -> str:
    return f"{checkpoints_prefix(job_id, writer)}{checkpoint_folder(step)}/"


def parse_marker_key(key: str) -> MarkerKey | None:
    """The parts of a marker's key, or None where the key is not one."""
    found = _MARKER_KEY.fullmatch(key)
    if found is None:
        return None
    job_id, role_id, instance_id = found.groups()
    return MarkerKey(job_id, writer_of(role_id, instance_id), instance_id)


def checkpoint_step(key: str) -> int | None:
    """The step of a checkpoint manifest's key (``.../step-00000120/checkpoint.json``), or None for any other key."""
    found = _CHECKPOINT_KEY.fullmatch(key)
    return int(found.group(1)) if found else None
