"""A second region in the local cloud: what is each region's own, and a job that loses every pool at home and goes on in the other.

The trainer of the first instance is held still from its first steps until it has been told to stop: on no machine, however fast, is the
job over before its region has dried up.
"""

import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from control_plane.core.ledger import GIB, IMAGE_GIB
from dropforge.jobs.find import read_heartbeat
from dropforge.local import cloud as clouds
from dropforge.local import deploy
from dropforge.local.market import InstanceView, Market
from dropforge.local.plugin.market import Pool, SpotMarket
from dropforge.local.plugin.settings import OfferedType
from dropforge.local.state import CloudState
from dropforge.stack import Stack
from jobspec.regions import transfer_usd_per_gib
from tests.local.conftest import LocalCloud, free_port, needs_environments
from tests.local.test_cloud import run
from tests.local.test_instances import details
from tests.local.test_whole_flow import MANIFEST, drop, end_of, until

HOME, PEER = "us-east-1", "us-west-2"
#: Enough that the first instance is held before it is through: it is looked at each hundredth of a second.
STEPS = 80

G5 = {"g5.xlarge": OfferedType(4, 1.006)}


def refused(market: SpotMarket, zone: str, vcpus_live: int = 0) -> bool:
    return market.refusal(Pool("g5.xlarge", zone), "spot", live={}, vcpus_live=vcpus_live, max_price=None) is not None


def test_what_is_said_of_a_region_is_said_of_all_its_zones_and_of_no_other() -> None:
    market = SpotMarket(G5, capacity={Pool("*", HOME): 0}, quota_vcpus={(PEER, "spot"): 4})
    assert [refused(market, zone) for zone in ("us-east-1a", "us-east-1c", "us-west-2a", "us-east-2a")] == [True, True, False, False]
    assert [refused(market, zone, vcpus_live=4) for zone in ("us-west-2b", "us-east-2a")] == [True, False]
    market.capacity[Pool("*", "us-east-1a")] = 1
    assert [refused(market, zone) for zone in ("us-east-1a", "us-east-1b")] == [False, True]


@pytest.mark.local_cloud
def test_ec2_knows_the_instances_of_its_own_region_only_and_its_events_reach_a_bus_in_another(local_cloud: LocalCloud) -> None:
    there = deploy.client_of(local_cloud.state, "ec2", PEER)
    events = deploy.client_of(local_cloud.state, "events", PEER)
    events.put_rule(Name="forward", EventPattern='{"source": ["aws.ec2"]}')
    bus, role = f"arn:aws:events:{HOME}:{clouds.ACCOUNT_ID}:event-bus/default", f"arn:aws:iam::{clouds.ACCOUNT_ID}:role/forward"
    events.put_targets(Rule="forward", Targets=[{"Id": "home", "Arn": bus, "RoleArn": role}])
    launched = there.run_instances(MinCount=1, MaxCount=1, InstanceType="g5.xlarge", ImageId="ami-1", InstanceMarketOptions={"MarketType": "spot"})
    instance_id = launched["Instances"][0]["InstanceId"]
    try:
        assert instance_id in {view.instance_id for view in local_cloud.market.instances() if view.zone.startswith(PEER)}
        with pytest.raises(ClientError, match=r"InvalidInstanceID\.NotFound"):
            local_cloud.client("ec2").terminate_instances(InstanceIds=[instance_id])
        at_home = {one["InstanceId"] for held in local_cloud.client("ec2").describe_instances()["Reservations"] for one in held["Instances"]}
        assert instance_id not in at_home
        until(lambda: bool(details(local_cloud, "EC2 Instance State-change Notification", instance_id)), "its event at home")
        event = details(local_cloud, "EC2 Instance State-change Notification", instance_id)[0]
        assert (event["region"], event["resources"]) == (PEER, [f"arn:aws:ec2:{PEER}:{clouds.ACCOUNT_ID}:instance/{instance_id}"])
        local_cloud.market.set_quota(4, region=PEER)
        with pytest.raises(ClientError, match="MaxSpotInstanceCountExceeded"):
            there.run_instances(MinCount=1, MaxCount=1, InstanceType="g5.xlarge", ImageId="ami-1", InstanceMarketOptions={"MarketType": "spot"})
        quotas = [deploy.client_of(local_cloud.state, "service-quotas", region) for region in (HOME, PEER)]
        values = [client.get_service_quota(ServiceCode="ec2", QuotaCode="L-3819A6DF")["Quota"]["Value"] for client in quotas]
        assert values == [1000, 4]
    finally:
        local_cloud.market.set_quota(None, region=PEER)
        there.terminate_instances(InstanceIds=[instance_id])
        until(lambda: all(view.state == "terminated" for view in local_cloud.market.instances()), "its end")
        events.remove_targets(Rule="forward", Ids=["home"])
        events.delete_rule(Name="forward")


@pytest.mark.local_cloud
def test_a_region_that_the_cloud_has_not_is_refused_with_the_command_that_makes_it(local_cloud: LocalCloud) -> None:
    code, said = run(local_cloud.home, "capacity", "0", "--region", "eu-west-1")
    assert (code, "dropforge local up --peer eu-west-1" in said) == (2, True), said
    assert run(local_cloud.home, "up", "--peer", HOME)[0] == 2
    assert run(local_cloud.home, "up", "--peer", "the west")[0] == 2


@pytest.fixture
def two_regions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[CloudState, Stack, Path]]:
    needs_environments()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    home = tmp_path / "cloud"
    state = clouds.up(clouds.Plan(home, port=free_port(), minute_s=10, parameters={"HeartbeatSeconds": "1"}, peers=(PEER,)))
    try:
        yield state, Stack(state.stack, state.outputs["DataBucketName"], state.outputs["OutputsBucketName"], deploy.client_of(state, "s3")), home
    finally:
        clouds.down(home)


@pytest.mark.local_cloud
@pytest.mark.torch
def test_a_job_whose_region_has_no_spot_left_goes_on_in_the_other_from_its_checkpoint(two_regions: tuple[CloudState, Stack, Path], tmp_path: Path) -> None:
    state, there, home = two_regions
    market = Market(state)
    training = MANIFEST["training"] | {"max_steps": STEPS}
    name = drop(there, tmp_path, training=training, compute=MANIFEST["compute"] | {"regions": [HOME, PEER]}, notify={"on": ["relaunched"]})
    first = the_first(market)
    assert first.zone.startswith(HOME), "as cheap as the other, and nothing crosses regions"
    root = home / "instances" / first.instance_id
    trainer = held_in_its_first_steps(root)
    assert run(home, "capacity", "0", "--region", HOME)[0] == 0
    assert run(home, "interrupt", name)[0] == 0
    until(lambda: (root / "var/lib/dropforge/run/stop").exists(), "the word to the trainer that it shall stop")
    os.kill(trainer, signal.SIGCONT)

    status = end_of(there, home, name)
    assert status.state == "SUCCEEDED", status.reason
    at_home, away = status.attempts
    assert [str(attempt.zone)[:-1] for attempt in status.attempts] == [HOME, PEER]
    assert 0 < (away.first_step or 0) < STEPS, "it goes on from the checkpoint"
    assert (at_home.last_step, away.last_step) == (away.first_step, STEPS)
    beat = read_heartbeat(there, status.job_id, str(away.instance_id))
    assert beat is not None
    assert min(beat.read_bytes, beat.written_bytes) > 0, "model and checkpoint read, checkpoints and adapter written"
    crossed = (IMAGE_GIB + beat.read_bytes / GIB) * transfer_usd_per_gib(HOME, PEER) + beat.written_bytes / GIB * transfer_usd_per_gib(PEER, HOME)
    assert (at_home.egress_usd, away.egress_usd) == (0, pytest.approx(crossed, abs=1e-4))
    assert status.receipt is not None
    assert status.receipt.egress_usd == away.egress_usd
    assert status.receipt.cost_usd == pytest.approx(sum(attempt.cost_usd + attempt.egress_usd for attempt in status.attempts), abs=2e-4)
    logs, group = deploy.client_of(state, "logs"), f"/dropforge/{state.stack}/instances"
    asked = {"logGroupName": group, "logStreamNamePrefix": f"{status.job_id}/2/bootstrap"}
    until(lambda: bool(logs.describe_log_streams(**asked)["logStreams"]), "the second machine's lines in the home region's log group", 60)
    (mail,) = [path.read_text() for path in (home / "mail").glob("*.txt") if "#end" in path.read_text()]
    assert f"${away.egress_usd:.4f}" in mail
    assert all(str(attempt.zone) in mail for attempt in status.attempts)


def the_first(market: Market) -> InstanceView:
    until(lambda: any(machine.live for machine in market.instances()), "the first instance")
    (found,) = market.instances()
    return found


def held_in_its_first_steps(root: Path) -> int:
    """The process id of the instance's trainer, which has made some steps and stands still."""
    progress, pid = root / "var/lib/dropforge/run/progress.jsonl", root / "run/docker/dropforge-trainer"
    end = time.monotonic() + 240
    while not (progress.exists() and re.search(r'"step": ?[1-9]', progress.read_text())):
        assert time.monotonic() < end, "waited in vain for the first step"
        time.sleep(0.01)
    trainer = int(pid.read_text())
    os.kill(trainer, signal.SIGSTOP)
    return trainer
