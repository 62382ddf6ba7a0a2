"""The EC2 in memory beyond the port: scarcity, prices, and EC2's harsher readings. What AWS documents of them: shared facts, aws.md and reliability.md."""

import pytest
from botocore.exceptions import ClientError

from control_plane.adapters.ec2 import fleet_request
from control_plane.core.events import LaunchRefused, LaunchSucceeded
from control_plane.core.failures import RefusalKind
from control_plane.core.records import Market
from control_plane.ports import OutcomeUnknown, Throttled
from tests.contract.fleets import InMemoryWorld, plan_in, tags_of
from tests.contract.samples import NOW
from tests.contract.sides import InMemorySide
from tests.simulation.aws.ec2 import Ec2


@pytest.fixture
def world() -> InMemoryWorld:
    return InMemoryWorld(InMemorySide())


@pytest.fixture
def ec2(world: InMemoryWorld) -> Ec2:
    return world.ec2


def launch(world: InMemoryWorld, **changes: object) -> LaunchSucceeded | LaunchRefused:
    plan = plan_in(world, **changes)
    return world.fleet.launch(plan, tags_of(plan))


def started(world: InMemoryWorld, **changes: object) -> str:
    answer = launch(world, **changes)
    assert isinstance(answer, LaunchSucceeded)
    return answer.instances[0].instance_id


def test_a_pool_takes_as_many_launches_as_it_has_room_for(world: InMemoryWorld, ec2: Ec2) -> None:
    ec2.capacity = {(pool.instance_type, pool.zone, "spot"): 0 for pool in world.pools[1:]} | {("g5.xlarge", "us-east-1a", "spot"): 1}
    first = launch(world, client_token="first")
    assert isinstance(first, LaunchSucceeded)
    assert first.instances[0].pool == world.pools[0]
    second = launch(world, client_token="second")
    assert isinstance(second, LaunchRefused)
    assert (second.kind, second.pools) == (RefusalKind.CAPACITY, world.pools)
    assert isinstance(launch(world, client_token="third", market=Market.ON_DEMAND), LaunchSucceeded)


def test_the_cheapest_pool_with_room_is_taken(world: InMemoryWorld, ec2: Ec2) -> None:
    ec2.spot_usd_per_h = {("g5.xlarge", "us-east-1b"): 0.1}
    answer = launch(world)
    assert isinstance(answer, LaunchSucceeded)
    assert (answer.instances[0].pool, answer.instances[0].usd_per_h) == (world.pools[1], 0.1)


def test_among_pools_of_one_price_the_first_that_was_asked_for_is_taken(world: InMemoryWorld) -> None:
    backwards = plan_in(world).model_copy(update={"pools": world.pools[1::-1]})
    answer = world.fleet.launch(backwards, tags_of(backwards))
    assert isinstance(answer, LaunchSucceeded)
    assert answer.instances[0].pool == world.pools[1]


def test_the_quota_counts_the_vcpus_that_are_not_gone_yet(world: InMemoryWorld, ec2: Ec2) -> None:
    ec2.quota_vcpus = {"spot": 4}
    world.account.later = lambda seconds, work: None
    first = started(world, client_token="first")
    assert world.fleet.terminate(first) == "shutting-down"
    full = launch(world, client_token="second")
    assert isinstance(full, LaunchRefused)
    assert full.kind is RefusalKind.QUOTA
    ec2.change(first, "terminated")
    assert isinstance(launch(world, client_token="third"), LaunchSucceeded)


def test_an_instance_beside_errors_and_its_errors_are_one_answer(world: InMemoryWorld) -> None:
    world.close({world.pools[0]: "InsufficientInstanceCapacity", world.pools[1]: "RequestLimitExceeded"})
    answer = world.ec2.create_fleet(**_request(world))
    assert [entry["ErrorCode"] for entry in answer["Errors"]] == ["InsufficientInstanceCapacity", "RequestLimitExceeded"]
    (entry,) = answer["Instances"]
    assert (entry["InstanceType"], len(entry["InstanceIds"])) == ("g6.xlarge", 1)


def test_a_refusal_is_remembered_with_its_token_even_when_capacity_is_back(world: InMemoryWorld) -> None:
    world.close(dict.fromkeys(world.pools, "InsufficientInstanceCapacity"))
    refused = launch(world)
    world.close({})
    assert launch(world) == refused
    assert isinstance(launch(world, try_number=2, client_token="demo-1-2-spot"), LaunchSucceeded)


def test_a_throttled_call_is_not_remembered_with_its_token(world: InMemoryWorld, ec2: Ec2) -> None:
    world.throttle()
    with pytest.raises(Throttled):
        launch(world)
    world.lose_answer(effect=False)
    with pytest.raises(OutcomeUnknown):
        launch(world)
    assert isinstance(launch(world), LaunchSucceeded)
    assert len(ec2.fleet_requests) == 3


def test_changed_tags_are_changed_parameters(world: InMemoryWorld) -> None:
    plan = plan_in(world)
    world.fleet.launch(plan, tags_of(plan))
    answer = world.fleet.launch(plan, tags_of(plan, "demo-2"))
    assert isinstance(answer, LaunchRefused)
    assert answer.kind is RefusalKind.TOKEN_SPENT


def test_an_old_token_in_other_zones_starts_a_second_instance(world: InMemoryWorld) -> None:
    zone_a, zone_b = (plan_in(world).model_copy(update={"pools": tuple(p for p in world.pools if p.zone == zone)}) for zone in ("us-east-1a", "us-east-1b"))
    for plan in (zone_a, zone_b):
        assert isinstance(world.fleet.launch(plan, tags_of(plan)), LaunchSucceeded)
    assert len(world.fleet.instances()) == 2


@pytest.mark.parametrize("spent", [True, False])
def test_the_token_of_an_ended_instance_is_spent_or_answered_as_before(world: InMemoryWorld, ec2: Ec2, spent: bool) -> None:
    ec2.spent_after_end = spent
    first = launch(world)
    assert isinstance(first, LaunchSucceeded)
    ec2.change(first.instances[0].instance_id, "terminated", "Server.SpotInstanceTermination")
    again = launch(world)
    if spent:
        assert isinstance(again, LaunchRefused)
        assert again.kind is RefusalKind.TOKEN_SPENT
    else:
        assert again == first
    assert len(world.fleet.instances()) == 1


def test_an_instance_moves_only_when_told_and_keeps_ec2s_reason(world: InMemoryWorld, ec2: Ec2) -> None:
    instance_id = started(world)
    (sight,) = world.fleet.instances()
    assert (sight.state, sight.state_reason, sight.launched_at) == ("pending", "", NOW)
    ec2.change(instance_id, "shutting-down", "Server.SpotInstanceTermination")
    assert world.fleet.terminate(instance_id) == "shutting-down"
    ec2.change(instance_id, "terminated")
    assert world.fleet.terminate(instance_id) == "terminated"
    (sight,) = world.fleet.instances()
    assert (sight.state, sight.state_reason) == ("terminated", "Server.SpotInstanceTermination")
    ec2.instances[instance_id].forgotten = True
    assert world.fleet.instances() == ()
    assert world.fleet.terminate(instance_id) is None


def test_a_hidden_instance_lives_though_ec2_does_not_know_it_yet(world: InMemoryWorld, ec2: Ec2) -> None:
    shown = []
    world.account.later = lambda seconds, work: shown.append((seconds, work))
    ec2.hidden_for_s = lambda: 60.0
    instance_id = started(world)
    assert world.fleet.instances() == ()
    assert world.fleet.terminate(instance_id) is None
    assert ec2.live() == [instance_id]
    ((seconds, show),) = shown
    show()
    assert seconds == 60.0
    assert [sight.instance_id for sight in world.fleet.instances()] == [instance_id]


def test_no_instance_id_is_given_twice_even_after_one_was_forgotten(world: InMemoryWorld, ec2: Ec2) -> None:
    seen = set()
    for n in range(3):
        seen.add(started(world, client_token=f"token-{n}"))
        if n == 0:
            (first,) = seen
            ec2.change(first, "terminated")
            ec2.instances[first].forgotten = True
    assert len(seen) == 3


def test_a_foreign_instance_can_neither_be_terminated_nor_tagged(world: InMemoryWorld, ec2: Ec2) -> None:
    foreign = world.place_foreign()
    with pytest.raises(ClientError, match="UnauthorizedOperation"):
        world.fleet.terminate(foreign)
    with pytest.raises(ClientError, match="UnauthorizedOperation"):
        world.fleet.mark_stray(foreign, NOW)
    assert ec2.live() == [foreign]
    assert ec2.instances[foreign].tags == {"dropforge:project": "somebody-else"}


def test_a_tag_that_the_role_may_not_set_is_refused(world: InMemoryWorld, ec2: Ec2) -> None:
    instance_id = started(world)
    with pytest.raises(ClientError, match="UnauthorizedOperation"):
        ec2.create_tags(Resources=[instance_id], Tags=[{"Key": "dropforge:project", "Value": "mine"}])


def test_a_launch_under_latest_has_the_templates_newest_version(world: InMemoryWorld, ec2: Ec2) -> None:
    ec2.template_version = "7"
    latest, pinned = (started(world, client_token=version, template_version=version) for version in ("$Latest", "3"))
    assert (ec2.instances[latest].template_version, ec2.instances[pinned].template_version) == ("7", "3")


def _request(world: InMemoryWorld) -> dict[str, object]:
    plan = plan_in(world)
    return fleet_request(plan, tags_of(plan))
