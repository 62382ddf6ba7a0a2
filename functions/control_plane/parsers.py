"""Raw AWS events in, core events out; whatever is not for us becomes ``Ignored`` with its reason. One small parser an event.

Events come from AWS, from people's test files and from replays: every field is taken as untrusted, and only those that
are needed are read. The ARN in ``resources`` may hold a zone for a region (aws.md), so ids come from ``detail``.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from control_plane.core.events import Ignored, InstanceChanged, InterruptionWarned, RebalanceRecommended
from control_plane.core.webhooks import Told
from jobspec import keys
from jobspec.problems import shown

if TYPE_CHECKING:
    from control_plane.core.budget import BudgetAlert

_INSTANCE_ID = re.compile(keys.INSTANCE_ID_PATTERN)
INSTANCE_STATES = frozenset({"pending", "running", "stopping", "stopped", "shutting-down", "terminated"})


@dataclass(frozen=True, slots=True)
class ManifestTouched:
    bucket: str
    key: str


@dataclass(frozen=True, slots=True)
class Mail:
    """One SNS message."""

    subject: str
    message: str


def _named(value: Any) -> str:
    """A value as a log line may hold it; what is no text is named by its kind, whatever it holds."""
    if value is None:
        return "(none)"
    return shown(value)[:60] if isinstance(value, str) else type(value).__name__


def _detail(event: Any, source: str, *detail_types: str) -> dict[str, Any] | Ignored:
    if not isinstance(event, dict):
        return Ignored("not an event: not a JSON object")
    if "source" not in event and "Records" in event:
        # As `sam local generate-event` makes them, and as they come where somebody has put SNS or SQS between.
        return Ignored("not an event of EventBridge but a list of Records (a bucket's own notification, SNS or SQS): events/ has samples of what is heard")
    if event.get("source") != source or event.get("detail-type") not in detail_types:
        return Ignored(f"not {source} {' or '.join(detail_types)}: {_named(event.get('source'))} {_named(event.get('detail-type'))}")
    detail = event.get("detail")
    return detail if isinstance(detail, dict) else Ignored("the event has no detail")


def _is_key(key: str) -> bool:
    """S3: 1 to 1024 bytes of UTF-8 (user guide, "Naming objects"). JSON can also say half a surrogate pair, which is none."""
    try:
        return 0 < len(key.encode()) <= 1024
    except UnicodeEncodeError:
        return False


def _object(event: Any, *detail_types: str) -> ManifestTouched | Ignored:
    detail = _detail(event, "aws.s3", *detail_types)
    if isinstance(detail, Ignored):
        return detail
    bucket, item = detail.get("bucket"), detail.get("object")
    name = bucket.get("name") if isinstance(bucket, dict) else None
    key = item.get("key") if isinstance(item, dict) else None
    if not (isinstance(name, str) and isinstance(key, str) and name and _is_key(key)):
        return Ignored("the event names no object")
    return ManifestTouched(name, key)


def parse_manifest_event(event: Any, data_bucket: str) -> ManifestTouched | Ignored:
    """S3 Object Created or Object Deleted under ``jobs/``."""
    touched = _object(event, "Object Created", "Object Deleted")
    if isinstance(touched, Ignored):
        return touched
    if touched.bucket != data_bucket or not touched.key.startswith(keys.MANIFEST_PREFIX):
        return Ignored(f"not under {keys.MANIFEST_PREFIX} of this stack's data bucket")
    return touched


def parse_status_event(event: Any, data_bucket: str) -> str | Ignored:
    """S3 Object Created of a job's status: the job's name. That of a refused manifest is no job's."""
    touched = _object(event, "Object Created")
    if isinstance(touched, Ignored):
        return touched
    name = keys.status_name(touched.key) if touched.bucket == data_bucket else None
    return name or Ignored("not a job's status of this stack")


def parse_marker_event(event: Any, outputs_bucket: str) -> keys.MarkerKey | Ignored:
    """S3 Object Created of a completion marker."""
    touched = _object(event, "Object Created")
    if isinstance(touched, Ignored):
        return touched
    marker = keys.parse_marker_key(touched.key) if touched.bucket == outputs_bucket else None
    return marker or Ignored("not a completion marker of this stack")


def _instance_id(detail: dict[str, Any]) -> str | Ignored:
    instance_id = detail.get("instance-id")
    if isinstance(instance_id, str) and _INSTANCE_ID.fullmatch(instance_id):
        return instance_id
    return Ignored("the event names no instance")


def parse_interruption_event(event: Any) -> InterruptionWarned | RebalanceRecommended | Ignored:
    """Spot warning (whatever its instance-action: the work is lost either way) or rebalance recommendation."""
    warning, rebalance = "EC2 Spot Instance Interruption Warning", "EC2 Instance Rebalance Recommendation"
    detail = _detail(event, "aws.ec2", warning, rebalance)
    if isinstance(detail, Ignored):
        return detail
    instance_id = _instance_id(detail)
    if isinstance(instance_id, Ignored):
        return instance_id
    return InterruptionWarned(instance_id) if event["detail-type"] == warning else RebalanceRecommended(instance_id)


def parse_state_event(event: Any) -> InstanceChanged | Ignored:
    """EC2 Instance State-change Notification. It does not say why."""
    detail = _detail(event, "aws.ec2", "EC2 Instance State-change Notification")
    if isinstance(detail, Ignored):
        return detail
    instance_id, state = _instance_id(detail), detail.get("state")
    if isinstance(instance_id, Ignored):
        return instance_id
    return InstanceChanged(instance_id, state) if isinstance(state, str) and state in INSTANCE_STATES else Ignored(f"no state of EC2's: {_named(state)}")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def parse_mails(event: Any) -> tuple[Mail, ...]:
    """The messages of an SNS event; none where it is not one."""
    return tuple(Mail(_text(note.get("Subject")), _text(note.get("Message"))) for note in _notes(event))


def _notes(event: Any) -> list[dict[str, Any]]:
    records = event.get("Records") if isinstance(event, dict) else None
    notes = [record.get("Sns") for record in records if isinstance(record, dict)] if isinstance(records, list) else []
    return [note for note in notes if isinstance(note, dict)]


#: As ``core.closing.owe`` makes them: the job, the kind, and the attempt where it speaks of one. A letter of the project's has a time there.
_JOBS_NOTICE = re.compile(r"[a-z0-9][a-z0-9-]{0,62}#[a-z]+(#[0-9]{1,6})?")


@dataclass(frozen=True, slots=True)
class Published:
    """A notice that the topic delivered; ``message_id`` is SNS's own, the same for every delivery of one publish."""

    notice_id: str
    message_id: str


def parse_published(event: Any) -> tuple[Published, ...]:
    """The jobs' notices in an SNS event; alarms and project letters carry no ``notice_id`` of a job's and are left out."""
    found = []
    for note in _notes(event):
        attributes = note.get("MessageAttributes")
        attribute = attributes.get("notice_id") if isinstance(attributes, dict) else None
        notice_id = attribute.get("Value") if isinstance(attribute, dict) else None
        message_id = note.get("MessageId")
        if isinstance(notice_id, str) and _JOBS_NOTICE.fullmatch(notice_id) and isinstance(message_id, str) and 0 < len(message_id) <= 100:
            found.append(Published(notice_id, message_id))
    return tuple(found)


def parse_told(event: Any) -> tuple[Told, ...]:
    """The messages of an SNS event for a person in a chat; an alarm's JSON in its own words."""
    return tuple(_told(note) for note in _notes(event) if 0 < len(_text(note.get("MessageId"))) <= 100)


def _told(note: dict[str, Any]) -> Told:
    attributes = note.get("MessageAttributes")
    facts = {name: _text(one.get("Value")) for name, one in attributes.items() if isinstance(one, dict)} if isinstance(attributes, dict) else {}
    text = _text(note.get("Message"))
    alarm = _alarm_in(text)
    if alarm is not None:
        text, facts = "\n".join(filter(None, (_text(alarm.get("AlarmDescription")), _text(alarm.get("NewStateReason"))))), {**facts, "kind": "alarm"}
    known = {name: facts[name] for name in ("project", "job", "kind", "state", "notice_id") if name in facts}
    return Told(note["MessageId"], _text(note.get("Timestamp")), _text(note.get("Subject")), text, known)


def _alarm_in(text: str) -> dict[str, Any] | None:
    """CloudWatch guide, "Notifying users on alarm changes": the message is a JSON object with the alarm's name."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and "AlarmName" in found else None


def parse_budget_event(event: Any, project: str) -> BudgetAlert | Ignored:
    """Our own Budget Alert, from the relay or from the ledger."""
    # Here, for all other events are parsed without a model.
    from pydantic import ValidationError

    from control_plane.core.budget import DETAIL_TYPE, SOURCE, BudgetAlert

    detail = _detail(event, SOURCE, DETAIL_TYPE)
    if isinstance(detail, Ignored):
        return detail
    try:
        alert = BudgetAlert.model_validate(detail)
    except ValidationError as error:
        return Ignored(f"not a budget alert: {error.error_count()} field(s) wrong")
    return alert if alert.project == project else Ignored("another project's budget")
