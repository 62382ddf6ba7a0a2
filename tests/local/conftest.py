"""One local cloud for all tests of this folder, with the stand-in stack (``stack/``) in it, on a free port."""

import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest

from dropforge.local import cloud as clouds
from dropforge.local import deploy
from dropforge.local.market import Market
from dropforge.local.state import CloudState

T = TypeVar("T")
TEMPLATE = Path(__file__).parent / "stack" / "template.yaml"
PATIENCE_S = 90.0
#: One minute of a schedule in these tests, in seconds.
MINUTE_S = 5.0


def eventually(look: Callable[[], T], *, within_s: float = PATIENCE_S) -> T:
    """The first true answer of ``look``; fails with its last answer."""
    until = time.monotonic() + within_s
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < until, f"not within {within_s} s: {found!r}"
        time.sleep(0.1)


@dataclass
class LocalCloud:
    """The running cloud, and what tests do to it again and again."""

    state: CloudState
    home: Path
    market: Market
    clients: dict[str, Any] = field(default_factory=dict)

    @property
    def outputs(self) -> dict[str, str]:
        return self.state.outputs

    def client(self, service: str) -> Any:
        return self.clients.setdefault(service, deploy.client_of(self.state, service))

    def fleet(self, *, types: tuple[str, ...] = ("g5.xlarge",), market: str = "spot", client: Any = None, **request: Any) -> dict[str, Any]:
        """An instant fleet of one, over both subnets, tagged as ours."""
        overrides = [{"InstanceType": name, "SubnetId": self.outputs[subnet]} for name in types for subnet in ("SubnetA", "SubnetB")]
        asked = {
            "Type": "instant",
            "TargetCapacitySpecification": {"TotalTargetCapacity": 1, "DefaultTargetCapacityType": market},
            "LaunchTemplateConfigs": [{"LaunchTemplateSpecification": self.template, "Overrides": overrides}],
            "TagSpecifications": [{"ResourceType": "instance", "Tags": [{"Key": "team", "Value": "ours"}]}],
        }
        return dict((client or self.client("ec2")).create_fleet(**(asked | request)))

    @property
    def template(self) -> dict[str, str]:
        return {"LaunchTemplateId": self.outputs["LaunchTemplate"], "Version": "1"}

    def launch(self, user_data: str | None = None, **request: Any) -> str:
        """A spot instance of the stand-in launch template that has left ``pending``, with other user data where given."""
        asked = {"MinCount": 1, "MaxCount": 1, "InstanceType": "g5.xlarge", "SubnetId": self.outputs["SubnetA"], "LaunchTemplate": self.template}
        asked |= {"InstanceMarketOptions": {"MarketType": "spot"}} | ({"UserData": user_data} if user_data else {})
        instance_id = str(self.client("ec2").run_instances(**(asked | request))["Instances"][0]["InstanceId"])
        eventually(lambda: self.instance(instance_id)["State"]["Name"] != "pending")
        return instance_id

    def instance(self, instance_id: str) -> dict[str, Any]:
        return dict(self.client("ec2").describe_instances(InstanceIds=[instance_id])["Reservations"][0]["Instances"][0])

    def root(self, instance_id: str) -> Path:
        return self.home / "instances" / instance_id

    def metadata_url(self, instance_id: str) -> str:
        return str(next(view.metadata_url for view in self.market.instances() if view.instance_id == instance_id))

    def ended(self, instance_id: str, *, within_s: float = PATIENCE_S) -> dict[str, Any]:
        """The instance, once it is terminated."""
        return eventually(lambda: (found := self.instance(instance_id))["State"]["Name"] == "terminated" and found, within_s=within_s) or {}

    def kept(self, detail_type: str) -> list[dict[str, Any]]:
        """What the stand-in function kept of events of this type."""
        items = self.client("dynamodb").scan(TableName=self.outputs["Table"])["Items"]
        return [json_of(item["body"]["S"]) for item in items if item["pk"]["S"].startswith(f"{detail_type}#")]


def json_of(text: str) -> dict[str, Any]:
    return dict(json.loads(text))


def needs_environments() -> None:
    for name in (".venv-cloud", ".venv-lambda"):
        if not (clouds.REPOSITORY / name / "bin" / "python").exists():
            pytest.skip(f"{name} is missing: run `make setup` to test the local cloud")


@pytest.fixture(scope="session")
def local_cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCloud]:
    needs_environments()
    home = tmp_path_factory.mktemp("local-cloud")
    plan = clouds.Plan(home, TEMPLATE, stack="standin", port=free_port(), notice_s=2.0, minute_s=MINUTE_S, stop_grace_s=1.0)
    state = clouds.up(plan)
    try:
        yield LocalCloud(state, home, Market(state))
    finally:
        clouds.down(home)


@pytest.fixture(autouse=True)
def _market_without_limits(request: pytest.FixtureRequest) -> Iterator[None]:
    """Each test finds the market as it was at first, and leaves no instance."""
    yield
    if "local_cloud" in request.fixturenames:
        cloud: LocalCloud = request.getfixturevalue("local_cloud")
        cloud.market.set_capacity(None)
        cloud.market.refuse(0)
        cloud.market.set_quota(None)
        live = [view.instance_id for view in cloud.market.instances() if view.live]
        if live:
            cloud.client("ec2").terminate_instances(InstanceIds=live)
        # An instance that shuts down still counts against capacity and quota.
        eventually(lambda: all(view.state in ("terminated", "stopped") for view in cloud.market.instances()))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def alive(pid: int) -> bool:
    """Whether the process runs; one that ended and waits to be collected does not."""
    try:
        os.kill(pid, 0)
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
