"""How launches are asked for and refused: the semantics of EC2 that the control plane's plans stand on."""

from typing import Any

import pytest
from botocore.exceptions import ClientError

from .conftest import LocalCloud, eventually

pytestmark = pytest.mark.local_cloud


def code_of(raised: pytest.ExceptionInfo[ClientError]) -> str:
    return str(raised.value.response["Error"]["Code"])


def ids(fleet: dict[str, Any]) -> list[str]:
    return [instance_id for item in fleet["Instances"] for instance_id in item["InstanceIds"]]


def test_a_fleet_names_type_zone_and_market_of_what_it_launched(local_cloud: LocalCloud) -> None:
    (item,) = local_cloud.fleet()["Instances"]
    assert (item["InstanceType"], item["Lifecycle"]) == ("g5.xlarge", "spot")
    assert item["LaunchTemplateAndOverrides"]["Overrides"]["AvailabilityZone"] == "us-east-1a"
    instance = local_cloud.instance(item["InstanceIds"][0])
    assert instance["InstanceLifecycle"] == "spot"
    assert instance["Placement"]["AvailabilityZone"] == "us-east-1a"
    assert instance["ImageId"] == local_cloud.outputs["ImageId"]
    assert instance["MetadataOptions"]["HttpTokens"] == "required"
    assert {"Key": "team", "Value": "ours"} in instance["Tags"]


def test_no_capacity_is_an_answer_with_errors_and_no_instances_not_an_exception(local_cloud: LocalCloud) -> None:
    local_cloud.market.set_capacity(0)
    fleet = local_cloud.fleet(types=("g5.xlarge", "g6.xlarge"))
    assert fleet["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert fleet["Instances"] == []
    assert [error["ErrorCode"] for error in fleet["Errors"]] == ["InsufficientInstanceCapacity"] * 4


def test_errors_of_one_pool_stand_beside_the_instance_of_another(local_cloud: LocalCloud) -> None:
    local_cloud.market.set_capacity(0, instance_type="g5.xlarge", zone="us-east-1a")
    try:
        fleet = local_cloud.fleet()
    finally:
        local_cloud.market.set_capacity(None, instance_type="g5.xlarge", zone="us-east-1a")
    assert [error["ErrorCode"] for error in fleet["Errors"]] == ["InsufficientInstanceCapacity"]
    assert [item["LaunchTemplateAndOverrides"]["Overrides"]["AvailabilityZone"] for item in fleet["Instances"]] == ["us-east-1b"]


def test_a_pool_holds_as_many_as_its_capacity(local_cloud: LocalCloud) -> None:
    local_cloud.market.set_capacity(1)
    pools = [local_cloud.fleet()["Instances"] for _ in range(3)]
    assert [bool(instances) for instances in pools] == [True, True, False]


def test_planned_refusals_run_out(local_cloud: LocalCloud) -> None:
    local_cloud.market.refuse(2, code="UnfulfillableCapacity")
    assert [error["ErrorCode"] for error in local_cloud.fleet()["Errors"]] == ["UnfulfillableCapacity"] * 2
    assert local_cloud.fleet()["Errors"] == []


def test_the_quota_refuses_every_pool_alike_and_counts_live_instances(local_cloud: LocalCloud) -> None:
    local_cloud.market.set_quota(4)
    assert len(ids(local_cloud.fleet())) == 1
    second = local_cloud.fleet()
    assert not second["Instances"]
    assert {error["ErrorCode"] for error in second["Errors"]} == {"MaxSpotInstanceCountExceeded"}
    assert len(ids(local_cloud.fleet(market="on-demand"))) == 1


def gang(cloud: LocalCloud, size: int, **options: Any) -> dict[str, Any]:
    asked = {"MinTargetCapacity": size, "SingleInstanceType": True, "SingleAvailabilityZone": True, "AllocationStrategy": "price-capacity-optimized"}
    target = {"TotalTargetCapacity": size, "DefaultTargetCapacityType": "spot"}
    return cloud.fleet(types=("g5.xlarge", "g6.xlarge"), TargetCapacitySpecification=target, SpotOptions=asked | options)


def test_a_gang_starts_whole_in_one_pool_each_on_an_address_of_its_own(local_cloud: LocalCloud) -> None:
    (item,) = gang(local_cloud, 3)["Instances"]
    instances = [local_cloud.instance(instance_id) for instance_id in item["InstanceIds"]]
    assert len({(one["InstanceType"], one["Placement"]["AvailabilityZone"]) for one in instances}) == 1
    addresses = {one["PrivateIpAddress"] for one in instances}
    assert len(addresses) == 3
    assert all(address.startswith("127.77.") for address in addresses)


def test_a_gang_takes_the_pool_that_holds_all_of_it(local_cloud: LocalCloud) -> None:
    local_cloud.market.set_capacity(1)
    local_cloud.market.set_capacity(2, instance_type="g5.xlarge", zone="us-east-1b")
    try:
        fleet = gang(local_cloud, 2)
    finally:
        local_cloud.market.set_capacity(None, instance_type="g5.xlarge", zone="us-east-1b")
    (item,) = fleet["Instances"]
    assert len(item["InstanceIds"]) == 2
    overrides = item["LaunchTemplateAndOverrides"]["Overrides"]
    assert (overrides["InstanceType"], overrides["AvailabilityZone"]) == ("g5.xlarge", "us-east-1b")


def test_a_gang_that_no_pool_holds_whole_starts_nothing(local_cloud: LocalCloud) -> None:
    local_cloud.market.set_capacity(1)
    fleet = gang(local_cloud, 2)
    assert fleet["Instances"] == []
    assert [error["ErrorCode"] for error in fleet["Errors"]] == ["InsufficientInstanceCapacity"] * 4


def test_the_quota_is_of_all_the_gangs_vcpus(local_cloud: LocalCloud) -> None:
    local_cloud.market.set_quota(7)
    fleet = gang(local_cloud, 2)
    assert fleet["Instances"] == []
    assert {error["ErrorCode"] for error in fleet["Errors"]} == {"MaxSpotInstanceCountExceeded"}


def test_a_least_number_needs_one_of_the_options_that_keep_a_gang_together(local_cloud: LocalCloud) -> None:
    with pytest.raises(ClientError) as raised:
        gang(local_cloud, 2, SingleInstanceType=False, SingleAvailabilityZone=False)
    assert code_of(raised) == "InvalidParameterCombination"


def test_a_maximum_price_below_the_market_is_refused(local_cloud: LocalCloud) -> None:
    override = {"InstanceType": "g5.xlarge", "SubnetId": local_cloud.outputs["SubnetA"], "MaxPrice": "0.01"}
    fleet = local_cloud.fleet(LaunchTemplateConfigs=[{"LaunchTemplateSpecification": local_cloud.template, "Overrides": [override]}])
    assert [error["ErrorCode"] for error in fleet["Errors"]] == ["SpotMaxPriceTooLow"]


def test_a_type_that_is_not_offered_is_unsupported(local_cloud: LocalCloud) -> None:
    assert {error["ErrorCode"] for error in local_cloud.fleet(types=("t2.nano",))["Errors"]} == {"Unsupported"}


def test_the_same_token_and_request_launch_once_and_answer_twice_alike(local_cloud: LocalCloud) -> None:
    first, again = local_cloud.fleet(ClientToken="once"), local_cloud.fleet(ClientToken="once")
    assert first["FleetId"] == again["FleetId"]
    assert ids(first) == ids(again) != []


def test_the_same_token_with_another_request_is_a_mismatch(local_cloud: LocalCloud) -> None:
    local_cloud.fleet(ClientToken="changed")
    with pytest.raises(ClientError) as raised:
        local_cloud.fleet(ClientToken="changed", market="on-demand")
    assert code_of(raised) == "IdempotentParameterMismatch"


def test_a_token_is_zonal_once_a_subnet_is_named(local_cloud: LocalCloud) -> None:
    in_a = local_cloud.launch(ClientToken="zonal")
    in_b = local_cloud.launch(ClientToken="zonal", SubnetId=local_cloud.outputs["SubnetB"])
    assert in_a != in_b
    assert local_cloud.launch(ClientToken="zonal") == in_a


def test_the_token_of_an_ended_instance_is_refused(local_cloud: LocalCloud) -> None:
    instance_id = local_cloud.launch(ClientToken="ended")
    local_cloud.client("ec2").terminate_instances(InstanceIds=[instance_id])
    with pytest.raises(ClientError) as raised:
        local_cloud.launch(ClientToken="ended")
    assert code_of(raised) == "IdempotentInstanceTerminated"


def test_run_instances_raises_where_a_fleet_answers(local_cloud: LocalCloud) -> None:
    local_cloud.market.set_capacity(0)
    with pytest.raises(ClientError) as raised:
        local_cloud.launch()
    assert code_of(raised) == "InsufficientInstanceCapacity"


def test_a_dry_run_launches_nothing(local_cloud: LocalCloud) -> None:
    before = len(local_cloud.market.instances())
    with pytest.raises(ClientError) as raised:
        local_cloud.fleet(DryRun=True)
    assert code_of(raised) == "DryRunOperation"
    assert len(local_cloud.market.instances()) == before


def test_one_unknown_id_fails_a_whole_terminate(local_cloud: LocalCloud) -> None:
    instance_id = local_cloud.launch()
    with pytest.raises(ClientError) as raised:
        local_cloud.client("ec2").terminate_instances(InstanceIds=[instance_id, "i-0123456789abcdef0"])
    assert code_of(raised) == "InvalidInstanceID.NotFound"
    assert local_cloud.instance(instance_id)["State"]["Name"] == "running"


def test_terminating_twice_is_no_error_and_the_reason_says_who(local_cloud: LocalCloud) -> None:
    instance_id = local_cloud.launch()
    change = local_cloud.client("ec2").terminate_instances(InstanceIds=[instance_id])["TerminatingInstances"][0]
    assert (change["PreviousState"]["Name"], change["CurrentState"]["Name"]) == ("running", "shutting-down")
    local_cloud.client("ec2").terminate_instances(InstanceIds=[instance_id])
    assert local_cloud.ended(instance_id)["StateReason"]["Code"] == "Client.UserInitiatedShutdown"


def test_instances_are_found_by_tag_state_and_client_token(local_cloud: LocalCloud) -> None:
    ours = ids(local_cloud.fleet())[0]
    other = local_cloud.launch(ClientToken="find-me")

    def found(*filters: tuple[str, str]) -> list[str]:
        asked = [{"Name": name, "Values": [value]} for name, value in filters]
        pages = local_cloud.client("ec2").get_paginator("describe_instances").paginate(Filters=asked, PaginationConfig={"PageSize": 20})
        return [i["InstanceId"] for page in pages for r in page["Reservations"] for i in r["Instances"]]

    eventually(lambda: found(("tag:team", "ours"), ("instance-state-name", "running")) == [ours])
    assert found(("client-token", "find-me")) == [other]
    assert found(("tag:team", "theirs")) == []
    assert {ours, other} <= set(found(("instance-lifecycle", "spot")))
    with pytest.raises(ClientError, match="filter"):
        found(("instance-stat-name", "running"))


def test_spot_prices_are_those_the_market_charges(local_cloud: LocalCloud) -> None:
    local_cloud.market.set_price(0.42, instance_type="g6.xlarge", zone="us-east-1b")
    history = local_cloud.client("ec2").describe_spot_price_history(InstanceTypes=["g6.xlarge"])["SpotPriceHistory"]
    prices = {entry["AvailabilityZone"]: float(entry["SpotPrice"]) for entry in history}
    assert prices["us-east-1b"] == 0.42
    assert 0 < prices["us-east-1a"] < 0.805
