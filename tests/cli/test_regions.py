"""The operator's commands on a stack with another region: what is said of it, and that instances there are ended as well."""

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError

from dropforge.local import deploy
from dropforge.operate import checks_regions, hold, stop
from dropforge.operate.findings import Finding, Verdict
from dropforge.operate.instances import look
from dropforge.stack import Deployment
from dropforge.translation import read
from jobspec.regions import site_parameter
from tests.cli.conftest import Site
from tests.cli.shell import read_aws
from tests.cli.test_hold_and_stop import launch, states, with_door

ROOT = Path(__file__).parents[2]
PEER = "us-west-2"


def with_a_peer(site: Site) -> Site:
    """The stack as it is once it was told ``PeerRegions``: the template itself makes no difference to what is looked at here."""
    ours = site.client("cloudformation")

    def described(asked: dict[str, Any]) -> dict[str, Any]:
        (stack,) = ours.describe_stacks(**asked)["Stacks"]
        told = [item | {"ParameterValue": PEER} if item["ParameterKey"] == "PeerRegions" else item for item in stack["Parameters"]]
        return {"Stacks": [stack | {"Parameters": told}]}

    deploy.deploy_peer(site.state, site.state.outputs, PEER)
    site.answers.give("DescribeStacks", described)
    return site


@pytest.fixture
def two(site: Site) -> Iterator[Site]:
    yield with_a_peer(site)
    site.market.set_quota(None, region=PEER)


def there(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.means.startswith(f"{PEER}: ")]


def launch_there(site: Site) -> str:
    """An instance of the project in the other region."""
    said = json.loads(deploy.client_of(site.state, "ssm", PEER).get_parameter(Name=site_parameter("well"))["Parameter"]["Value"])
    return launch(site, region=PEER, subnet_id=said["subnet_ids"][0], template_id=said["template_id"])


@pytest.mark.local_cloud
def test_another_region_is_well_in_every_line_of_its_own(two: Site) -> None:
    status, findings = two.doctor()
    assert [finding for finding in findings if finding.verdict is not Verdict.OK] == []
    assert status == 0
    assert [finding.check for finding in there(findings)] == ["region", *["quota"] * 5, "launch", "zones", "route", "forward"]
    assert "us-west-2a, us-west-2b, us-west-2c" in there(findings)[-3].means
    assert there(findings)[-1].means == f"{PEER}: what EC2 says of instances there is told to us-east-1."


@pytest.mark.local_cloud
def test_a_quota_is_each_regions_own_and_the_request_goes_there(two: Site) -> None:
    two.market.set_quota(0, region=PEER)
    status, findings = two.doctor()
    trouble = [finding for finding in findings if finding.verdict is not Verdict.OK]
    assert (status, trouble) == (1, [finding for finding in there(findings) if finding.check == "quota"][:3])
    assert "no job can run on spot" in trouble[0].means
    call = read_aws(shlex.split(trouble[0].mend))
    assert call is not None
    assert trouble[0].mend.endswith(f" --region {PEER}")


@pytest.mark.local_cloud
def test_a_region_without_its_stack_is_one_line_with_the_command_that_makes_it(two: Site) -> None:
    ssm = deploy.client_of(two.state, "ssm", PEER)
    name = site_parameter("well")
    kept = ssm.get_parameter(Name=name)["Parameter"]["Value"]
    ssm.delete_parameter(Name=name)
    try:
        status, gone = two.doctor()
        ssm.put_parameter(Name=name, Value="{}", Type="String")
        odd = there(two.doctor()[1])
    finally:
        ssm.put_parameter(Name=name, Value=kept, Type="String", Overwrite=True)
    (finding,) = there(gone)
    assert (status, finding.check, finding.verdict) == (1, "region", Verdict.BROKEN)
    assert "no stack of region.yaml stands there" in finding.means
    assert finding.mend.startswith(f"aws cloudformation deploy --region {PEER} --stack-name well-region --template-file region.yaml")
    assert [(finding.verdict, "is not what region.yaml writes" in finding.means) for finding in odd] == [(Verdict.BROKEN, True)]


@pytest.mark.local_cloud
def test_a_region_that_was_deployed_for_another_image_is_told_what_differs(two: Site) -> None:
    older = two.state.outputs["PeerParameters"].replace(":latest", ":older")
    deploy.deploy_peer(two.state, {"PeerParameters": older}, PEER)
    try:
        found = there(two.doctor()[1])[0]
    finally:
        deploy.deploy_peer(two.state, two.state.outputs, PEER)
    assert (found.check, found.verdict) == ("region", Verdict.WARNING)
    assert "DROPFORGE_IMAGE" in found.means
    assert ":older' there" in found.means


def rule_of(site: Site) -> str:
    said = json.loads(deploy.client_of(site.state, "ssm", PEER).get_parameter(Name=site_parameter("well"))["Parameter"]["Value"])
    return str(said["forward_rule"])


def disabled(events: Any, rule: str) -> None:
    events.disable_rule(Name=rule)


def narrowed(events: Any, rule: str) -> None:
    events.put_rule(Name=rule, EventPattern=json.dumps({"source": ["aws.ec2"], "detail-type": ["EC2 Instance State-change Notification"]}))


def without_target(events: Any, rule: str) -> None:
    events.remove_targets(Rule=rule, Ids=[target["Id"] for target in events.list_targets_by_rule(Rule=rule)["Targets"]])


def elsewhere(events: Any, rule: str) -> None:
    without_target(events, rule)
    role = "arn:aws:iam::000000000000:role/any"
    events.put_targets(Rule=rule, Targets=[{"Id": "home", "Arn": "arn:aws:events:eu-west-1:000000000000:event-bus/default", "RoleArn": role}])


def removed(events: Any, rule: str) -> None:
    without_target(events, rule)
    events.delete_rule(Name=rule)


@pytest.mark.local_cloud
@pytest.mark.parametrize(
    ("breaking", "means"),
    [
        (disabled, ["is disabled"]),
        (narrowed, ["does not match EC2 Spot Instance Interruption Warning, EC2 Instance Rebalance Recommendation"]),
        (without_target, ["does not send to the bus of us-east-1"]),
        (elsewhere, ["does not send to the bus of us-east-1"]),
        (removed, ["is gone, somebody removed it", "does not send to the bus of us-east-1"]),
    ],
)
def test_a_rule_that_tells_the_home_region_nothing_is_found_and_mended_as_it_says(two: Site, breaking: Any, means: list[str]) -> None:
    events, rule = deploy.client_of(two.state, "events", PEER), rule_of(two)
    breaking(events, rule)
    status, findings = two.doctor()
    found = [finding for finding in there(findings) if finding.check == "forward"]
    assert [
        (finding.verdict, f"rule {rule} {part}: an instance that is taken back there" in finding.means) for finding, part in zip(found, means, strict=True)
    ] == [(Verdict.BROKEN, True)] * len(means)
    assert status == 1
    for finding in found:
        assert finding.mend.endswith(f" --region {PEER}")
        call = read_aws(shlex.split(finding.mend))
        assert call is not None
        method = next(name for name, operation in events.meta.method_to_api_mapping.items() if operation == call.operation)
        getattr(events, method)(**call.parameters)
    assert [finding.verdict for finding in there(two.doctor()[1]) if finding.check == "forward"] == [Verdict.OK]


@pytest.mark.local_cloud
def test_a_region_of_before_says_nothing_of_its_rule_and_is_deployed_again(two: Site) -> None:
    ssm, name = deploy.client_of(two.state, "ssm", PEER), site_parameter("well")
    kept = ssm.get_parameter(Name=name)["Parameter"]["Value"]
    before = {key: value for key, value in json.loads(kept).items() if not key.startswith("forward")}
    ssm.put_parameter(Name=name, Value=json.dumps(before), Type="String", Overwrite=True)
    try:
        found = there(two.doctor()[1])[-1]
    finally:
        ssm.put_parameter(Name=name, Value=kept, Type="String", Overwrite=True)
    assert (found.check, found.verdict) == ("forward", Verdict.WARNING)
    assert found.mend.startswith(f"aws cloudformation deploy --region {PEER} --stack-name well-region")


def test_what_is_looked_for_is_what_the_template_forwards_and_what_the_functions_understand() -> None:
    template = read(ROOT / "region.yaml")
    assert template["Resources"]["Forward"]["Properties"]["EventPattern"] == checks_regions.FORWARDED
    heard = [home["Properties"]["Events"] for home in read(ROOT / "template.yaml")["Resources"].values() if home["Type"] == "AWS::Serverless::Function"]
    patterns = [event["Properties"].get("Pattern", {}) for events in heard for event in events.values()]
    types = {one for pattern in patterns if "aws.ec2" in pattern.get("source", []) for one in pattern["detail-type"]}
    assert types == set(checks_regions.FORWARDED["detail-type"])


@pytest.mark.local_cloud
def test_stop_all_ends_the_instances_of_every_region(two: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hold, "CONFIRMED_WITHIN_S", 2.0)
    monkeypatch.setattr(stop.end_all, "__kwdefaults__", {"quiet_s": 0.2, "give_up_after_s": 20.0})
    with_door(two)
    ids = [launch(two), launch_there(two)]
    told = two.run("stop-all", "--dry-run").output
    assert all(instance_id in told for instance_id in ids)
    assert "us-east-1, us-west-2" in told
    result = two.run("stop-all", "--yes", "--json")
    assert result.exit_code == 0, result.output
    assert set(json.loads(result.stdout)["asked"]) == set(ids)
    assert not any(states(two)[instance_id] for instance_id in ids)
    two.run("resume")


class Ec2:
    """One region's. ``live``: ids of what lives there; None: it does not answer."""

    def __init__(self, live: list[str] | None) -> None:
        self.live = live

    def get_paginator(self, _: str) -> "Ec2":
        return self

    def paginate(self, **_: Any) -> list[dict[str, Any]]:
        if self.live is None:
            raise EndpointConnectionError(endpoint_url="https://ec2.test")
        found = [{"InstanceId": name, "InstanceType": "g5.xlarge", "State": {"Name": "running"}, "LaunchTime": number} for number, name in enumerate(self.live)]
        return [{"Reservations": [{"Instances": found}]}]

    def terminate_instances(self, InstanceIds: list[str]) -> dict[str, Any]:
        assert self.live is not None
        self.live.remove(InstanceIds[0])
        return {"TerminatingInstances": [{"CurrentState": {"Name": "shutting-down"}}]}


class Session:
    def __init__(self, **regions: Ec2) -> None:
        self.regions = {name.replace("_", "-"): ec2 for name, ec2 in regions.items()}

    def client(self, service: str, region_name: str, config: Any) -> Ec2:
        assert service == "ec2"
        return self.regions[region_name]


def deployed(session: Any) -> Deployment:
    arn = "arn:aws:cloudformation:us-east-1:123456789012:stack/well/1"
    parameters = [{"ParameterKey": "PeerRegions", "ParameterValue": "us-west-2,eu-west-1"}]
    return Deployment({"StackName": "well", "StackStatus": "CREATE_COMPLETE", "StackId": arn, "Parameters": parameters}, session)


def test_a_region_that_does_not_answer_hinders_no_other_and_is_not_called_empty() -> None:
    stack = deployed(Session(us_east_1=Ec2(["i-1"]), us_west_2=Ec2(None), eu_west_1=Ec2(["i-2"])))
    seen = look(stack)
    assert [(instance.instance_id, instance.region) for instance in seen.live] == [("i-1", "us-east-1"), ("i-2", "eu-west-1")]
    assert list(seen.unread) == ["us-west-2"]
    ended = stop.end_all(stack, lambda _: None, quiet_s=0.05, give_up_after_s=0.5)
    assert (set(ended.asked), ended.left, list(ended.unread)) == ({"i-1", "i-2"}, [], ["us-west-2"])
