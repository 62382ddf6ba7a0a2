"""Each port's fixture, on every side."""

from collections.abc import Callable, Iterator

import pytest
from moto import mock_aws

from control_plane.adapters.dynamodb import DynamoStore
from control_plane.adapters.holds import DynamoHolds
from control_plane.adapters.publish_ledger import DynamoLedger
from control_plane.ports import HoldStore, JobStore, PublishLedger
from tests.contract.samples import now
from tests.contract.sides import InMemorySide, LiveSide, MotoSide, Side

LIVE_HELP = (
    "tests/contract also against the account that boto3 finds. Costs less than $0.01 of requests: table, buckets, topic, queue and rule are scratch ones, "
    "removed at the end, and no instance is started. Of EC2, only tests marked no_instance ask anything; they need SUBNET_IDS as a stack's functions have it."
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--live", action="store_true", help=LIVE_HELP)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "no_instance: starts no instance, so that it may run against a live account")


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[MotoSide]:
    """moto's account, and credentials that are nobody's."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")  # two seconds for each account otherwise
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    with mock_aws():
        yield MotoSide()


@pytest.fixture
def live() -> Iterator[LiveSide]:
    side = LiveSide()
    try:
        yield side
    finally:
        side.close()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "side" in metafunc.fixturenames:
        # Loaded late, where the whole suite was asked for: then the option is not known, and not given.
        asked = metafunc.config.getoption("--live", default=False)
        metafunc.parametrize("side", ["in-memory", "moto", "live"] if asked else ["in-memory", "moto"], indirect=True)


@pytest.fixture
def side(request: pytest.FixtureRequest) -> Side:
    if request.param == "in-memory":
        return InMemorySide()
    found: Side = request.getfixturevalue("aws" if request.param == "moto" else "live")
    return found


@pytest.fixture
def store_for(side: Side) -> Callable[[int], DynamoStore]:
    """A job store whose project lets that many jobs run at a time."""
    dynamodb = side.job_table()
    return lambda max_concurrent_jobs: DynamoStore(dynamodb, side.table, max_concurrent_jobs, now)


@pytest.fixture
def store(store_for: Callable[[int], DynamoStore]) -> JobStore:
    return store_for(10)


@pytest.fixture
def holds(side: Side) -> HoldStore:
    return DynamoHolds(side.job_table(), side.table, now)


@pytest.fixture
def ledger(side: Side) -> PublishLedger:
    return DynamoLedger(side.job_table(), side.table)
