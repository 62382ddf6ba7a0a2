"""The stack of another region: what the home stack's own template says of an instance, and what the home stack's functions look for."""

import json
from typing import Any

from dropforge.translation import read
from jobspec.regions import site_parameter
from tests.template.stack import ROOT, Stack
from tools.embed_bootstrap import BEGIN, END


def _region() -> dict[str, Any]:
    return read(ROOT / "region.yaml")


def _stack(**parameters: str) -> Stack:
    return Stack(_region(), {"Project": "dropforge", "HomeRegion": "eu-west-1", **parameters})


def _script(parts: list[Any]) -> str:
    text = "".join(part for part in parts if isinstance(part, str))
    return text[text.index(BEGIN) : text.index(END)]


def test_an_instance_is_made_as_at_home() -> None:
    here, home = _stack().properties("LaunchTemplate")["LaunchTemplateData"], Stack().properties("LaunchTemplate")["LaunchTemplateData"]
    own = {"ImageId", "IamInstanceProfile", "SecurityGroupIds", "UserData", "TagSpecifications", "BlockDeviceMappings"}
    assert {key: value for key, value in here.items() if key not in own} == {key: value for key, value in home.items() if key not in own}
    assert set(here) == set(home)
    assert str(here["BlockDeviceMappings"]) == str(home["BlockDeviceMappings"])


def test_instances_reach_what_they_reach_at_home() -> None:
    for name in ("InstanceSecurityGroup", "GangIngress", "GangEgress"):
        here, home = _stack().properties(name), Stack().properties(name)
        assert {key: value for key, value in here.items() if key != "VpcId"} == {key: value for key, value in home.items() if key != "VpcId"}, name


def test_it_runs_the_same_script_with_the_same_facts_and_speaks_to_the_home_region() -> None:
    here = _region()["Resources"]["LaunchTemplate"]["Properties"]["LaunchTemplateData"]["UserData"]["Fn::Base64"]["Fn::Join"][1]
    home = Stack().template["Resources"]["LaunchTemplate"]["Properties"]["LaunchTemplateData"]["UserData"]["Fn::Base64"]["Fn::Join"][1]
    assert _script(here) == _script(home)
    facts = _stack(TrackingPath="/t", DataBucket="d", OutputsBucket="o", InstanceRoleId="AROA", Image="i", LogGroup="l").properties("LaunchTemplate")[
        "LaunchTemplateData"
    ]["UserData"]
    said = dict(line.split("=", 1) for line in facts[facts.index("STACK_FACTS'") : facts.index("\nSTACK_FACTS\n")].splitlines() if "=" in line)
    assert said == {
        "DROPFORGE_PROJECT": "dropforge",
        "DROPFORGE_DATA_BUCKET": "d",
        "DROPFORGE_OUTPUTS_BUCKET": "o",
        "DROPFORGE_ROLE_ID": "AROA",
        "DROPFORGE_IMAGE": "i",
        "DROPFORGE_LOG_GROUP": "l",
        "DROPFORGE_TRACKING": "/t",
        "AWS_REGION": "eu-west-1",
    }
    theirs = Stack().properties("LaunchTemplate")["LaunchTemplateData"]["UserData"]
    assert set(said) == {line.split("=", 1)[0] for line in theirs[theirs.index("STACK_FACTS'") : theirs.index("\nSTACK_FACTS\n")].splitlines() if "=" in line}


def test_the_parameter_is_what_the_functions_and_doctor_read() -> None:
    for zones, subnets in (("3", 3), ("2", 2), ("1", 1)):
        site = _stack(ZoneCount=zones).properties("Site")
        assert site["Name"] == site_parameter("dropforge")
        said = json.loads(site["Value"])
        assert set(said) == {"template_id", "template_version", "subnet_ids", "forward_rule", "forward_role_arn"}
        assert len(said["subnet_ids"]) == subnets


def test_whatever_the_home_stack_may_launch_from_here_has_the_projects_tag() -> None:
    stack, tag = _stack(), {"Key": "dropforge:project", "Value": "dropforge"}
    for name in stack.of_type("AWS::EC2::Subnet"):
        assert tag in stack.properties(name)["Tags"], name
    (specification,) = stack.properties("LaunchTemplate")["TagSpecifications"]
    assert (specification["ResourceType"], specification["Tags"]) == ("launch-template", [tag])


def test_what_ec2_says_here_is_put_on_the_home_regions_bus_and_nowhere_else() -> None:
    stack = _stack()
    (target,) = stack.properties("Forward")["Targets"]
    bus = "arn:aws:events:eu-west-1:111122223333:event-bus/default"
    assert target["Arn"] == bus
    (policy,) = stack.properties("ForwardRole")["Policies"]
    (statement,) = policy["PolicyDocument"]["Statement"]
    assert (statement["Action"], statement["Resource"]) == ("events:PutEvents", bus)
    heard = {
        kind
        for rule in Stack().of_type("AWS::Events::Rule").values()
        if "aws.ec2" in rule.get("EventPattern", {}).get("source", [])
        for kind in rule["EventPattern"]["detail-type"]
    }
    assert set(stack.properties("Forward")["EventPattern"]["detail-type"]) == heard


def test_the_home_stacks_output_gives_every_parameter_that_has_no_default() -> None:
    needed = {name for name, spec in _region()["Parameters"].items() if "Default" not in spec}
    given = Stack().resolve(Stack().template["Outputs"]["PeerParameters"]["Value"])
    assert needed <= {part.split("=", 1)[0] for part in given.split()} <= set(_region()["Parameters"])


def test_every_parameter_explains_itself_and_what_it_takes() -> None:
    for name, spec in _region()["Parameters"].items():
        assert len(spec["Description"]) > 20, name
        assert spec["ConstraintDescription"].startswith(name), name
