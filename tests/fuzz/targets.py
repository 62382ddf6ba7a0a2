"""What is fuzzed: each target takes any bytes and raises AssertionError where a reader breaks its promise.

The promises: no exception but the documented refusal; a refusal is short and printable; what is accepted survives a round
trip; no text of the input leaves as anything but printable ASCII on one line. A target returns what the reader said, in a
few words, which the engine takes as coverage: pydantic's own branches lie in Rust, where no Python tracer sees them.
"""

import json
import re
from collections.abc import Callable
from typing import Any

from control_plane.adapters.letters import refuse_unsendable
from control_plane.core.budget import BudgetAlert, parse_budget_mail
from control_plane.core.events import Ignored
from control_plane.parsers import (
    Mail,
    parse_budget_event,
    parse_interruption_event,
    parse_mails,
    parse_manifest_event,
    parse_marker_event,
    parse_state_event,
    parse_status_event,
)
from control_plane.ports import Letter
from jobspec import keys, wire
from jobspec.base import JOB_ID_PATTERN, NAME_PATTERN, Document
from jobspec.checkpoint import CheckpointManifest
from jobspec.heartbeat import Heartbeat
from jobspec.manifest import Manifest
from jobspec.marker import CompletionMarker
from jobspec.prepared import PreparedManifest
from jobspec.problems import MAX_PROBLEMS, render_problems
from jobspec.reading import Refusal, read_manifest
from jobspec.runfile import Progress, RunFile
from jobspec.status import Status
from jobspec.ticket import StopOrder, Ticket
from tests.fuzz.letters import CANARY, letter_about, text_of

Target = Callable[[bytes], str]

BUCKET, PROJECT = "dropforge-databucket-example", "dropforge"
_PRINTABLE = re.compile(r"[ -~]*")
_PRINTABLE_LINES = re.compile(r"[ -~\n]*")


def manifest(body: bytes) -> str:
    """What lies under ``jobs/``."""
    answer = read_manifest(body)
    if isinstance(answer, Manifest):
        assert wire.load(Manifest, wire.dump(answer)) == answer, "an accepted manifest does not survive a round trip"
        assert re.fullmatch(NAME_PATTERN, answer.name), answer.name
        return "accepted"
    assert isinstance(answer, Refusal)
    assert 1 <= len(answer.problems) <= MAX_PROBLEMS
    text = render_problems(answer.problems)
    assert _PRINTABLE_LINES.fullmatch(text), "a refusal holds what is not printable ASCII"
    assert len(text) < 40_000, "a refusal is long"
    assert answer.name is None or re.fullmatch(NAME_PATTERN, answer.name)
    return re.sub(r"[0-9]+", "0", answer.problems[0].message)


def document(model: type[Document]) -> Target:
    """A target for one JSON document of the contract."""

    def target(body: bytes) -> str:
        try:
            read = wire.load(model, body)
        except wire.UnreadableDocument as refused:
            said = str(refused)
            assert _PRINTABLE.fullmatch(said), f"a refusal holds what is not printable ASCII: {said!r}"
            assert len(said) < 400, "a refusal is long"
            # An unknown key is the input's own text, and no news.
            return "unknown key" if "Extra inputs" in said else re.sub(r"[0-9]+", "0", said)
        written = wire.dump(read)
        assert wire.load(model, written) == read, "an accepted document does not survive a round trip"
        assert wire.dump(wire.load(model, written)) == written, "writing is not stable"
        return "accepted"

    return target


def _refused(answer: Ignored) -> str:
    assert _PRINTABLE.fullmatch(answer.reason), f"a reason holds what is not printable ASCII: {answer.reason!r}"
    assert len(answer.reason) < 300, "a reason is long"
    return answer.reason.partition(":")[0]


def events(body: bytes) -> str:
    """What EventBridge or SNS hands to a function, through every parser: each function hears what is not for it, too."""
    try:
        event = json.loads(body)
    except (ValueError, RecursionError):
        return "no JSON"  # Lambda's runtime never calls a function with it
    said = []
    for answer in (
        parse_manifest_event(event, BUCKET),
        parse_marker_event(event, BUCKET),
        parse_status_event(event, BUCKET),
        parse_interruption_event(event),
        parse_state_event(event),
        parse_budget_event(event, PROJECT),
    ):
        said.append(_refused(answer) if isinstance(answer, Ignored) else _taken(answer))
    for mail in parse_mails(event):
        assert isinstance(mail, Mail)
        said.append(budget_alert(parse_budget_mail(PROJECT, mail.subject, mail.message)))
    return "|".join(said)


def _taken(answer: Any) -> str:
    """Whatever a parser lets through is safe to hand on: to S3, to DynamoDB, to a log."""
    match answer:
        case keys.MarkerKey(job_id=job_id, writer=writer, instance_id=instance_id):
            assert re.fullmatch(JOB_ID_PATTERN, job_id)
            assert keys.parse_marker_key(keys.marker_key(job_id, writer)) == answer
            assert instance_id == keys.instance_of(writer)
        case BudgetAlert():
            return budget_alert(answer)
        case str():
            assert keys.status_name(keys.status_key(answer)) == answer
        case _:
            key = getattr(answer, "key", None)
            if key is not None:
                assert 0 < len(key.encode()) <= 1024, "no key that S3 could hold"
                assert re.fullmatch(NAME_PATTERN, keys.name_from_key(key))
            else:
                assert re.fullmatch(r"i-[0-9a-f]{8,17}", answer.instance_id), answer
    return type(answer).__name__


def budget_alert(alert: BudgetAlert) -> str:
    """An alert, from AWS's mail or from the bus, goes into a subject, a body and a log line."""
    assert BudgetAlert.model_validate(json.loads(json.dumps(alert.model_dump()))) == alert, "an alert does not survive the bus"
    for text in (alert.project, alert.origin, alert.budget_name, alert.alert_type, alert.job_id):
        assert _PRINTABLE.fullmatch(text), f"an alert's line is not printable ASCII: {text!r}"
    assert _PRINTABLE_LINES.fullmatch(alert.message), f"an alert's message is not printable ASCII: {alert.message!r}"
    return f"{alert.alert_type} {alert.amount_usd is None} {alert.budgeted_usd is None} {alert.is_spent}"


def budget_mail(body: bytes) -> str:
    """AWS Budgets' plain text; the first line stands for the subject."""
    subject, _, message = text_of(body).partition("\n")
    return budget_alert(parse_budget_mail(PROJECT, subject, message))


def letter(body: bytes) -> str:
    """An e-mail about a job whose every text a stranger wrote."""
    kind, subject, text = letter_about(body)
    refuse_unsendable(Letter("n", subject, text, {}))
    assert _PRINTABLE_LINES.fullmatch(text), "an e-mail's body is not printable ASCII"
    # A text of the stranger's is on one line with our own words before it: it can begin none.
    for line in text.splitlines():
        assert not line.startswith(CANARY), f"a stranger's text begins a line: {line!r}"
    return kind


def key(body: bytes) -> str:
    """An object's key, as S3 may hold it."""
    text = body.decode("utf-8", "replace")
    assert re.fullmatch(NAME_PATTERN, keys.name_from_key(text))
    found = keys.parse_marker_key(text)
    if found is not None:
        assert keys.marker_key(found.job_id, found.writer) == text
    step = keys.checkpoint_step(text)
    assert step is None or step >= 0
    return f"{found is not None} {step is not None} {keys.is_manifest_key(text)}"


TARGETS: dict[str, Target] = {
    "manifest": manifest,
    "marker": document(CompletionMarker),
    "ticket": document(Ticket),
    "heartbeat": document(Heartbeat),
    "stop-order": document(StopOrder),
    "status": document(Status),
    "checkpoint": document(CheckpointManifest),
    "prepared": document(PreparedManifest),
    "run-file": document(RunFile),
    "progress": document(Progress),
    "events": events,
    "budget-mail": budget_mail,
    "letter": letter,
    "key": key,
}
