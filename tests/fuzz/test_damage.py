"""Whole documents and events with any damage: what no mutation of bytes comes by, for it keeps the JSON whole. And the e-mails."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from control_plane.core.budget import parse_budget_mail
from tests.fuzz import campaign
from tests.fuzz.targets import TARGETS

#: What is hard on a reader: the edges of its types, and texts that steer whoever shows them.
HARD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1.5, 2**63, -(2**63) - 1, 10**400, 1e308, 5e-324, -0.0, [], {}, [[]], [{}], {"": {}}),
    *("", " ", "NaN", "Infinity", "1e999", "0", "true", "null", "\ud800", "\0", "\n", "a\nb", "\u202eb", "\u0430", "\x1b[2J", "../x", "$(id)", "x" * 3000),
    *("2026-13-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-01-01T00:00:00", 4e15, "i-0123456789abcdef0\n", "१"),
)
JSON = st.recursive(
    st.sampled_from(HARD) | st.text(max_size=20) | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    lambda below: st.lists(below, max_size=4) | st.dictionaries(st.text(max_size=8), below, max_size=4),
    max_leaves=8,
)
#: By target, the seeds that are JSON.
WHOLE = {
    name: [json.loads(path.read_bytes()) for path in campaign.seeds_of(name) if path.suffix == ".json"]
    for name in TARGETS.keys() - {"budget-mail", "letter", "key"}
}


def _places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    yield path
    if isinstance(value, dict | list):
        for part, below in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _places(below, (*path, part))


def _damaged(data: st.DataObject, value: Any) -> Any:
    """``value`` with one part replaced, taken out, renamed, or given twice over."""
    place = data.draw(st.sampled_from(list(_places(value))))
    if not place:
        return data.draw(JSON)
    whole = json.loads(json.dumps(value))
    holder = whole
    for part in place[:-1]:
        holder = holder[part]
    match data.draw(st.sampled_from(["replace", "replace", "take out", "rename", "grow"])):
        case "replace":
            holder[place[-1]] = data.draw(JSON)
        case "take out":
            del holder[place[-1]]
        case "rename" if isinstance(holder, dict):
            holder[data.draw(st.text(max_size=12))] = holder.pop(place[-1])
        case _:
            holder[place[-1]] = [holder[place[-1]]] * data.draw(st.integers(2, 1200))
    return whole


@pytest.mark.parametrize("name", sorted(WHOLE))
@given(data=st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], derandomize=True)
def test_a_damaged_document_is_read_or_refused(name: str, data: st.DataObject) -> None:
    value = data.draw(st.sampled_from(WHOLE[name]))
    for _ in range(data.draw(st.integers(1, 3))):
        value = _damaged(data, value)
    TARGETS[name](json.dumps(value).encode())


@pytest.mark.parametrize("name", sorted(WHOLE))
def test_every_part_of_a_document_may_be_any_hard_value(name: str) -> None:
    for value in WHOLE[name]:
        for place in _places(value):
            for hard in HARD if place else ():
                whole = json.loads(json.dumps(value))
                holder = whole
                for part in place[:-1]:
                    holder = holder[part]
                holder[place[-1]] = hard
                TARGETS[name](json.dumps(whole).encode())


@given(st.text(max_size=60), st.integers(0, 255), st.integers(0, 255))
@settings(max_examples=150, deadline=None, derandomize=True)
def test_no_text_of_a_stranger_steers_an_e_mail(text: str, state: int, kind: int) -> None:
    TARGETS["letter"](bytes([state, kind]) + f"{text}|\r\nSubject: x|{text}".encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("$0.59", 0.59),
        ("$1,234,567.89", 1234567.89),
        ("USD 12", 12.0),
        ("-$3.10", -3.1),
        ("about $5.", 5.0),
        ("9" * 400, None),
        ("1." + "9" * 400, None),
        ("$", None),
        ("NaN", None),
        ("१२", None),
    ],
)
def test_a_sum_of_money_is_read_or_none(text: str, amount: float | None) -> None:
    assert parse_budget_mail("p", "s", f"Alert Type: ACTUAL\nACTUAL Amount: {text}\n").amount_usd == amount
