"""Sends dead letters again: each is given to its function once more, and deleted only when Lambda has taken it.

Handling is level-triggered and idempotent, so a letter that is sent twice does no harm; one that is deleted unsent is lost.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Literal

from botocore.exceptions import BotoCoreError, ClientError

from dropforge.operate.letters import Letter, Unplaced, age_text, printable, read
from dropforge.stack import Deployment

#: While one person looks, another sees nothing; an interrupted run gives the letters back after this.
HIDDEN_S = 300
#: An asynchronous invocation takes this much (Lambda quotas); a larger payload could never have been one.
MAX_PAYLOAD_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Outcome:
    """One letter and what became of it. ``stays``: why it is still in the queue, for a person."""

    message_id: str
    age: str
    kind: str
    function: str
    what: str
    why: str
    did: Literal["sent", "would send", "stays"]
    stays: str = ""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def redrive(stack: Deployment, *, dry_run: bool, limit: int) -> Iterator[Outcome]:
    """Every letter that the queue shows, at most ``limit``, with what became of it. What stays is visible again at the end."""
    sqs, queue = stack.client("sqs"), stack.physical_id("DeadLetters")
    kept: list[str] = []
    seen: set[str] = set()
    try:
        for message in _received(sqs, queue, limit):
            if message["MessageId"] in seen:
                # A long run: it was hidden for its time and has come back.
                kept.append(message["ReceiptHandle"])
                continue
            seen.add(message["MessageId"])
            outcome = _again(stack, message, dry_run=dry_run)
            if outcome.did == "sent":
                sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
            else:
                kept.append(message["ReceiptHandle"])
            yield outcome
    finally:
        for handle in kept:
            sqs.change_message_visibility(QueueUrl=queue, ReceiptHandle=handle, VisibilityTimeout=0)


def _received(sqs: Any, queue: str, limit: int) -> Iterator[dict[str, Any]]:
    """Each letter once, until the queue shows no more. Long polling asks every server of the queue (SQS guide)."""
    seen = 0
    while seen < limit:
        answer = sqs.receive_message(
            QueueUrl=queue,
            MaxNumberOfMessages=min(10, limit - seen),
            VisibilityTimeout=HIDDEN_S,
            WaitTimeSeconds=2,
            MessageAttributeNames=["All"],
            MessageSystemAttributeNames=["SentTimestamp"],
        )
        messages = answer.get("Messages", [])
        if not messages:
            return
        seen += len(messages)
        yield from messages


def _again(stack: Deployment, message: dict[str, Any], *, dry_run: bool) -> Outcome:
    attributes = {name: str(value.get("StringValue", "")) for name, value in message.get("MessageAttributes", {}).items()}
    letter = read(message["Body"], attributes)
    age = age_text(message.get("Attributes", {}).get("SentTimestamp", ""), datetime.now(UTC))
    if isinstance(letter, Unplaced):
        return Outcome(message["MessageId"], age, "unplaced", "", "", "", "stays", letter.why)
    outcome = partial(Outcome, message["MessageId"], age, letter.kind)
    place = _function_of(stack, letter)
    if place is None:
        return outcome(
            "",
            letter.what,
            letter.why,
            "stays",
            f"{printable(letter.function_arn or letter.topic_arn)} is no function of {stack.name}, nor a topic with one function that listens",
        )
    logical_id, name = place
    if dry_run:
        return outcome(logical_id, letter.what, letter.why, "would send")
    payload = json.dumps(letter.payload).encode()
    if len(payload) > MAX_PAYLOAD_BYTES:
        return outcome(logical_id, letter.what, letter.why, "stays", f"{len(payload)} bytes are more than an asynchronous invocation takes")
    try:
        status = stack.client("lambda").invoke(FunctionName=name, InvocationType="Event", Payload=payload)["StatusCode"]
    except (ClientError, BotoCoreError) as error:
        return outcome(logical_id, letter.what, letter.why, "stays", printable(str(error)))
    if status != 202:
        return outcome(logical_id, letter.what, letter.why, "stays", f"Lambda answered {status}, not 202")
    return outcome(logical_id, letter.what, letter.why, "sent")


def _function_of(stack: Deployment, letter: Letter) -> tuple[str, str] | None:
    """Logical id and name of this stack's function that the letter is for; None for any other."""
    arns = {facts["FunctionArn"]: (logical_id, facts["FunctionName"]) for logical_id, facts in stack.functions.items()}
    if letter.function_arn:
        return arns.get(letter.function_arn)
    if letter.topic_arn not in {topic.physical_id for topic in stack.of_kind("AWS::SNS::Topic")}:
        return None
    pages = stack.client("sns").get_paginator("list_subscriptions_by_topic").paginate(TopicArn=letter.topic_arn)
    listening = {item["SubscriptionArn"]: item["Endpoint"] for page in pages for item in page["Subscriptions"] if item["Endpoint"] in arns}
    if len(listening) > 1:
        # Two functions listen; the letter says whose it is in its address for unsubscribing.
        listening = {arn: endpoint for arn, endpoint in listening.items() if arn == letter.subscription_arn}
    return arns[next(iter(listening.values()))] if len(listening) == 1 else None
