"""The fleets of several regions: whose facts are read where, what a region that does not answer costs the others, and who is asked about what."""

import json
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from control_plane.adapters.ec2 import Ec2Fleet, Site
from control_plane.adapters.regions import PeerSite, Regions
from control_plane.core.events import LaunchSucceeded
from control_plane.core.records import Egress, Pool
from jobspec.regions import site_parameter
from tests.contract.fleets import tags_of
from tests.contract.samples import NOW, PROJECT, ROLE_ID, plan
from tests.simulation.aws import Account

PEER = "us-west-2"


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


class Ssm:
    """The parameter as a test sets it; None: SSM does not answer."""

    def __init__(self) -> None:
        self.value: str | None = json.dumps({"template_id": "lt-west", "template_version": 3, "subnet_ids": ["subnet-w"]})
        self.asked: list[str] = []

    def get_parameter(self, *, Name: str) -> dict[str, Any]:
        self.asked.append(Name)
        if self.value is None:
            raise ConnectionError("no answer")
        return {"Parameter": {"Value": self.value}}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def account(clock: Clock) -> Account:
    found = Account(clock, project=PROJECT)
    found.ec2.subnets |= {"subnet-w": f"{PEER}a"}
    return found


@pytest.fixture
def ssm() -> Ssm:
    return Ssm()


@pytest.fixture
def regions(account: Account, ssm: Ssm, clock: Clock) -> Regions:
    site = Site(("subnet-a", "subnet-b"), "lt-home", "1", ROLE_ID)
    home = Ec2Fleet(account.client("ec2"), project=PROJECT, site=lambda: site, now=clock)
    peer = Ec2Fleet(account.client("ec2", PEER), project=PROJECT, site=PeerSite(ssm, PROJECT, ROLE_ID, clock), now=clock)
    return Regions(home, {PEER: lambda: peer})


def test_each_region_offers_what_its_own_stack_says(regions: Regions, ssm: Ssm) -> None:
    offers = regions.offers()
    (peer,) = offers.peers
    assert (offers.region, offers.template_id, set(offers.subnets), offers.egress) == ("us-east-1", "lt-home", {"us-east-1a", "us-east-1b"}, None)
    assert (peer.region, peer.template_id, peer.template_version, peer.subnets, peer.role_id) == (PEER, "lt-west", "3", {"us-west-2a": "subnet-w"}, ROLE_ID)
    assert peer.egress == Egress(in_usd_per_gib=0.02, out_usd_per_gib=0.02)
    assert peer.spot_usd_per_h is not None
    assert {zone for _, zone in peer.spot_usd_per_h} == {"us-west-2a"}
    assert ssm.asked == [site_parameter(PROJECT)]


def test_what_a_peer_says_is_read_anew_after_some_minutes(regions: Regions, ssm: Ssm, clock: Clock) -> None:
    regions.offers()
    ssm.value = json.dumps({"template_id": "lt-west", "template_version": 4, "subnet_ids": ["subnet-w"]})
    assert regions.offers().peers[0].template_version == "3"
    clock.now += timedelta(minutes=5)
    assert regions.offers().peers[0].template_version == "4"


@pytest.mark.parametrize("value", [None, "not JSON", "{}", '{"subnet_ids": 3}'])
def test_a_peer_that_cannot_be_read_is_left_out_and_holds_up_nobody(regions: Regions, ssm: Ssm, value: str | None) -> None:
    ssm.value = value
    offers = regions.offers()
    assert (offers.peers, offers.template_id, regions.names) == ((), "lt-home", (PEER,))


def test_a_launch_an_end_and_a_look_go_to_the_region_that_they_are_about(regions: Regions, account: Account) -> None:
    there = plan((Pool(instance_type="g5.xlarge", zone="us-west-2a", subnet_id="subnet-w"),), template_id="lt-west")
    answer = regions.at("us-west-2a").launch(there, tags_of(there))
    assert isinstance(answer, LaunchSucceeded)
    (started,) = answer.instances
    home, peer = regions.parts()
    assert (home.instances(), [sight.zone for sight in peer.instances()]) == ((), ["us-west-2a"])
    assert regions.at("us-east-1a").terminate(started.instance_id) is None, "another region does not know it"
    assert account.ec2.live() == [started.instance_id]
    assert regions.at("us-west-2a").terminate(started.instance_id) is not None
    assert account.ec2.live() == []


def test_a_region_that_is_none_of_the_projects_is_answered_for_by_home(regions: Regions) -> None:
    home, _ = regions.parts()
    assert regions.at("eu-west-1a") is home
    assert regions.at("") is home


def test_without_peers_there_is_one_region(account: Account, clock: Clock) -> None:
    site = Site(("subnet-a",), "lt-home", "1", ROLE_ID)
    alone = Regions(Ec2Fleet(account.client("ec2"), project=PROJECT, site=lambda: site, now=clock), {})
    assert alone.offers() == replace(alone.offers(), peers=())
    assert len(alone.parts()) == 1
