"""A person's request to the whole project: what a door takes, and what it refuses."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from jobspec.operator import DETAIL_TYPE, REQUEST_LIFE, SOURCE, Hold, NotARequest, OperatorRequest, parse_request

NOW = datetime(2026, 11, 25, 4, 0, tzinfo=UTC)


def request(**changed: Any) -> OperatorRequest:
    asked = {"project": "dropforge", "action": "pause", "asked_by": "arn:aws:iam::123456789012:user/ann", "asked_at": NOW, "reason": "prices are odd"}
    return OperatorRequest.model_validate(asked | changed)


def event(detail: Any, **changed: Any) -> dict[str, Any]:
    """As EventBridge delivers it: the detail is an object."""
    return {"version": "0", "id": "1", "source": SOURCE, "detail-type": DETAIL_TYPE, "detail": detail} | changed


def as_sent(asked: OperatorRequest) -> dict[str, Any]:
    return dict(json.loads(asked.model_dump_json()))


@pytest.mark.parametrize("asked", [request(), request(action="resume"), request(until=NOW + timedelta(hours=1))])
def test_a_request_comes_through_the_bus_as_it_was_put(asked: OperatorRequest) -> None:
    assert parse_request(event(as_sent(asked)), "dropforge") == asked


def test_a_pause_is_a_hold_with_its_reason_and_a_resume_is_none() -> None:
    hold = request(until=NOW + timedelta(hours=1)).hold()
    assert hold is not None
    assert (hold.reason, hold.since, hold.until) == ("paused: prices are odd", NOW, NOW + timedelta(hours=1))
    lifted = request(action="resume").hold()
    assert not lifted.holds_at(NOW)
    assert request(asked_at=NOW - timedelta(seconds=1)).is_older_than(lifted), "an older pause that comes late finds it"


def test_a_hold_ends_at_its_time_and_not_before() -> None:
    hold = Hold(reason="x", since=NOW, until=NOW + timedelta(seconds=1))
    assert hold.holds_at(NOW)
    assert not hold.holds_at(NOW + timedelta(seconds=1))
    assert Hold(reason="x", since=NOW).holds_at(NOW + timedelta(days=9999))


def test_a_request_that_a_newer_pause_overtook_is_older_and_one_of_the_same_time_is_not() -> None:
    stored = Hold(reason="x", since=NOW)
    assert request(asked_at=NOW - timedelta(seconds=1), action="resume").is_older_than(stored)
    assert not request(action="resume").is_older_than(stored)
    assert not request().is_older_than(None)


def test_a_request_that_nobody_waits_for_is_stale() -> None:
    assert not request().is_stale(NOW + REQUEST_LIFE)
    assert request().is_stale(NOW + REQUEST_LIFE + timedelta(seconds=1))


@pytest.mark.parametrize(
    "changed",
    [
        {"action": "stop"},
        {"project": "drop forge"},
        {"project": "x" * 129},
        {"reason": ""},
        {"reason": "two\nlines"},
        {"reason": "x" * 201},
        {"asked_by": "\x1b[31mred"},
        {"asked_at": "2026-11-25T04:00:00"},
        {"until": NOW},
        {"action": "resume", "until": NOW + timedelta(hours=1)},
        {"and": "more"},
    ],
)
def test_a_request_that_is_wrong_cannot_be_made_nor_parsed(changed: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        request(**changed)
    wrong = as_sent(request()) | {key: value.isoformat() if isinstance(value, datetime) else value for key, value in changed.items()}
    with pytest.raises(NotARequest, match="field"):
        parse_request(event(wrong), "dropforge")


@pytest.mark.parametrize(
    ("given_event", "said"),
    [
        (event(as_sent(request()), source="aws.ec2"), "not dropforge.operator"),
        (event(as_sent(request()), **{"detail-type": "Budget Alert"}), "not dropforge.operator"),
        (event(as_sent(request(project="other"))), "another project's"),
        (event(None), "field"),
        (event(json.dumps(as_sent(request()))), "field"),
        ([], "not dropforge.operator"),
        (None, "not dropforge.operator"),
    ],
)
def test_what_is_no_request_to_this_project_is_refused_with_the_reason(given_event: Any, said: str) -> None:
    with pytest.raises(NotARequest, match=said):
        parse_request(given_event, "dropforge")


_anything = st.recursive(st.none() | st.booleans() | st.floats() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)
_field = st.sampled_from(["project", "action", "asked_by", "asked_at", "reason", "until"])


@given(_anything | st.dictionaries(_field, _anything))
def test_whatever_a_stranger_puts_is_a_request_or_refused_and_never_another_error(detail: Any) -> None:
    try:
        parsed = parse_request(event(detail), "dropforge")
    except NotARequest:
        return
    assert parsed.project == "dropforge"
