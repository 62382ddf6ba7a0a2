"""The instance: hardened at birth, its user data the bootstrap as it is, its role held to its own prefix."""

import re

import pytest

from jobspec.ticket import FIRST_GANG_PORT, LAST_GANG_PORT
from tests.template.stack import ROOT, Stack, role_statements
from tools.embed_bootstrap import BEGIN, END, USER_DATA_LIMIT_BYTES, without_comments

SELF = "AROAEXAMPLEROLEID:i-0aaaaaaaaaaaaaaaa"
OTHER = "AROAEXAMPLEROLEID:i-0bbbbbbbbbbbbbbbb"
DATA, OUTPUTS = "<DataBucket.Arn>", "<OutputsBucket.Arn>"


def _launch_data(stack: Stack) -> dict[str, object]:
    data: dict[str, object] = stack.properties("LaunchTemplate")["LaunchTemplateData"]
    return data


def _open_between_instances(stack: Stack) -> list[object]:
    """Ports of the rules that stand apart from the group; a rule that names anybody but the group itself is told whole."""
    group = "<InstanceSecurityGroup.GroupId>"
    rules = [*stack.of_type("AWS::EC2::SecurityGroupIngress").values(), *stack.of_type("AWS::EC2::SecurityGroupEgress").values()]
    own = {"GroupId", "SourceSecurityGroupId", "DestinationSecurityGroupId", "IpProtocol", "FromPort", "ToPort", "Description"}
    closed = [
        set(rule) < own
        and rule["GroupId"] == group
        and rule["IpProtocol"] == "tcp"
        and {rule[key] for key in rule if key.endswith("SecurityGroupId")} == {group}
        for rule in rules
    ]
    return [(rule["FromPort"], rule["ToPort"]) if good else rule for rule, good in zip(rules, closed, strict=True)]


def soft_spots(stack: Stack) -> list[str]:
    """What is not as hard as it must be in the launch template."""
    data = stack.properties("LaunchTemplate")["LaunchTemplateData"]
    metadata, volumes = data.get("MetadataOptions", {}), [mapping["Ebs"] for mapping in data.get("BlockDeviceMappings", [])]
    checks = {
        "IMDSv1 answers": metadata.get("HttpTokens") == "required",
        "containers reach IMDS": metadata.get("HttpPutResponseHopLimit") == 1,
        "tags are not in IMDS": metadata.get("InstanceMetadataTags") == "enabled",
        "power-off only stops": data.get("InstanceInitiatedShutdownBehavior") == "terminate",
        "terminate is refused": data.get("DisableApiTermination") is False,
        "a volume is not encrypted gp3 that goes with the instance": bool(volumes)
        and all(v.get("Encrypted") is True and v.get("DeleteOnTermination") is True and v.get("VolumeType") == "gp3" for v in volumes),
        "a key pair opens it": "KeyName" not in data,
        "it names interfaces of its own (public addresses, other groups)": "NetworkInterfaces" not in data,
        "the profile is not by ARN": data.get("IamInstanceProfile") == {"Arn": "<InstanceProfile.Arn>"},
        "another security group": data.get("SecurityGroupIds") == ["<InstanceSecurityGroup.GroupId>"],
        "something may come in": stack.properties("InstanceSecurityGroup")["SecurityGroupIngress"] == [],
        "more than HTTPS may go out": [(rule["FromPort"], rule["ToPort"]) for rule in stack.properties("InstanceSecurityGroup")["SecurityGroupEgress"]]
        == [(443, 443)],
        "more than a gang's ports are open between instances": _open_between_instances(stack) == [(FIRST_GANG_PORT, LAST_GANG_PORT)] * 2,
    }
    return [what for what, good in checks.items() if not good]


def test_the_launch_template_has_no_soft_spot() -> None:
    assert soft_spots(Stack()) == []


@pytest.mark.parametrize(
    ("path", "value", "spot"),
    [
        (("MetadataOptions", "HttpTokens"), "optional", "IMDSv1 answers"),
        (("MetadataOptions", "HttpPutResponseHopLimit"), 2, "containers reach IMDS"),
        (("MetadataOptions", "InstanceMetadataTags"), "disabled", "tags are not in IMDS"),
        (("InstanceInitiatedShutdownBehavior",), "stop", "power-off only stops"),
        (("BlockDeviceMappings", 0, "Ebs", "Encrypted"), False, "a volume is not encrypted gp3 that goes with the instance"),
        (("BlockDeviceMappings", 0, "Ebs", "DeleteOnTermination"), False, "a volume is not encrypted gp3 that goes with the instance"),
        (("KeyName",), "my-key", "a key pair opens it"),
        (("NetworkInterfaces",), [{"AssociatePublicIpAddress": True}], "it names interfaces of its own (public addresses, other groups)"),
    ],
)
def test_a_softened_launch_template_is_noticed(path: tuple[str | int, ...], value: object, spot: str) -> None:
    stack = Stack()
    node = stack.raw("LaunchTemplate")["LaunchTemplateData"]
    for step in path[:-1]:
        node = node[step]
    node[path[-1]] = value
    assert soft_spots(stack) == [spot]


@pytest.mark.parametrize(
    ("rule", "change"),
    [
        ("GangIngress", {"FromPort": 0}),
        ("GangIngress", {"ToPort": 65535}),
        ("GangIngress", {"IpProtocol": "-1"}),
        ("GangIngress", {"SourceSecurityGroupId": "sg-0123456789abcdef0"}),
        ("GangIngress", {"CidrIp": "0.0.0.0/0"}),
        ("GangEgress", {"DestinationSecurityGroupId": "sg-0123456789abcdef0"}),
        ("GangEgress", {"FromPort": 22}),
    ],
)
def test_more_than_a_gangs_ports_between_instances_is_noticed(rule: str, change: dict[str, object]) -> None:
    stack = Stack()
    stack.raw(rule).update(change)
    assert soft_spots(stack) == ["more than a gang's ports are open between instances"]


def test_the_user_data_is_the_bootstrap_without_its_comments_after_the_stack_facts() -> None:
    user_data = str(_launch_data(Stack())["UserData"])
    head, _, rest = user_data.partition(BEGIN + "\n")
    script, _, tail = rest.partition(END + "\n")
    assert script == without_comments((ROOT / "agent/bootstrap.sh").read_text())
    assert tail == ""
    assert head.startswith("#!/bin/bash\n")
    assert not re.search(r"<(?!<)(?!DataBucket|OutputsBucket|InstanceRole|InstanceLogs|Repository)\w", head)


def test_the_stack_facts_are_the_eight_that_the_bootstrap_and_agent_read() -> None:
    head = str(_launch_data(Stack())["UserData"]).partition(BEGIN)[0]
    facts = dict(line.split("=", 1) for line in head.splitlines() if re.match(r"[A-Z_]+=", line))
    assert facts == {
        "DROPFORGE_PROJECT": "dropforge",
        "DROPFORGE_DATA_BUCKET": "<DataBucket>",
        "DROPFORGE_OUTPUTS_BUCKET": "<OutputsBucket>",
        "DROPFORGE_ROLE_ID": "<InstanceRole.RoleId>",
        "DROPFORGE_IMAGE": "<Repository.RepositoryUri>:latest",
        "DROPFORGE_LOG_GROUP": "<InstanceLogs>",
        "DROPFORGE_TRACKING": "",
        "AWS_REGION": "eu-west-1",
    }
    assert "${DROPFORGE_ROOT:-}/etc/dropforge/env" in head


def test_an_image_uri_is_taken_as_given() -> None:
    uri = "111122223333.dkr.ecr.eu-west-1.amazonaws.com/dropforge@sha256:" + 64 * "a"
    assert f"DROPFORGE_IMAGE={uri}\n" in str(_launch_data(Stack(parameters={"ImageUri": uri}))["UserData"])


def test_a_baked_machine_image_takes_the_place_of_the_newest_one() -> None:
    assert _launch_data(Stack())["ImageId"] == Stack().values["AmiParameter"]
    baked = Stack(parameters={"BakedAmiId": "ami-0123456789abcdef0"})
    assert _launch_data(baked)["ImageId"] == "ami-0123456789abcdef0"
    assert soft_spots(baked) == []


def test_a_given_repository_is_pulled_from_and_none_is_made() -> None:
    stack = Stack(parameters={"ImageRepository": "team/dropforge"})
    assert "DROPFORGE_IMAGE=111122223333.dkr.ecr.eu-west-1.amazonaws.com/team/dropforge:latest\n" in str(_launch_data(stack)["UserData"])
    (pull,) = [rule for rule in role_statements(stack, "InstanceRole") if rule["Sid"] == "PullTheImage"]
    assert pull["Resource"] == "arn:aws:ecr:eu-west-1:111122223333:repository/team/dropforge"
    assert not stack.holds({"Condition": "MakesRepository"})


def test_the_user_data_fits_ec2_with_the_longest_names() -> None:
    longest = {
        "AWS::StackName": "s" * 128,
        "DataBucket": "b" * 63,
        "OutputsBucket": "b" * 63,
        "ImageUri": "r" * 255 + "@sha256:" + 64 * "a",
        "InstanceLogs": "l" * 512,
    }
    assert len(str(_launch_data(Stack(parameters=longest))["UserData"]).encode()) <= USER_DATA_LIMIT_BYTES


def test_session_manager_is_only_on_request() -> None:
    assert "ManagedPolicyArns" not in Stack().properties("InstanceRole")
    granted = Stack(parameters={"SessionManager": "yes"}).properties("InstanceRole")["ManagedPolicyArns"]
    assert granted == ["arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore"]
