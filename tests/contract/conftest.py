"""Each port's fixture, on both sides."""

from collections.abc import Iterator

import pytest
from moto import mock_aws

from control_plane.adapters.dynamodb import DynamoHolds, DynamoStore
from control_plane.adapters.memory import MemoryHolds, MemoryStore
from control_plane.ports import HoldStore, JobStore
from tests.contract import aws_side


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """moto's account, and credentials that are nobody's."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")  # two seconds for each account otherwise
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    with mock_aws():
        yield


@pytest.fixture(params=["memory", "aws"])
def side(request: pytest.FixtureRequest) -> str:
    if request.param == "aws":
        request.getfixturevalue("aws")
    return str(request.param)


@pytest.fixture
def store(side: str) -> JobStore:
    return MemoryStore() if side == "memory" else DynamoStore(aws_side.job_table(), aws_side.TABLE)


@pytest.fixture
def holds(side: str) -> HoldStore:
    return MemoryHolds() if side == "memory" else DynamoHolds(aws_side.job_table(), aws_side.TABLE)
