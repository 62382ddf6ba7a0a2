"""What a letter in the dead-letter queue is, and what its function must be given to do it again. No calls: text in, text out.

Four hands put letters there, and each has its own form:

* Lambda, after its retries of an asynchronous invocation: a record with the function's ARN and the payload (Lambda guide,
  "Retaining records of asynchronous invocations", on-failure destination).
* EventBridge, when a rule's target cannot be reached: the event as the body, the why in message attributes (EventBridge
  guide, "Using dead-letter queues").
* EventBridge Scheduler: the payload as the body, attributes likewise, with the schedule's ARN (Scheduler guide, the same title).
* SNS, when a subscriber cannot be reached: the notification as the body (SNS guide, "Dead-letter queues"); the function gets
  it in the envelope that it knows (Lambda guide, "Using AWS Lambda with Amazon SNS").
"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

#: A letter is shown to a person, in one line; some of it was written by strangers.
SHOWN_CHARACTERS = 160


@dataclass(frozen=True, slots=True)
class Letter:
    """A letter that can be placed. ``function_arn``: whose it is, or empty where ``topic_arn`` says it. ``payload``: what to invoke it with."""

    kind: str
    what: str
    why: str
    payload: Any
    function_arn: str = ""
    topic_arn: str = ""
    subscription_arn: str = ""


@dataclass(frozen=True, slots=True)
class Unplaced:
    """A letter of no known form: it stays in the queue."""

    why: str


def read(body: str, attributes: dict[str, str]) -> Letter | Unplaced:
    """The letter in a message's body and (string) message attributes."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return Unplaced(f"its body is not JSON: {printable(body)}")
    if not isinstance(content, dict):
        return Unplaced(f"its body is not a JSON object: {printable(body)}")
    if "requestContext" in content and "requestPayload" in content:
        return _from_lambda(content)
    if "RULE_ARN" in attributes or "SCHEDULE_ARN" in attributes:
        return _from_eventbridge(content, attributes)
    if content.get("Type") == "Notification" and isinstance(content.get("TopicArn"), str):
        return _from_sns(content, attributes)
    return Unplaced(f"it is neither Lambda's, EventBridge's nor SNS's: {printable(body)}")


def _from_lambda(content: dict[str, Any]) -> Letter | Unplaced:
    context = content["requestContext"]
    arn = context.get("functionArn") if isinstance(context, dict) else None
    if not isinstance(arn, str) or not arn:
        return Unplaced("a record of a failed invocation that names no function")
    answer = content.get("responsePayload")
    error = f"{answer.get('errorType', 'Error')}: {answer.get('errorMessage', '')}" if isinstance(answer, dict) else str(context.get("condition", ""))
    # arn:...:function:NAME:QUALIFIER; the unqualified function is invoked, as its rule does.
    arn = ":".join(arn.split(":")[:7])
    return Letter("failed invocation", told(content["requestPayload"]), printable(error), content["requestPayload"], function_arn=arn)


def _from_eventbridge(content: dict[str, Any], attributes: dict[str, str]) -> Letter | Unplaced:
    target = attributes.get("TARGET_ARN", "")
    if ":function:" not in target:
        return Unplaced(f"a letter for {printable(target) or 'no target'}, which is no function")
    why = printable(" ".join(filter(None, (attributes.get("ERROR_CODE", ""), attributes.get("ERROR_MESSAGE", "")))))
    return Letter("undelivered event", told(content), why, content, function_arn=":".join(target.split(":")[:7]))


def _from_sns(content: dict[str, Any], attributes: dict[str, str]) -> Letter:
    renamed = {"SigningCertURL": "SigningCertUrl", "UnsubscribeURL": "UnsubscribeUrl"}
    note = {renamed.get(key, key): value for key, value in content.items()}
    note.setdefault("MessageAttributes", {})
    record = {"EventSource": "aws:sns", "EventVersion": "1.0", "EventSubscriptionArn": "", "Sns": note}
    why = printable(attributes.get("ErrorMessage", "") or attributes.get("ErrorCode", ""))
    what = printable(str(content.get("Subject") or "a message"))
    return Letter("undelivered message", what, why, {"Records": [record]}, topic_arn=content["TopicArn"], subscription_arn=_subscription_in(content))


def _subscription_in(content: dict[str, Any]) -> str:
    """From ``UnsubscribeURL``, ``...?Action=Unsubscribe&SubscriptionArn=...`` (SNS guide, "Parsing Amazon SNS message formats"); empty where it is none."""
    try:
        return parse_qs(urlsplit(str(content.get("UnsubscribeURL", ""))).query).get("SubscriptionArn", [""])[0]
    except ValueError:
        return ""


def told(event: Any) -> str:
    """An event in a few words: what it is and what it is about."""
    if not isinstance(event, dict):
        return printable(json.dumps(event))
    if isinstance(event.get("Records"), list):
        return f"{len(event['Records'])} SNS record(s)"
    detail = event.get("detail")
    about = ""
    if isinstance(detail, dict):
        item = detail.get("object")
        about = str(item.get("key", "")) if isinstance(item, dict) else str(detail.get("instance-id") or detail.get("job_id") or "")
    return printable(" ".join(filter(None, (str(event.get("source", "")), str(event.get("detail-type", "")), about)))) or printable(json.dumps(event))


def age_text(sent_ms: str, now: datetime) -> str:
    """How long ago, from SQS's SentTimestamp (milliseconds since 1970)."""
    if not sent_ms.isdigit():
        return "?"
    minutes = max(0, int((now - datetime.fromtimestamp(int(sent_ms) / 1000, UTC)).total_seconds() // 60))
    return f"{minutes // 1440}d{minutes % 1440 // 60}h" if minutes >= 1440 else f"{minutes // 60}h{minutes % 60}m"


def printable(text: str) -> str:
    """At most a line of it, without what a terminal would act on."""
    clean = "".join(character if character.isprintable() else " " for character in text[: SHOWN_CHARACTERS * 2])
    return " ".join(clean.split())[:SHOWN_CHARACTERS]
