"""What a person asks of the whole project: new launches paused, or resumed. It travels as an event on the default bus.

The command line puts it, the control plane's operator door takes it, so that a person's word goes the way of every other
one: into the record, logged, under the functions' own rights. A rule matches it by ``SOURCE``, ``DETAIL_TYPE`` and
``detail.project``; who may put it is a matter of IAM (``events:PutEvents`` with the condition
``events:source``).

The bus keeps no order, may deliver twice and tries again for a day, so a request carries the time at which it was asked:
a door drops one that nobody waits for any more (``is_stale``), and one that a newer pause has overtaken (``is_older_than``).
"""

from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, ValidationError, model_validator

from jobspec.base import Document, UtcTime

SOURCE = "dropforge.operator"
DETAIL_TYPE = "Operator Request"
#: Where the hold lies in the job table: the item's key, and its attribute with the document.
HOLD_KEY = {"pk": {"S": "PROJECT#hold"}}
HOLD_ATTRIBUTE = "body"

#: Who asked has been told by then that it did not work, and has done something else.
REQUEST_LIFE = timedelta(minutes=10)

#: A stack's name (CloudFormation guide: a letter, then letters, digits and hyphens, 128 in all).
ProjectName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9-]{0,127}$")]
#: Printable, one line: it goes into status objects, logs and e-mails.
OneLine = Annotated[str, StringConstraints(pattern=r"^[\x20-\x7e]*$", max_length=200)]


class NotARequest(ValueError):
    """An event that is no operator's request to this project; the message says why, in one line."""


class Hold(Document):
    """The project starts nothing new until ``until`` (None: until a person resumes it)."""

    reason: str
    since: UtcTime
    until: UtcTime | None = None

    def holds_at(self, now: datetime) -> bool:
        return self.until is None or now < self.until


class OperatorRequest(Document):
    """``pause`` sets the hold, in place of any other; ``resume`` lifts it, whoever set it."""

    project: ProjectName
    action: Literal["pause", "resume"]
    #: Who asked: the caller's ARN, as STS tells it. For people; nothing is decided by it.
    asked_by: OneLine
    asked_at: UtcTime
    #: Why; a paused job's status shows it.
    reason: OneLine = Field(min_length=1)
    #: With ``pause``: when the hold ends by itself. None: when somebody resumes.
    until: UtcTime | None = None

    @model_validator(mode="after")
    def _until_belongs_to_a_pause(self) -> "OperatorRequest":
        if self.until is not None and self.action != "pause":
            raise ValueError("until is for a pause")
        if self.until is not None and self.until <= self.asked_at:
            raise ValueError("until is not after asked_at")
        return self

    def hold(self) -> Hold:
        """The hold to store. A resume's is over as it begins: it stays on record, so that an older pause that comes late finds it."""
        if self.action == "pause":
            return Hold(reason=f"paused: {self.reason}", since=self.asked_at, until=self.until)
        return Hold(reason="resumed", since=self.asked_at, until=self.asked_at)

    def is_stale(self, now: datetime) -> bool:
        return now - self.asked_at > REQUEST_LIFE

    def is_older_than(self, current: Hold | None) -> bool:
        """True where the stored hold was asked for after this request: then it stays as it is."""
        return current is not None and current.since > self.asked_at


def parse_request(event: Any, project: str) -> OperatorRequest:
    """The request in an EventBridge event. Raises NotARequest for anything but a valid one to this project."""
    if not isinstance(event, dict) or event.get("source") != SOURCE or event.get("detail-type") != DETAIL_TYPE:
        raise NotARequest(f"not {SOURCE} {DETAIL_TYPE}")
    try:
        request = OperatorRequest.model_validate(event.get("detail"))
    except ValidationError as error:
        raise NotARequest(f"not an operator's request: {error.error_count()} field(s) wrong") from None
    if request.project != project:
        raise NotARequest("another project's request")
    return request
