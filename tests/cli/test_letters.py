"""What a dead letter is told by its form; whatever else lies in the queue is left alone and shown without harm."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control_plane.parsers import parse_mails
from dropforge.operate.letters import Letter, Unplaced, age_text, printable, read

EVENT = json.loads((Path(__file__).parents[2] / "events/manifest-created.json").read_text())
FUNCTION = "arn:aws:lambda:us-east-1:123456789012:function:well-SubmitFunction-1"
#: Lambda guide, "Retaining records of asynchronous invocations": the example record, with our function and payload.
RECORD = {
    "version": "1.0",
    "timestamp": "2019-11-14T18:16:05.568Z",
    "requestContext": {
        "requestId": "e4b46cbf-b738-xmpl-8880-a18cdf61200e",
        "functionArn": f"{FUNCTION}:$LATEST",
        "condition": "RetriesExhausted",
        "approximateInvokeCount": 3,
    },
    "requestPayload": EVENT,
    "responseContext": {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"},
    "responsePayload": {"errorType": "StaleVersion", "errorMessage": "job a-1: others took its name"},
}
#: SNS guide, "Amazon SNS message delivery": what a subscriber that is no function gets, and so the queue.
NOTIFICATION = {
    "Type": "Notification",
    "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
    "TopicArn": "arn:aws:sns:us-east-1:123456789012:BudgetTopic",
    "Subject": "AWS Budgets: well-monthly has exceeded your alert threshold",
    "Message": "Budget Name: well-monthly",
    "Timestamp": "2012-05-02T00:54:06.655Z",
    "SignatureVersion": "1",
    "Signature": "x",
    "SigningCertURL": "https://sns.us-east-1.amazonaws.com/x.pem",
    "UnsubscribeURL": "https://sns.us-east-1.amazonaws.com/?Action=Unsubscribe",
}


def test_a_failed_invocation_goes_back_to_its_function_with_what_it_got() -> None:
    letter = read(json.dumps(RECORD), {})
    assert isinstance(letter, Letter)
    assert (letter.kind, letter.function_arn, letter.payload) == ("failed invocation", FUNCTION, EVENT)
    assert letter.why == "StaleVersion: job a-1: others took its name"
    assert letter.what.startswith("aws.s3 Object Created jobs/")


def test_an_invocation_that_expired_has_no_answer_and_says_the_condition() -> None:
    context = RECORD["requestContext"] | {"condition": "EventAgeExceeded"}  # type: ignore[operator]
    letter = read(json.dumps({key: value for key, value in RECORD.items() if key != "responsePayload"} | {"requestContext": context}), {})
    assert isinstance(letter, Letter)
    assert letter.why == "EventAgeExceeded"


@pytest.mark.parametrize("source", ["RULE_ARN", "SCHEDULE_ARN"])
def test_an_undelivered_event_goes_to_the_target_that_did_not_get_it(source: str) -> None:
    letter = read(json.dumps(EVENT), {source: "arn:x", "TARGET_ARN": FUNCTION, "ERROR_CODE": "NO_PERMISSIONS", "ERROR_MESSAGE": "not authorized"})
    assert isinstance(letter, Letter)
    assert (letter.kind, letter.function_arn, letter.payload, letter.why) == ("undelivered event", FUNCTION, EVENT, "NO_PERMISSIONS not authorized")


def test_an_undelivered_message_gets_the_envelope_that_its_function_reads() -> None:
    letter = read(json.dumps(NOTIFICATION), {"ErrorCode": "AccessDenied", "ErrorMessage": "may not invoke"})
    assert isinstance(letter, Letter)
    assert (letter.topic_arn, letter.function_arn, letter.why) == (NOTIFICATION["TopicArn"], "", "may not invoke")
    (mail,) = parse_mails(letter.payload)
    assert (mail.subject, mail.message) == (NOTIFICATION["Subject"], NOTIFICATION["Message"])
    sample = json.loads((Path(__file__).parents[2] / "events/budget-mail-sns.json").read_text())["Records"][0]["Sns"]
    assert set(sample) - set(letter.payload["Records"][0]["Sns"]) == set()


@pytest.mark.parametrize(
    ("body", "attributes", "said"),
    [
        ("no json", {}, "not JSON"),
        ("[1]", {}, "not a JSON object"),
        ("{}", {}, "neither Lambda's"),
        (json.dumps({"requestContext": {}, "requestPayload": {}}), {}, "names no function"),
        (json.dumps(EVENT), {"RULE_ARN": "x", "TARGET_ARN": "arn:aws:sqs:us-east-1:123456789012:q"}, "no function"),
        (json.dumps(EVENT), {"RULE_ARN": "x"}, "no target"),
        (json.dumps(EVENT), {"TARGET_ARN": FUNCTION}, "neither Lambda's"),
    ],
)
def test_what_has_no_known_form_is_unplaced_with_the_reason(body: str, attributes: dict[str, str], said: str) -> None:
    letter = read(body, attributes)
    assert isinstance(letter, Unplaced)
    assert said in letter.why


_json = st.recursive(st.none() | st.booleans() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10)
_keys = st.sampled_from(["requestContext", "requestPayload", "responsePayload", "functionArn", "Type", "TopicArn", "detail", "source", "object", "Records"])


@settings(max_examples=60)
@given(
    st.text() | st.builds(json.dumps, st.dictionaries(_keys, _json | st.dictionaries(_keys, _json))),
    st.dictionaries(st.sampled_from(["RULE_ARN", "TARGET_ARN"]), st.text()),
)
def test_whatever_lies_in_the_queue_is_read_and_shown_as_one_printable_line(body: str, attributes: dict[str, str]) -> None:
    letter = read(body, attributes)
    shown = [letter.why] if isinstance(letter, Unplaced) else [letter.what, letter.why]
    assert all(text.isprintable() for text in shown)


def test_terminal_codes_do_not_reach_the_terminal() -> None:
    assert printable("a\x1b[31m\nb\u202ec") == "a [31m b c"


@pytest.mark.parametrize(("ago_s", "text"), [(0, "0h0m"), (3700, "1h1m"), (90_000, "1d1h"), (-100, "0h0m")])
def test_the_age_of_a_letter_is_said_shortly(ago_s: int, text: str) -> None:
    now = datetime(2026, 11, 25, tzinfo=UTC)
    assert age_text(str(int((now.timestamp() - ago_s) * 1000)), now) == text
    assert age_text("", now) == "?"


def as_attributes(attributes: dict[str, str]) -> dict[str, Any]:
    """For SendMessage."""
    return {name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()}
