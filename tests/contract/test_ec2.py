"""What only EC2 has: the request on the wire, answers that say little, prices, error codes, pages."""

from datetime import UTC, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError

from control_plane.core.events import LaunchRefused, LaunchSucceeded
from control_plane.core.failures import RefusalKind
from control_plane.core.records import Market, Pool
from control_plane.ports import OutcomeUnknown, Throttled
from jobspec import on_demand
from jobspec.instances import GPU_INSTANCES
from tests.contract import ec2_wire
from tests.contract.fleets import AwsWorld, plan_in, tags_of
from tests.contract.samples import NOW, instance_id
from tests.contract.sides import MotoSide


@pytest.fixture
def world(aws: MotoSide) -> AwsWorld:
    return AwsWorld(aws)


def launched(world: AwsWorld, **changes: Any) -> LaunchSucceeded:
    plan = plan_in(world, **changes)
    answer = world.fleet.launch(plan, tags_of(plan))
    assert isinstance(answer, LaunchSucceeded)
    return answer


def refused(world: AwsWorld) -> LaunchRefused:
    plan = plan_in(world)
    answer = world.fleet.launch(plan, tags_of(plan))
    assert isinstance(answer, LaunchRefused)
    return answer


def test_the_call_names_everything_that_the_plan_froze(world: AwsWorld) -> None:
    requests = ec2_wire.requests_of(world.ec2, "CreateFleet")
    launched(world)
    (sent,) = requests
    assert sent["Type"] == "instant"
    assert sent["ClientToken"] == "demo-1-1-spot"
    assert sent["TargetCapacitySpecification.TotalTargetCapacity"] == 1
    assert sent["TargetCapacitySpecification.DefaultTargetCapacityType"] == "spot"
    assert sent["SpotOptions.AllocationStrategy"] == "price-capacity-optimized"
    assert sent["LaunchTemplateConfigs.1.LaunchTemplateSpecification.LaunchTemplateId"] == world.template_id
    assert sent["LaunchTemplateConfigs.1.LaunchTemplateSpecification.Version"] == "1"
    prefix = "LaunchTemplateConfigs.1.Overrides."
    asked = [(sent[f"{prefix}{n}.InstanceType"], sent[f"{prefix}{n}.SubnetId"]) for n in range(1, 5)]
    assert asked == [(pool.instance_type, pool.subnet_id) for pool in world.pools]
    assert f"{prefix}5.InstanceType" not in sent
    assert [sent[f"TagSpecification.{n}.ResourceType"] for n in (1, 2)] == ["instance", "volume"]
    for n in (1, 2):
        tags = {sent[f"TagSpecification.{n}.Tag.{t}.Key"]: sent[f"TagSpecification.{n}.Tag.{t}.Value"] for t in range(1, 7)}
        assert tags == tags_of(plan_in(world))


def test_on_demand_is_asked_for_as_on_demand(world: AwsWorld) -> None:
    requests = ec2_wire.requests_of(world.ec2, "CreateFleet")
    launched(world, market=Market.ON_DEMAND)
    assert requests[0]["TargetCapacitySpecification.DefaultTargetCapacityType"] == "on-demand"
    assert requests[0]["OnDemandOptions.AllocationStrategy"] == "lowest-price"
    assert "SpotOptions.AllocationStrategy" not in requests[0]


@pytest.mark.parametrize(("market", "options"), [(Market.SPOT, "SpotOptions"), (Market.ON_DEMAND, "OnDemandOptions")])
def test_a_gang_is_asked_for_whole_and_side_by_side_in_its_own_market(world: AwsWorld, market: Market, options: str) -> None:
    requests = ec2_wire.requests_of(world.ec2, "CreateFleet")
    launched(world, market=market, nodes=4)
    (sent,) = requests
    assert sent["TargetCapacitySpecification.TotalTargetCapacity"] == 4
    told = {key.removeprefix(f"{options}."): value for key, value in sent.items() if "Options." in key and "Allocation" not in key}
    assert told == {"MinTargetCapacity": 4, "SingleInstanceType": "true", "SingleAvailabilityZone": "true"}


def test_one_instance_is_asked_for_without_the_options_of_a_gang(world: AwsWorld) -> None:
    requests = ec2_wire.requests_of(world.ec2, "CreateFleet")
    launched(world)
    assert {key for key in requests[0] if "Options." in key} == {"SpotOptions.AllocationStrategy"}


def test_the_same_plan_is_the_same_request(world: AwsWorld) -> None:
    requests = ec2_wire.requests_of(world.ec2, "CreateFleet")
    launched(world)
    launched(world)
    assert requests[0] == requests[1]


def test_an_answer_with_neither_instances_nor_errors_is_an_unknown_refusal(world: AwsWorld) -> None:
    ec2_wire.answer_with(world.ec2, "CreateFleet", ec2_wire.fleet_xml())
    answer = refused(world)
    assert (answer.kind, answer.pools) == (RefusalKind.UNKNOWN, ())
    assert answer.message == "EC2 started no instance and gave no reason"


def test_a_capacity_error_that_names_no_pool_speaks_of_all(world: AwsWorld) -> None:
    ec2_wire.answer_with(world.ec2, "CreateFleet", ec2_wire.fleet_xml(errors=(("UnfulfillableCapacity", None),)))
    assert refused(world).pools == world.pools


def test_a_message_has_each_code_once_and_an_end(world: AwsWorld) -> None:
    errors = tuple((code, pool) for pool in world.pools for code in ("Unsupported", "InsufficientInstanceCapacity"))
    ec2_wire.answer_with(world.ec2, "CreateFleet", ec2_wire.fleet_xml(errors=errors))
    message = refused(world).message
    assert message.startswith("Unsupported, InsufficientInstanceCapacity: We currently do not have")


def test_a_message_of_ec2s_is_cut_to_what_a_person_reads(world: AwsWorld) -> None:
    ec2_wire.fail_with(world.ec2, "CreateFleet", "UnauthorizedOperation", "Encoded authorization failure message: " + "x" * 5000, status=403)
    message = refused(world).message
    assert message.startswith("UnauthorizedOperation: Encoded authorization")
    assert len(message) == 400


def test_an_instance_that_names_only_its_type_is_not_overlooked(world: AwsWorld) -> None:
    of_second_type = world.pools[2]
    ec2_wire.answer_with(world.ec2, "CreateFleet", ec2_wire.fleet_xml(instances=((instance_id(9), of_second_type),), terse=True))
    (started,) = launched(world).instances
    assert (started.instance_id, started.pool) == (instance_id(9), of_second_type)


def test_an_instance_of_a_pool_that_nobody_planned_is_not_overlooked(world: AwsWorld) -> None:
    unplanned = Pool(instance_type="g4dn.xlarge", zone="us-east-1f", subnet_id="subnet-0fedcba9876543210")
    ec2_wire.answer_with(world.ec2, "CreateFleet", ec2_wire.fleet_xml(instances=((instance_id(9), unplanned),)))
    (started,) = launched(world).instances
    assert started.instance_id == instance_id(9)


def test_the_newest_spot_price_of_the_pool_counts(world: AwsWorld) -> None:
    requests = ec2_wire.requests_of(world.ec2, "DescribeSpotPriceHistory")
    xml = ec2_wire.price_xml(("2026-11-03T09:00:00.000Z", "0.400000"), ("2026-11-03T11:00:00.000Z", "0.380000"), ("2026-11-03T10:00:00.000Z", "0.390000"))
    ec2_wire.answer_with(world.ec2, "DescribeSpotPriceHistory", xml)
    (started,) = launched(world).instances
    assert started.usd_per_h == 0.38
    assert requests[0]["InstanceType.1"] == started.pool.instance_type
    assert requests[0]["AvailabilityZone"] == started.pool.zone
    assert requests[0]["StartTime"] == "2026-11-03T12:00:00Z"


@pytest.mark.parametrize("trouble", ["no price", "denied", "timeout"])
def test_a_launch_is_not_lost_over_its_price(world: AwsWorld, trouble: str) -> None:
    if trouble == "no price":
        ec2_wire.answer_with(world.ec2, "DescribeSpotPriceHistory", ec2_wire.price_xml())
    elif trouble == "denied":
        ec2_wire.fail_with(world.ec2, "DescribeSpotPriceHistory", "UnauthorizedOperation", status=403)
    else:
        ec2_wire.time_out(world.ec2, "DescribeSpotPriceHistory", effect=False)
    (started,) = launched(world).instances
    assert started.usd_per_h == 1.006


def test_a_type_that_left_the_list_costs_the_dearest_price(world: AwsWorld) -> None:
    retired = plan_in(world, market=Market.ON_DEMAND).model_copy(update={"pools": (world.pools[0].model_copy(update={"instance_type": "p2.xlarge"}),)})
    answer = world.fleet.launch(retired, tags_of(retired))
    assert isinstance(answer, LaunchSucceeded)
    assert answer.instances[0].usd_per_h == max(offer.on_demand_usd_per_h for offer in GPU_INSTANCES.values())


def test_on_demand_is_priced_by_the_region_of_the_pool(world: AwsWorld) -> None:
    plan = plan_in(world, market=Market.ON_DEMAND)
    elsewhere = plan.model_copy(update={"pools": tuple(pool.model_copy(update={"zone": "eu-central-1a"}) for pool in plan.pools)})
    answer = world.fleet.launch(elsewhere, tags_of(elsewhere))
    assert isinstance(answer, LaunchSucceeded)
    assert answer.instances[0].usd_per_h == on_demand.usd_per_h(answer.instances[0].pool.instance_type, "eu-central-1")


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("MaxSpotInstanceCountExceeded", 400, RefusalKind.QUOTA),
        ("InsufficientInstanceCapacity", 500, RefusalKind.CAPACITY),
        ("UnauthorizedOperation", 403, RefusalKind.CONFIGURATION),
        ("InvalidLaunchTemplateId.NotFound", 400, RefusalKind.CONFIGURATION),
        ("IdempotentInstanceTerminated", 400, RefusalKind.TOKEN_SPENT),
        ("NobodyListedThis", 400, RefusalKind.UNKNOWN),
    ],
)
def test_an_error_for_the_whole_call_is_a_refusal_of_its_kind(world: AwsWorld, code: str, status: int, kind: RefusalKind) -> None:
    ec2_wire.fail_with(world.ec2, "CreateFleet", code, status=status)
    answer = refused(world)
    assert (answer.kind, answer.message) == (kind, f"{code}: EC2's words.")
    assert answer.pools == (world.pools if kind is RefusalKind.CAPACITY else ())


@pytest.mark.parametrize(
    ("code", "status", "raised"),
    [
        ("RequestLimitExceeded", 503, Throttled),
        ("Throttling", 400, Throttled),
        ("InternalError", 500, OutcomeUnknown),
        ("Unavailable", 503, OutcomeUnknown),
        ("ServiceUnavailable", 503, OutcomeUnknown),
        ("NobodyListedThis", 500, OutcomeUnknown),
    ],
)
def test_an_error_that_is_no_answer_is_raised_by_every_change(world: AwsWorld, code: str, status: int, raised: type[Exception]) -> None:
    for operation in ("CreateFleet", "TerminateInstances", "CreateTags"):
        ec2_wire.fail_with(world.ec2, operation, code, status=status)
    plan = plan_in(world)
    with pytest.raises(raised):
        world.fleet.launch(plan, tags_of(plan))
    with pytest.raises(raised):
        world.fleet.terminate(instance_id(1))
    with pytest.raises(raised):
        world.fleet.mark_stray(instance_id(1), NOW)


def test_a_connection_that_fails_leaves_the_outcome_unknown(world: AwsWorld) -> None:
    def refuse(**_: Any) -> None:
        raise EndpointConnectionError(endpoint_url="https://ec2.us-east-1.amazonaws.com/")

    for operation in ("CreateFleet", "TerminateInstances", "CreateTags"):
        world.ec2.meta.events.register(f"before-call.ec2.{operation}", refuse)
    plan = plan_in(world)
    with pytest.raises(OutcomeUnknown):
        world.fleet.launch(plan, tags_of(plan))
    with pytest.raises(OutcomeUnknown):
        world.fleet.terminate(instance_id(1))
    with pytest.raises(OutcomeUnknown):
        world.fleet.mark_stray(instance_id(1), NOW)


def test_an_answer_that_is_no_xml_leaves_the_outcome_unknown(world: AwsWorld) -> None:
    ec2_wire.answer_with(world.ec2, "CreateFleet", "<html>a proxy's page")
    plan = plan_in(world)
    with pytest.raises(OutcomeUnknown):
        world.fleet.launch(plan, tags_of(plan))


def test_a_call_that_was_never_sent_is_raised_as_it_is(world: AwsWorld) -> None:
    def refuse(**_: Any) -> None:
        raise NoCredentialsError

    world.ec2.meta.events.register("before-call.ec2.CreateFleet", refuse)
    plan = plan_in(world)
    with pytest.raises(NoCredentialsError):
        world.fleet.launch(plan, tags_of(plan))


def test_terminate_of_what_the_role_may_not_touch_is_an_error_not_an_absence(world: AwsWorld) -> None:
    ec2_wire.fail_with(world.ec2, "TerminateInstances", "UnauthorizedOperation", status=403)
    with pytest.raises(ClientError, match="UnauthorizedOperation"):
        world.fleet.terminate(instance_id(1))


def test_terminate_names_one_instance_a_call(world: AwsWorld) -> None:
    requests = ec2_wire.requests_of(world.ec2, "TerminateInstances")
    world.fleet.terminate(launched(world).instances[0].instance_id)
    assert [key for key in requests[0] if key.startswith("InstanceId.")] == ["InstanceId.1"]


def test_a_spot_reclaim_is_seen_with_ec2s_reason(world: AwsWorld) -> None:
    xml = (
        '<DescribeInstancesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><reservationSet><item><instancesSet><item>'
        f"<instanceId>{instance_id(1)}</instanceId><instanceState><code>48</code><name>terminated</name></instanceState>"
        "<instanceType>g5.xlarge</instanceType><launchTime>2026-11-03T10:00:00.000Z</launchTime><instanceLifecycle>spot</instanceLifecycle>"
        "<stateReason><code>Server.SpotInstanceTermination</code><message>Server.SpotInstanceTermination: Spot instance termination</message></stateReason>"
        "<tagSet><item><key>dropforge:project</key><value>dropforge</value></item></tagSet>"
        "</item></instancesSet></item></reservationSet></DescribeInstancesResponse>"
    )
    ec2_wire.answer_with(world.ec2, "DescribeInstances", xml)
    (sight,) = world.fleet.instances()
    assert (sight.state, sight.state_reason, sight.lifecycle, sight.zone) == ("terminated", "Server.SpotInstanceTermination", "spot", "")
    assert sight.launched_at.astimezone(UTC).isoformat() == "2026-11-03T10:00:00+00:00"


def test_pages_are_asked_for_by_size(world: AwsWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a size, DescribeInstances may answer with everything at once, and time out."""
    monkeypatch.setattr("control_plane.adapters.ec2._PAGE", 5)
    requests = ec2_wire.requests_of(world.ec2, "DescribeInstances")
    for n in range(7):
        launched(world, client_token=f"token-{n}")
    assert len(world.fleet.instances()) == 7
    assert [request["MaxResults"] for request in requests] == [5, 5]


def test_the_first_subnet_given_stands_for_its_zone_and_is_asked_for_once(world: AwsWorld) -> None:
    zone, first = next(iter(world.subnets.items()))
    vpc = world.ec2.describe_subnets(SubnetIds=[first])["Subnets"][0]["VpcId"]
    second = world.ec2.create_subnet(VpcId=vpc, CidrBlock="172.31.200.0/24", AvailabilityZone=zone)["Subnet"]["SubnetId"]
    requests = ec2_wire.requests_of(world.ec2, "DescribeSubnets")
    fleet = world.fleet_over(second, first)
    assert fleet.offers().subnets == {zone: second}
    assert fleet.offers().subnets == {zone: second}
    assert len(requests) == 1


def priced(*rows: tuple[str, str, str, str]) -> str:
    """DescribeSpotPriceHistory's answer: (type, zone, time, price) each."""
    items = "".join(
        f"<item><instanceType>{kind}</instanceType><productDescription>Linux/UNIX</productDescription><spotPrice>{price}</spotPrice>"
        f"<timestamp>{at}</timestamp><availabilityZone>{zone}</availabilityZone></item>"
        for kind, zone, at, price in rows
    )
    return (
        f'<DescribeSpotPriceHistoryResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><spotPriceHistorySet>{items}</spotPriceHistorySet>'
        "</DescribeSpotPriceHistoryResponse>"
    )


def test_every_pools_price_in_force_comes_of_one_call_and_serves_for_a_while(world: AwsWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [NOW]
    monkeypatch.setattr(world.fleet._prices, "_now", lambda: clock[0])
    requests = ec2_wire.requests_of(world.ec2, "DescribeSpotPriceHistory")
    old, new = "2026-11-03T10:00:00.000Z", "2026-11-03T11:30:00.000Z"
    rows = (("g5.xlarge", "us-east-1a", old, "0.41"), ("g5.xlarge", "us-east-1a", new, "0.39"), ("g6.xlarge", "us-east-1b", old, "0.33"))
    ec2_wire.answer_with(world.ec2, "DescribeSpotPriceHistory", priced(*rows))
    for minutes in (0, 5, 14):
        clock[0] = NOW + timedelta(minutes=minutes)
        assert world.fleet.offers().spot_usd_per_h == {("g5.xlarge", "us-east-1a"): 0.39, ("g6.xlarge", "us-east-1b"): 0.33}
    assert len(requests) == 1
    assert [requests[0][f"InstanceType.{n}"] for n in range(1, len(GPU_INSTANCES) + 1)] == sorted(GPU_INSTANCES)
    assert "AvailabilityZone" not in requests[0]
    assert requests[0]["StartTime"] == "2026-11-03T12:00:00Z"
    clock[0] = NOW + timedelta(minutes=15)
    world.fleet.offers()
    assert len(requests) == 2


def test_prices_that_cannot_be_read_leave_the_offers_whole_and_are_asked_for_again_soon(world: AwsWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [NOW]
    monkeypatch.setattr(world.fleet._prices, "_now", lambda: clock[0])
    requests = ec2_wire.requests_of(world.ec2, "DescribeSpotPriceHistory")
    ec2_wire.fail_with(world.ec2, "DescribeSpotPriceHistory", "RequestLimitExceeded", status=503)
    for minutes, calls in ((0, 1), (1, 1), (2, 2)):
        clock[0] = NOW + timedelta(minutes=minutes)
        offers = world.fleet.offers()
        assert (offers.spot_usd_per_h, set(offers.subnets)) == (None, set(world.subnets))
        assert len(requests) == calls
