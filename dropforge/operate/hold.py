"""Pausing and resuming new launches: a request on the bus, and a look at the record for what became of it.

Asked is not done: the control plane sets the hold, and until the record shows it nothing is held.
"""

import time
from datetime import UTC, datetime, timedelta
from typing import Literal

import click

from dropforge.stack import Deployment
from jobspec.operator import DETAIL_TYPE, HOLD_ATTRIBUTE, HOLD_KEY, SOURCE, Hold, OperatorRequest

#: EventBridge, a cold start and a write take a few seconds.
CONFIRMED_WITHIN_S = 30.0
LOOK_EVERY_S = 0.5


def stored_hold(stack: Deployment) -> Hold | None:
    """The hold on record, in force or not."""
    item = stack.client("dynamodb").get_item(TableName=stack.physical_id("JobTable"), Key=HOLD_KEY, ConsistentRead=True).get("Item")
    return None if item is None else Hold.model_validate_json(item[HOLD_ATTRIBUTE]["S"])


def request_of(stack: Deployment, action: Literal["pause", "resume"], reason: str, lasting: timedelta | None = None) -> OperatorRequest:
    """The request, in the caller's name. Raises pydantic's ValidationError (a ValueError) for a reason that is not one printable line."""
    now = datetime.now(UTC)
    asked_by = str(stack.client("sts").get_caller_identity()["Arn"])[:200]
    until = now + lasting if lasting is not None else None
    return OperatorRequest(project=stack.name, action=action, asked_by=asked_by, asked_at=now, reason=reason, until=until)


def put(stack: Deployment, request: OperatorRequest) -> None:
    """Raises ClickException where the bus did not take it: PutEvents answers 200 even then."""
    entry = {"Source": SOURCE, "DetailType": DETAIL_TYPE, "Detail": request.model_dump_json()}
    answer = stack.client("events").put_events(Entries=[entry])
    if answer["FailedEntryCount"]:
        failed = answer["Entries"][0]
        raise click.ClickException(f"EventBridge did not take the request: {failed.get('ErrorCode')}: {failed.get('ErrorMessage')}")


def is_done(stack: Deployment, request: OperatorRequest) -> bool:
    held = stored_hold(stack)
    if request.action == "pause":
        return held is not None and held.since >= request.asked_at
    return held is None or not held.holds_at(request.asked_at)


def confirmed(stack: Deployment, request: OperatorRequest, within_s: float = CONFIRMED_WITHIN_S) -> bool:
    """Whether the record shows what was asked, within some seconds."""
    end = time.monotonic() + within_s
    while not is_done(stack, request):
        if time.monotonic() >= end:
            return False
        time.sleep(LOOK_EVERY_S)
    return True
