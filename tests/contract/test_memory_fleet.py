"""What the simulator asks of the fleet in memory beyond the port: scarcity, prices, and EC2's harsher readings."""

import pytest

from control_plane.adapters.memory import LostAnswer, MemoryFleet, ThrottledCall
from control_plane.core.events import InstanceSight, LaunchRefused, LaunchSucceeded
from control_plane.core.failures import RefusalKind
from control_plane.core.state import Market
from control_plane.ports import OutcomeUnknown, Throttled
from tests.contract.fleets import MemoryWorld, plan_in, tags_of
from tests.contract.samples import NOW, instance_id


@pytest.fixture
def world() -> MemoryWorld:
    return MemoryWorld()


@pytest.fixture
def fleet(world: MemoryWorld) -> MemoryFleet:
    return world.fleet


def launch(world: MemoryWorld, **changes: object) -> LaunchSucceeded | LaunchRefused:
    plan = plan_in(world, **changes)
    return world.fleet.launch(plan, tags_of(plan))


def test_a_pool_takes_as_many_launches_as_it_has_room_for(world: MemoryWorld, fleet: MemoryFleet) -> None:
    fleet.capacity = {(pool.instance_type, pool.zone, Market.SPOT): 0 for pool in world.pools[1:]} | {("g5.xlarge", "us-east-1a", Market.SPOT): 1}
    first = launch(world, client_token="first")
    assert isinstance(first, LaunchSucceeded)
    assert first.instances[0].pool == world.pools[0]
    second = launch(world, client_token="second")
    assert isinstance(second, LaunchRefused)
    assert (second.kind, second.pools) == (RefusalKind.CAPACITY, world.pools)
    assert isinstance(launch(world, client_token="third", market=Market.ON_DEMAND), LaunchSucceeded)


def test_the_cheapest_pool_with_room_is_taken(world: MemoryWorld, fleet: MemoryFleet) -> None:
    fleet.spot_usd_per_h = {("g5.xlarge", "us-east-1b"): 0.1}
    answer = launch(world)
    assert isinstance(answer, LaunchSucceeded)
    assert (answer.instances[0].pool, answer.instances[0].usd_per_h) == (world.pools[1], 0.1)


def test_the_quota_counts_the_vcpus_that_are_not_gone_yet(world: MemoryWorld, fleet: MemoryFleet) -> None:
    fleet.quota_vcpus = {Market.SPOT: 4}
    first = launch(world, client_token="first")
    assert isinstance(first, LaunchSucceeded)
    started = first.instances[0].instance_id
    fleet.terminate(started)
    full = launch(world, client_token="second")
    assert isinstance(full, LaunchRefused)
    assert full.kind is RefusalKind.QUOTA
    fleet.advance(started, "terminated")
    assert isinstance(launch(world, client_token="third"), LaunchSucceeded)


def test_a_refusal_is_remembered_with_its_token_even_when_capacity_is_back(world: MemoryWorld, fleet: MemoryFleet) -> None:
    world.close(dict.fromkeys(world.pools, "InsufficientInstanceCapacity"))
    refused = launch(world)
    world.close({})
    assert launch(world) == refused
    assert isinstance(launch(world, try_number=2, client_token="demo-1-2-spot"), LaunchSucceeded)


def test_a_throttled_call_is_not_remembered_with_its_token(world: MemoryWorld, fleet: MemoryFleet) -> None:
    fleet.faults = [ThrottledCall(), LostAnswer(effect=False)]
    with pytest.raises(Throttled):
        launch(world)
    with pytest.raises(OutcomeUnknown):
        launch(world)
    assert isinstance(launch(world), LaunchSucceeded)
    assert len(fleet.launch_calls) == 3


def test_changed_tags_are_changed_parameters(world: MemoryWorld, fleet: MemoryFleet) -> None:
    plan = plan_in(world)
    fleet.launch(plan, tags_of(plan))
    answer = fleet.launch(plan, tags_of(plan, "demo-2"))
    assert isinstance(answer, LaunchRefused)
    assert answer.kind is RefusalKind.TOKEN_SPENT


def test_an_old_token_in_other_zones_starts_a_second_instance(world: MemoryWorld, fleet: MemoryFleet) -> None:
    zone_a, zone_b = (plan_in(world).model_copy(update={"pools": tuple(p for p in world.pools if p.zone == zone)}) for zone in ("us-east-1a", "us-east-1b"))
    for plan in (zone_a, zone_b):
        assert isinstance(fleet.launch(plan, tags_of(plan)), LaunchSucceeded)
    assert len(fleet.instances()) == 2


@pytest.mark.parametrize("spent", [True, False])
def test_the_token_of_an_ended_instance_is_spent_or_answered_as_before(world: MemoryWorld, fleet: MemoryFleet, spent: bool) -> None:
    fleet.spent_after_end = spent
    first = launch(world)
    assert isinstance(first, LaunchSucceeded)
    fleet.advance(first.instances[0].instance_id, "terminated", "Server.SpotInstanceTermination")
    again = launch(world)
    if spent:
        assert isinstance(again, LaunchRefused)
        assert again.kind is RefusalKind.TOKEN_SPENT
    else:
        assert again == first
    assert len(fleet.instances()) == 1


def test_an_instance_moves_only_when_told_and_keeps_ec2s_reason(world: MemoryWorld, fleet: MemoryFleet) -> None:
    launch(world)
    (sight,) = fleet.instances()
    assert (sight.state, sight.state_reason, sight.launched_at) == ("pending", "", NOW)
    fleet.advance(sight.instance_id, "shutting-down", "Server.SpotInstanceTermination")
    assert fleet.terminate(sight.instance_id) == "shutting-down"
    fleet.advance(sight.instance_id, "terminated")
    assert fleet.terminate(sight.instance_id) == "terminated"
    (sight,) = fleet.instances()
    assert (sight.state, sight.state_reason) == ("terminated", "Server.SpotInstanceTermination")
    fleet.forget(sight.instance_id)
    assert fleet.instances() == ()


def test_a_hidden_instance_lives_though_ec2_does_not_know_it_yet(world: MemoryWorld, fleet: MemoryFleet) -> None:
    launch(world)
    (sight,) = fleet.instances()
    fleet.hide(sight.instance_id)
    assert fleet.instances() == ()
    assert fleet.terminate(sight.instance_id) is None
    assert fleet.every_instance() == (sight,)
    fleet.show(sight.instance_id)
    assert fleet.instances() == (sight,)


def test_no_instance_id_is_given_twice_even_after_one_was_forgotten(world: MemoryWorld, fleet: MemoryFleet) -> None:
    seen = set()
    for n in range(3):
        answer = launch(world, client_token=f"token-{n}")
        assert isinstance(answer, LaunchSucceeded)
        seen.add(answer.instances[0].instance_id)
        if n == 0:
            fleet.forget(answer.instances[0].instance_id)
    assert len(seen) == 3


def test_a_foreign_instance_cannot_be_terminated(fleet: MemoryFleet) -> None:
    fleet.place(InstanceSight(instance_id(0xF), "running", {"dropforge:project": "somebody-else"}, NOW, "g5.xlarge", "us-east-1a"))
    with pytest.raises(PermissionError, match="UnauthorizedOperation"):
        fleet.terminate(instance_id(0xF))
    assert fleet.every_instance()[0].state == "running"
