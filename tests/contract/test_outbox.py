"""Post and Bus: the same on every side, and what only SNS and EventBridge can answer."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from control_plane.adapters.clients import client as boto_client
from control_plane.adapters.errors import BusRefused
from control_plane.adapters.eventbridge import EventBridgeBus
from control_plane.adapters.sns import SnsPost
from control_plane.ports import Bus, Letter, Post, Refused, Throttled
from tests.contract.sides import MotoSide, Side

LETTER = Letter(
    "demo-1#end",
    "Dropforge: demo SUCCEEDED [demo-1#end]",
    "The model is at s3://outputs/runs/…\nIt cost $0.42.\n",
    {"project": "dropforge", "job": "demo", "kind": "end", "state": "SUCCEEDED"},
)

Delivered = tuple[str, str, dict[str, str]]
Event = tuple[str, str, dict[str, Any]]
#: Nobody's: no rule of a stack listens to it.
SOURCE = "dropforge.contract"


@pytest.fixture
def post_and_box(side: Side) -> tuple[Post, Callable[[], list[Delivered]]]:
    """A post office, and what its subscribers got: subject, body, attributes."""
    arn, box = side.topic()

    def delivered() -> list[Delivered]:
        return [(note["Subject"], note["Message"], {key: value["Value"] for key, value in note["MessageAttributes"].items()}) for note in box()]

    return SnsPost(side.client("sns"), arn), delivered


@pytest.fixture
def bus_and_target(side: Side) -> tuple[Bus, Callable[[], list[Event]]]:
    """A bus, and what a rule for our source brought to its target."""
    box = side.bus_target(SOURCE)
    return EventBridgeBus(side.client("events")), lambda: [(event["source"], event["detail-type"], event["detail"]) for event in box()]


def test_a_letter_arrives_once_with_its_attributes_and_its_id(post_and_box: tuple[Post, Callable[[], list[Delivered]]]) -> None:
    post, box = post_and_box
    post.publish(LETTER)
    assert box() == [(LETTER.subject, LETTER.body, {**LETTER.attributes, "notice_id": "demo-1#end"})]


def test_an_empty_attribute_does_not_stop_a_letter(post_and_box: tuple[Post, Callable[[], list[Delivered]]]) -> None:
    post, box = post_and_box
    post.publish(replace(LETTER, attributes={"job": ""}))
    assert [attributes for _, _, attributes in box()] == [{"notice_id": "demo-1#end"}]


@pytest.mark.parametrize(
    ("change", "limit"),
    [
        ({"subject": "x" * 101}, "100"),
        ({"subject": ""}, "100"),
        ({"subject": "Dropforge: naïve"}, "ASCII"),
        ({"subject": "two\nlines"}, "ASCII"),
        ({"subject": " x"}, "space"),
        ({"body": ""}, "262144"),
        ({"body": "ü" * 131_073}, "262144"),
    ],
)
def test_a_letter_that_sns_would_refuse_is_refused_with_the_limit(
    post_and_box: tuple[Post, Callable[[], list[Delivered]]], change: dict[str, str], limit: str
) -> None:
    post, box = post_and_box
    with pytest.raises(ValueError, match=limit):
        post.publish(replace(LETTER, **change))  # type: ignore[arg-type] # replace() is typed by field
    assert box() == []


def test_the_longest_subject_passes(post_and_box: tuple[Post, Callable[[], list[Delivered]]]) -> None:
    post, box = post_and_box
    post.publish(replace(LETTER, subject="x" * 100))
    assert len(box()) == 1


def fail_publish(sns: Any, code: str, status: int) -> list[Any]:
    """SNS answers every publish with this error; the list fills with what was asked."""
    asked: list[Any] = []

    def hook(params: Any, **_: Any) -> None:
        asked.append(params)
        raise ClientError({"Error": {"Code": code, "Message": "SNS's words."}, "ResponseMetadata": {"HTTPStatusCode": status}}, "Publish")  # type: ignore[typeddict-item] # only the status counts

    sns.meta.events.register("before-call.sns.Publish", hook)
    return asked


#: The errors of the API reference, Publish: SNS says so, so nothing was published.
DEFINITE = [
    ("AuthorizationError", 403),
    ("EndpointDisabled", 400),
    ("InvalidParameter", 400),
    ("InvalidSecurity", 403),
    ("KMSAccessDenied", 400),
    ("KMSDisabled", 400),
    ("NotFound", 404),
    ("ValidationException", 400),
]


@pytest.mark.parametrize(("code", "status"), DEFINITE)
def test_a_publish_that_sns_refuses_was_not_made(aws: MotoSide, code: str, status: int) -> None:
    sns = aws.client("sns")
    fail_publish(sns, code, status)
    with pytest.raises(Refused, match=code) as caught:
        SnsPost(sns, "arn:aws:sns:us-east-1:123456789012:mail").publish(LETTER)
    assert not isinstance(caught.value, Throttled)


@pytest.mark.parametrize(("code", "status"), [("Throttled", 429), ("Throttling", 400), ("ThrottlingException", 400), ("KMSThrottling", 400)])
def test_a_throttled_publish_was_not_made(aws: MotoSide, code: str, status: int) -> None:
    sns = aws.client("sns")
    fail_publish(sns, code, status)
    with pytest.raises(Refused, match=code):
        SnsPost(sns, "arn:aws:sns:us-east-1:123456789012:mail").publish(LETTER)


@pytest.mark.parametrize(("code", "status"), [("InternalError", 500), ("ServiceUnavailable", 503), ("InternalFailure", 500)])
def test_a_server_error_leaves_it_open_whether_the_letter_was_published(aws: MotoSide, code: str, status: int) -> None:
    sns = aws.client("sns")
    fail_publish(sns, code, status)
    with pytest.raises(ClientError, match=code):
        SnsPost(sns, "arn:aws:sns:us-east-1:123456789012:mail").publish(LETTER)


def test_a_publish_without_an_answer_leaves_it_open_and_is_tried_once(aws: MotoSide) -> None:
    sns, asked = boto_client("sns"), []

    def hook(**_: Any) -> None:
        asked.append(True)
        raise ReadTimeoutError(endpoint_url="https://sns.us-east-1.amazonaws.com/")

    sns.meta.events.register("before-send.sns.Publish", hook)
    with pytest.raises(ReadTimeoutError):
        SnsPost(sns, "arn:aws:sns:us-east-1:123456789012:mail").publish(LETTER)
    assert len(asked) == 1


def test_a_topic_that_is_not_there_refuses(aws: MotoSide) -> None:
    arn, box = aws.topic()
    with pytest.raises(Refused, match="NotFound"):
        SnsPost(aws.client("sns"), arn + "-missing").publish(LETTER)
    assert box() == []


def test_an_event_reaches_its_rules_target_as_json_brings_it(bus_and_target: tuple[Bus, Callable[[], list[Event]]]) -> None:
    bus, target = bus_and_target
    bus.put(source=SOURCE, detail_type="Budget Alert", detail={"actual_usd": 0.59, "name": "Test Budget", "zones": ("a", "b"), "limit": None})
    assert target() == [(SOURCE, "Budget Alert", {"actual_usd": 0.59, "name": "Test Budget", "zones": ["a", "b"], "limit": None})]


@pytest.mark.parametrize("detail", [{"amount_usd": float("nan")}, {"thing": object()}])
def test_a_detail_that_is_no_json_is_refused(bus_and_target: tuple[Bus, Callable[[], list[Event]]], detail: dict[str, object]) -> None:
    bus, target = bus_and_target
    with pytest.raises((ValueError, TypeError), match="JSON"):
        bus.put(source=SOURCE, detail_type="Budget Alert", detail=detail)
    assert target() == []


def test_an_event_that_the_bus_did_not_take_is_an_error_though_the_answer_was_200(aws: MotoSide) -> None:
    events = aws.client("events")
    failed = {"FailedEntryCount": 1, "Entries": [{"ErrorCode": "ThrottlingException", "ErrorMessage": "Rate exceeded"}]}

    class Raw:
        status_code = 200

    events.meta.events.register("before-call.events.PutEvents", lambda **_: (Raw, failed))
    with pytest.raises(BusRefused, match=r"Budget Alert.*ThrottlingException: Rate exceeded"):
        EventBridgeBus(events).put(source=SOURCE, detail_type="Budget Alert", detail={})
