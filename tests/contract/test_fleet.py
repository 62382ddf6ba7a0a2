"""Fleet: the same on both sides."""

import re
from datetime import timedelta

import pytest
from botocore.exceptions import ClientError

from control_plane.core.events import LaunchRefused, LaunchSucceeded
from control_plane.core.failures import RefusalKind
from control_plane.core.records import Market
from control_plane.ports import OutcomeUnknown, Throttled
from jobspec import tags
from jobspec.instances import GPU_INSTANCES
from jobspec.ticket import ADDRESS_PATTERN
from tests.contract.fleets import AwsWorld, FleetWorld, InMemoryWorld, LiveWorld, plan_in, tags_of
from tests.contract.samples import NOW, ROLE_ID, instance_id
from tests.contract.sides import InMemorySide, Side


@pytest.fixture
def world(side: Side, request: pytest.FixtureRequest) -> FleetWorld:
    if isinstance(side, InMemorySide):
        return InMemoryWorld(side)
    if side.kind == "moto":
        return AwsWorld(side)
    if request.node.get_closest_marker("no_instance") is None:
        pytest.skip("would start an instance, which costs money")
    return LiveWorld(side)


def _known_wrong(side: Side, request: pytest.FixtureRequest, reason: str) -> None:
    if side.kind == "moto":
        request.applymarker(pytest.mark.xfail(strict=True, reason=reason))


@pytest.fixture
def moto_forgets_client_tokens(side: Side, request: pytest.FixtureRequest) -> None:
    _known_wrong(side, request, "moto 5.2 ignores CreateFleet's ClientToken: it starts a second instance")


@pytest.fixture
def moto_tags_what_is_not_there(side: Side, request: pytest.FixtureRequest) -> None:
    _known_wrong(side, request, "moto 5.2 takes tags for an instance that does not exist")


@pytest.mark.no_instance
def test_offers_name_one_subnet_a_zone_and_the_pinned_template(world: FleetWorld) -> None:
    offers = world.fleet.offers()
    assert offers.subnets == {pool.zone: pool.subnet_id for pool in world.pools}
    assert (offers.template_id, offers.template_version, offers.role_id) == (world.template_id, "1", ROLE_ID)


@pytest.mark.parametrize("market", list(Market))
def test_a_launch_starts_one_instance_of_a_planned_pool_with_its_tags_at_birth(world: FleetWorld, market: Market) -> None:
    plan = plan_in(world, market=market)
    answer = world.fleet.launch(plan, tags_of(plan))
    assert isinstance(answer, LaunchSucceeded)
    assert answer.plan == plan
    (started,) = answer.instances
    assert started.pool in plan.pools
    (sight,) = world.fleet.instances()
    assert sight.instance_id == started.instance_id
    assert sight.state in ("pending", "running")
    assert sight.tags == tags_of(plan)
    assert (sight.instance_type, sight.zone, sight.lifecycle) == (started.pool.instance_type, started.pool.zone, market.value)
    assert sight.launched_at.tzinfo is not None


def test_on_demand_costs_the_listed_price_and_spot_never_more(world: FleetWorld) -> None:
    for market in Market:
        plan = plan_in(world, market=market, client_token=market.value)
        answer = world.fleet.launch(plan, tags_of(plan))
        assert isinstance(answer, LaunchSucceeded)
        listed = GPU_INSTANCES[answer.instances[0].pool.instance_type].on_demand_usd_per_h
        price = answer.instances[0].usd_per_h
        assert price == listed if market is Market.ON_DEMAND else 0 < price <= listed


def test_instances_are_the_projects_own_and_can_be_narrowed_to_a_job(world: FleetWorld) -> None:
    foreign = world.place_foreign()
    for job_id in ("demo-1", "demo-2"):
        plan = plan_in(world, client_token=job_id)
        world.fleet.launch(plan, tags_of(plan, job_id))
    assert foreign not in {sight.instance_id for sight in world.fleet.instances()}
    assert {sight.tags["dropforge:job"] for sight in world.fleet.instances()} == {"demo-1", "demo-2"}
    assert [sight.tags["dropforge:job"] for sight in world.fleet.instances("demo-2")] == ["demo-2"]
    assert world.fleet.instances("demo-3") == ()


@pytest.mark.no_instance
def test_a_project_that_has_no_instances_is_shown_none(world: FleetWorld) -> None:
    assert world.fleet.instances() == ()
    assert world.fleet.instances("demo-1") == ()


@pytest.mark.usefixtures("moto_forgets_client_tokens")
def test_the_same_plan_again_is_answered_with_the_same_instance(world: FleetWorld) -> None:
    plan = plan_in(world)
    assert world.fleet.launch(plan, tags_of(plan)) == world.fleet.launch(plan, tags_of(plan))
    assert len(world.fleet.instances()) == 1


@pytest.mark.usefixtures("moto_forgets_client_tokens")
def test_a_plan_repeated_after_a_lost_answer_finds_what_that_call_started(world: FleetWorld) -> None:
    plan = plan_in(world)
    world.lose_answer(effect=True)
    with pytest.raises(OutcomeUnknown):
        world.fleet.launch(plan, tags_of(plan))
    answer = world.fleet.launch(plan, tags_of(plan))
    assert isinstance(answer, LaunchSucceeded)
    assert [sight.instance_id for sight in world.fleet.instances()] == [answer.instances[0].instance_id]


def test_a_token_used_before_with_other_parameters_is_spent_and_starts_nothing(world: FleetWorld) -> None:
    world.refuse_token()
    before = world.fleet.instances()
    plan = plan_in(world)
    answer = world.fleet.launch(plan, tags_of(plan))
    assert isinstance(answer, LaunchRefused)
    assert answer.kind is RefusalKind.TOKEN_SPENT
    assert "IdempotentParameterMismatch" in answer.message
    assert answer.pools == ()
    assert world.fleet.instances() == before


@pytest.mark.parametrize("code", ["InsufficientInstanceCapacity", "UnfulfillableCapacity"])
def test_no_capacity_anywhere_is_a_refusal_that_names_every_pool(world: FleetWorld, code: str) -> None:
    world.close(dict.fromkeys(world.pools, code))
    plan = plan_in(world)
    answer = world.fleet.launch(plan, tags_of(plan))
    assert isinstance(answer, LaunchRefused)
    assert (answer.plan, answer.kind, answer.pools) == (plan, RefusalKind.CAPACITY, world.pools)
    assert answer.message.startswith(f"{code}: ")
    assert len(answer.message) > len(code) + 10
    assert world.fleet.instances() == ()


def test_an_instance_beside_errors_is_used_and_its_pool_known(world: FleetWorld) -> None:
    *closed, last = world.pools
    world.close(dict.fromkeys(closed, "InsufficientInstanceCapacity"))
    plan = plan_in(world)
    answer = world.fleet.launch(plan, tags_of(plan))
    assert isinstance(answer, LaunchSucceeded)
    assert [started.pool for started in answer.instances] == [last]


def test_every_instance_that_was_started_too_many_is_reported(world: FleetWorld) -> None:
    world.start_too_many(2)
    plan = plan_in(world)
    answer = world.fleet.launch(plan, tags_of(plan))
    assert isinstance(answer, LaunchSucceeded)
    assert len({started.instance_id for started in answer.instances}) == 3


@pytest.mark.parametrize("market", list(Market))
def test_a_gang_is_started_whole_in_one_pool_and_every_instance_has_its_address(world: FleetWorld, market: Market) -> None:
    plan = plan_in(world, market=market, nodes=3)
    answer = world.fleet.launch(plan, tags_of(plan))
    assert isinstance(answer, LaunchSucceeded)
    assert len({started.instance_id for started in answer.instances}) == 3
    assert len({started.pool for started in answer.instances}) == 1
    sights = world.fleet.instances()
    assert {sight.instance_id for sight in sights} == {started.instance_id for started in answer.instances}
    assert all(re.fullmatch(ADDRESS_PATTERN, sight.address) for sight in sights)
    assert len({sight.address for sight in sights}) == 3


def test_a_gang_that_no_pool_can_hold_whole_is_not_started_at_all(world: FleetWorld) -> None:
    world.make_room(2)
    plan = plan_in(world, nodes=3)
    answer = world.fleet.launch(plan, tags_of(plan))
    assert isinstance(answer, LaunchRefused)
    assert answer.kind is RefusalKind.CAPACITY
    assert answer.pools == world.pools
    assert world.fleet.instances() == ()


@pytest.mark.parametrize(
    ("codes", "kind", "capacity_pools"),
    [
        (["MaxSpotInstanceCountExceeded"] * 4, RefusalKind.QUOTA, 0),
        (["InsufficientInstanceCapacity", "MaxSpotInstanceCountExceeded"] * 2, RefusalKind.QUOTA, 2),
        (["RequestLimitExceeded"] * 4, RefusalKind.THROTTLE, 0),
        (["RequestLimitExceeded", "Unsupported", "InsufficientInstanceCapacity", "Unsupported"], RefusalKind.CAPACITY, 3),
        (["InvalidSubnetID.NotFound"] * 4, RefusalKind.CONFIGURATION, 0),
        (["InvalidSubnetID.NotFound", "UnfulfillableCapacity"] * 2, RefusalKind.CAPACITY, 2),
        (["SomethingNobodyListed"] * 4, RefusalKind.UNKNOWN, 0),
    ],
)
def test_a_refusals_kind_follows_from_all_its_codes_and_its_pools_from_those_of_capacity(
    world: FleetWorld, codes: list[str], kind: RefusalKind, capacity_pools: int
) -> None:
    world.close(dict(zip(world.pools, codes, strict=True)))
    plan = plan_in(world)
    answer = world.fleet.launch(plan, tags_of(plan))
    assert isinstance(answer, LaunchRefused)
    assert answer.kind is kind
    assert len(answer.pools) == capacity_pools
    assert all(code in answer.message for code in codes)
    assert world.fleet.instances() == ()


def test_a_throttled_launch_is_told_from_a_lost_one_and_has_no_effect(world: FleetWorld) -> None:
    world.throttle()
    plan = plan_in(world)
    with pytest.raises(Throttled):
        world.fleet.launch(plan, tags_of(plan))
    assert world.fleet.instances() == ()


@pytest.mark.parametrize("effect", [True, False])
def test_a_lost_answer_is_an_unknown_outcome_that_a_look_resolves(world: FleetWorld, effect: bool) -> None:
    world.lose_answer(effect=effect)
    plan = plan_in(world)
    with pytest.raises(OutcomeUnknown):
        world.fleet.launch(plan, tags_of(plan))
    assert [sight.tags["dropforge:launch"] for sight in world.fleet.instances()] == [plan.client_token] * effect


def test_terminate_answers_with_the_state_and_may_be_repeated(world: FleetWorld) -> None:
    plan = plan_in(world)
    answer = world.fleet.launch(plan, tags_of(plan))
    assert isinstance(answer, LaunchSucceeded)
    started = answer.instances[0].instance_id
    for _ in range(2):
        assert world.fleet.terminate(started) in ("shutting-down", "terminated")
    (sight,) = world.fleet.instances()
    assert sight.state in ("shutting-down", "terminated")
    assert sight.state_reason == "Client.UserInitiatedShutdown"


@pytest.mark.no_instance
def test_terminate_of_an_id_that_ec2_does_not_know_is_none(world: FleetWorld) -> None:
    assert world.fleet.terminate(instance_id(0xABC)) is None


def test_a_stray_is_marked_in_its_tags_and_marked_anew_without_harm(world: FleetWorld) -> None:
    plan = plan_in(world)
    answer = world.fleet.launch(plan, tags_of(plan))
    assert isinstance(answer, LaunchSucceeded)
    started = answer.instances[0].instance_id
    for minutes in (0, 1):
        world.fleet.mark_stray(started, NOW + timedelta(minutes=minutes))
        (sight,) = world.fleet.instances()
        assert tags.stray_since(sight.tags) == NOW + timedelta(minutes=minutes)
        assert {key: value for key, value in sight.tags.items() if key != tags.STRAY_SINCE} == tags_of(plan)


@pytest.mark.no_instance
@pytest.mark.usefixtures("moto_tags_what_is_not_there")
def test_a_mark_for_an_id_that_ec2_does_not_know_is_an_error(world: FleetWorld) -> None:
    with pytest.raises(ClientError, match=r"InvalidInstanceID\.NotFound"):
        world.fleet.mark_stray(instance_id(0xABC), NOW)


def test_one_bad_id_fails_the_whole_batch_and_none_is_ended(world: FleetWorld) -> None:
    """Why the adapter names one instance a call (EC2 API reference, TerminateInstances)."""
    plan = plan_in(world)
    answer = world.fleet.launch(plan, tags_of(plan))
    assert isinstance(answer, LaunchSucceeded)
    with pytest.raises(ClientError, match=r"InvalidInstanceID\.NotFound"):
        world.ec2.terminate_instances(InstanceIds=[answer.instances[0].instance_id, instance_id(0xABC)])
    (sight,) = world.fleet.instances()
    assert sight.state in ("pending", "running")


def test_every_page_of_instances_is_read(world: FleetWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """The EC2 in memory has pages of two; a real one's are larger, and have a smallest size of five."""
    monkeypatch.setattr("control_plane.adapters.ec2._PAGE", 5)
    for n in range(7):
        plan = plan_in(world, client_token=f"token-{n}")
        world.fleet.launch(plan, tags_of(plan, f"demo-{n}"))
    assert sorted(sight.tags["dropforge:job"] for sight in world.fleet.instances()) == [f"demo-{n}" for n in range(7)]
