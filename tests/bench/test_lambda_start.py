"""The rig of the start's benchmark: the bundle is what is pinned, and AWS's tape answers what was taped and says what was not."""

from collections.abc import Iterator

import pytest

from bench.lambda_start.__main__ import Row, ratio
from bench.lambda_start.layout import pinned
from bench.lambda_start.process import Run
from bench.lambda_start.tape import Tape, call_of, service_of

SIGNED = {"Authorization": "AWS4-HMAC-SHA256 Credential=testing/20261125/us-east-1/dynamodb/aws4_request, SignedHeaders=host"}


@pytest.fixture
def tape() -> Iterator[Tape]:
    made = Tape()
    yield made
    made.close()


def test_what_is_pinned_is_read_by_plain_name() -> None:
    assert pinned("# a word\npydantic_core==2.50.4\nJinja2[x]==3.1.6  # why\n-r other.txt\n") == {"pydantic-core": "2.50.4", "jinja2": "3.1.6"}


def test_calls_are_told_apart_by_what_decides_their_answer() -> None:
    headers = SIGNED | {"X-Amz-Target": "DynamoDB_20120810.GetItem"}
    one = call_of(service_of(headers), "POST", "/", headers, b'{"Key": {"pk": {"S": "JOB#a"}}, "TableName": "t"}')
    other = call_of(service_of(headers), "POST", "/", headers, b'{"Key": {"pk": {"S": "JOB#b"}}, "TableName": "t"}')
    assert one != other
    assert one.startswith("dynamodb.GetItem ")
    assert call_of("ec2", "POST", "/", {}, b"Action=CreateFleet&Version=2016-11-15") == "ec2.CreateFleet"


def test_the_tape_answers_in_order_from_its_beginning_and_names_what_it_does_not_know(tape: Tape) -> None:
    call = call_of("s3", "GET", "/b/k", {}, b"")
    tape.begin(taping=False)
    headers = {"Authorization": SIGNED["Authorization"].replace("dynamodb", "s3")}
    tape.answers[call] = [(200, {}, b"first"), (200, {}, b"second")]
    assert [tape.answer("GET", "/b/k", headers, b"")[2] for _ in range(3)] == [b"first", b"second", b"second"]
    tape.begin(taping=False)
    assert tape.answer("GET", "/b/k", headers, b"")[2] == b"first"
    assert tape.answer("GET", "/b/other", headers, b"")[0] == 500
    assert tape.unknown == ["s3.GET /b/other?"]


def test_ratios_are_of_medians_against_the_floor() -> None:
    row = Row("x", "y")
    row.runs = {
        "floor": [Run(1.0, 0.5, (0.01,), 50), Run(2.0, 0.5, (0.03,), 50), Run(9.0, 0.5, (0.02,), 50)],
        "as built": [Run(3.0, 1.0, (0.04,), 60)],
        "as deployed": [],
    }
    assert (ratio(row, "as built", "cold"), ratio(row, "as built", "cpu"), ratio(row, "as built", "warm")) == (1.5, 2.0, 2.0)
