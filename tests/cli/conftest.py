"""The unchanged template in a local cloud, once for all tests of this folder, and the commands run against it in this process."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
from click.testing import CliRunner, Result

from dropforge import stack as stacks
from dropforge.cli import main
from dropforge.local import cloud as clouds
from dropforge.local import deploy
from dropforge.local.market import Market
from dropforge.local.state import CloudState
from dropforge.operate.findings import Finding, Verdict
from tests.cli.answers import Answers
from tests.local.conftest import eventually as look_until
from tests.local.conftest import free_port, needs_environments

T = TypeVar("T")
PATIENCE_S = 90.0


def eventually(look: Callable[[], T], *, within_s: float = PATIENCE_S) -> T:
    """As the local cloud's tests wait, with the patience that a whole stack needs."""
    return look_until(look, within_s=within_s)


@dataclass
class Site:
    """A deployed stack, the commands, and hands to break it with."""

    state: CloudState
    home: Path
    answers: Answers
    clients: dict[str, Any] = field(default_factory=dict)

    def client(self, service: str) -> Any:
        return self.clients.setdefault(service, deploy.client_of(self.state, service))

    def id(self, logical_id: str) -> str:
        return str(
            self.client("cloudformation").describe_stack_resource(StackName=self.state.stack, LogicalResourceId=logical_id)["StackResourceDetail"][
                "PhysicalResourceId"
            ]
        )

    @property
    def repository(self) -> str:
        """The repository that the stack's image lies in."""
        repositories = self.client("ecr").describe_repositories()["repositories"]
        return str(repositories[0]["repositoryName"])

    def alarm(self, logical_id: str, *, delete: bool) -> None:
        """Remove an alarm, or make it again well enough to be found."""
        name, cloudwatch = self.id(logical_id), self.client("cloudwatch")
        if delete:
            cloudwatch.delete_alarms(AlarmNames=[name])
        else:
            cloudwatch.put_metric_alarm(
                AlarmName=name,
                Namespace="x",
                MetricName="x",
                Statistic="Sum",
                Period=60,
                EvaluationPeriods=1,
                ComparisonOperator="GreaterThanThreshold",
                Threshold=1,
            )

    @property
    def market(self) -> Market:
        return Market(self.state)

    def run(self, *words: str, typed: str | None = None) -> Result:
        result = CliRunner().invoke(main, [*words, "--stack", self.state.stack], input=typed)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    def as_usual(self) -> None:
        """Every answer is the local cloud's own."""
        self.answers.forget()

    def doctor(self) -> tuple[int, list[Finding]]:
        """Exit status and findings."""
        result = self.run("doctor", "--json")
        return result.exit_code, [Finding(**{**finding, "verdict": Verdict(finding["verdict"])}) for finding in json.loads(result.stdout)["findings"]]


@pytest.fixture(scope="session")
def local_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[CloudState, Path]]:
    needs_environments()
    home = tmp_path_factory.mktemp("operator-cloud")
    # A minute of a schedule lasts an hour: no tick of its own comes between a test's breaking and looking.
    state = clouds.up(clouds.Plan(home, stack="well", port=free_port(), notice_s=2.0, minute_s=3600, stop_grace_s=1.0))
    try:
        yield state, home
    finally:
        clouds.down(home)


class OneSession:
    """A session for all tests, whose clients are made once, for that takes longer than their calls; each tells ``answers``."""

    def __init__(self, state: CloudState) -> None:
        self.answers = Answers()
        self._session = self.answers.listen_to(deploy.session_of(state))
        self._endpoint = state.endpoint
        self._clients: dict[tuple[str, str | None], Any] = {}

    def client(self, service: str, region_name: str | None = None, config: Any = None) -> Any:
        key = service, region_name
        if key not in self._clients:
            self._clients[key] = self._session.client(service, region_name=region_name, endpoint_url=self._endpoint, config=config)  # type: ignore[call-overload]
        return self._clients[key]


@pytest.fixture(scope="session")
def session(local_state: tuple[CloudState, Path]) -> OneSession:
    return OneSession(local_state[0])


@pytest.fixture
def site(local_state: tuple[CloudState, Path], session: OneSession, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """The stack as `dropforge local up` leaves it."""
    (state, home), answers = local_state, session.answers
    monkeypatch.setattr(stacks, "new_session", lambda: session)
    site = Site(state, home, answers)
    site.as_usual()
    yield site
    live = [view.instance_id for view in site.market.instances() if view.live]
    if live:
        site.client("ec2").terminate_instances(InstanceIds=live)


def an_account_with_quota(answers: Answers, vcpus: float) -> None:
    answers.give("GetServiceQuota", lambda asked: {"Quota": {"ServiceCode": "ec2", "QuotaCode": asked["QuotaCode"], "Value": vcpus}})


def offering(types: Any, asked: dict[str, Any]) -> dict[str, Any]:
    """Every one of the types in every zone that is asked for."""
    wanted = {item["Name"]: item["Values"] for item in asked["Filters"]}
    found = [
        {"InstanceType": name, "LocationType": "availability-zone", "Location": zone}
        for zone in wanted["location"]
        for name in types
        if name in wanted["instance-type"]
    ]
    return {"InstanceTypeOfferings": found}
