"""How the policies are written. What they come to, role by role and call by call, is proved in tests/iam."""

import json
import re
from typing import Any

from jobspec.instances import GPU_INSTANCES
from jobspec.tags import REQUIRED, STRAY_SINCE
from tests.iam.site import Site
from tests.template.stack import ROOT, Stack, listed, statements

EC2 = "arn:aws:ec2:eu-west-1:111122223333:"
#: Actions that know no resource (service authorization reference), and so the only ones that may be allowed on "*".
WITHOUT_RESOURCE = {
    "ec2:DescribeInstances",
    "ec2:DescribeLaunchTemplates",
    "ec2:DescribeLaunchTemplateVersions",
    "ec2:DescribeSubnets",
    "ec2:DescribeSpotPriceHistory",
    "xray:PutTraceSegments",
    "xray:PutTelemetryRecords",
    "ecr:GetAuthorizationToken",
}


def wide_statements(stack: Stack) -> list[str]:
    """Allow statements on everything, or with a wildcard for an action. A boundary allows nothing by itself: test_github.py."""
    found = []
    for holder, rule in statements(stack):
        if rule["Effect"] != "Allow" or holder == "Boundary":
            continue
        where = f"{holder}.{rule['Sid']}"
        actions = set(listed(rule["Action"]))
        found += [f"{where}: {action}" for action in sorted(actions) if "*" in action]
        if "*" in listed(rule.get("Resource", [])):
            found += [f"{where}: {action} on *" for action in sorted(actions - WITHOUT_RESOURCE)]
    return found


def test_nothing_is_allowed_on_everything_but_what_knows_no_resource() -> None:
    assert wide_statements(Stack()) == []


def test_a_wide_statement_is_noticed() -> None:
    stack = Stack()
    rules = stack.raw("LaunchPolicy")["PolicyDocument"]["Statement"]
    next(rule for rule in rules if rule["Sid"] == "EndInstancesOfThisProject")["Resource"] = "*"
    stack.raw("RecordPolicy")["PolicyDocument"]["Statement"][0]["Action"] = "dynamodb:*"
    assert wide_statements(stack) == ["RecordPolicy.KeepJobs: dynamodb:*", "LaunchPolicy.EndInstancesOfThisProject: ec2:TerminateInstances on *"]


def test_the_only_allow_by_exception_is_the_instances_read_and_a_deny_fences_it() -> None:
    by_exception = [(holder, rule["Sid"]) for holder, rule in statements(Stack()) if rule["Effect"] == "Allow" and "NotResource" in rule]
    assert by_exception == [("InstanceRole", "ReadAllButTicketsAndStatus")]


def test_names_of_other_buckets_become_arns_where_they_are_read_and_nowhere_else() -> None:
    stack = Stack(parameters={"ReadBuckets": "one,two.three"})
    named = {
        (holder, rule["Sid"]): [arn for arn in listed(rule.get("Resource") or rule["NotResource"]) if not arn.startswith("<")]
        for holder, rule in statements(stack)
        if "arn:*" in json.dumps(rule)
    }
    objects, buckets = ["arn:*:s3:::one/*", "arn:*:s3:::two.three/*"], ["arn:*:s3:::one", "arn:*:s3:::two.three"]
    assert named == {
        ("InstanceRole", "ReadNothingElsewhere"): objects,
        ("InstanceRole", "ListNamesOfReadBuckets"): buckets,
        ("LookPolicy", "LookIntoReadBuckets"): objects,
        ("LookPolicy", "TellMissingFromForbidden"): buckets,
    }
    assert "arn:*" not in json.dumps(statements(Stack()))


def test_the_longest_list_of_other_buckets_fits_into_the_policies() -> None:
    """10,240 characters for the inline policies of a role together, 6,144 for a managed one, white space not counted (IAM guide, quotas)."""
    longest = Site(Stack(parameters={"ReadBuckets": ",".join(16 * ["x" * 63])}))
    inline = longest.shaped(longest.stack.properties("InstanceRole")["Policies"])
    assert sum(len(json.dumps(policy["PolicyDocument"], separators=(",", ":"))) for policy in inline) < 10_240 - 500
    managed = longest.shaped(longest.stack.properties("LookPolicy")["PolicyDocument"])
    assert len(json.dumps(managed, separators=(",", ":"))) < 6_144 - 500


def test_every_role_is_passed_to_a_named_service_and_functions_pass_only_the_instances_to_ec2() -> None:
    passes = [(holder, rule) for holder, rule in statements(Stack()) if "iam:PassRole" in listed(rule["Action"])]
    to = {(holder, rule["Resource"]): rule["Condition"]["StringEquals"]["iam:PassedToService"] for holder, rule in passes}
    assert to == {
        ("LaunchPolicy", "<InstanceRole.Arn>"): "ec2.amazonaws.com",
        ("Boundary", "arn:aws:iam::111122223333:role/dropforge-InstanceRole-*"): "ec2.amazonaws.com",
        ("DeployRole", "<CloudFormationRole.Arn>"): "cloudformation.amazonaws.com",
        ("CloudFormationRole", "arn:aws:iam::111122223333:role/dropforge-*"): ["lambda.amazonaws.com", "scheduler.amazonaws.com"],
    }
    assert len(passes) == len(to)


def _rule(sid: str) -> dict[str, dict[str, dict[str, object]]]:
    return next(rule for _, rule in statements(Stack()) if rule.get("Sid") == sid)


def test_the_launchable_types_are_those_on_offer() -> None:
    assert sorted(_rule("LaunchOfferedTypesTaggedAndHardened")["Condition"]["StringEquals"]["ec2:InstanceType"]) == sorted(GPU_INSTANCES)  # type: ignore[call-overload]  # a list of names


def test_every_launch_statement_is_held_by_template_vpc_tags_or_hardening() -> None:
    template = {"ec2:LaunchTemplate": EC2 + "launch-template/<LaunchTemplate>"}
    launches = _launches("LaunchPolicy")
    assert launches["LaunchWhatTheTemplateSays"] == {"ArnEquals": template, "Bool": {"ec2:IsLaunchTemplateResource": "true"}}
    assert launches["LaunchWithItsVolumeAndInterface"] == {"ArnEquals": template}
    assert launches["LaunchInThisVpc"] == {"ArnEquals": {"ec2:Vpc": EC2 + "vpc/<Vpc>"}}
    hardened = launches["LaunchOfferedTypesTaggedAndHardened"]
    assert hardened["ArnEquals"] == template
    assert hardened["StringEquals"]["ec2:MetadataHttpTokens"] == "required"
    assert hardened["NumericLessThanEquals"] == {"ec2:MetadataHttpPutResponseHopLimit": "1"}
    tags = {key.removeprefix("aws:RequestTag/") for key in [*hardened["StringEquals"], *hardened["StringLike"]] if key.startswith("aws:RequestTag/")}
    assert tags == set(REQUIRED)
    assert len(launches) == 4


def test_every_launch_in_another_region_is_held_to_peers_and_to_what_has_the_projects_tag() -> None:
    launches = _launches("PeerPolicy")
    assert all(condition["StringEquals"]["aws:RequestedRegion"] == ["us-west-2"] for condition in launches.values())
    assert launches["LaunchFromPeersTemplatesInTheirNetworks"]["StringEquals"]["aws:ResourceTag/dropforge:project"] == "dropforge"
    assert launches["LaunchWhatPeersTemplatesSay"]["Bool"] == {"ec2:IsLaunchTemplateResource": "true"}
    here, home = launches["LaunchOfferedTypesTaggedAndHardenedInPeers"], _launches("LaunchPolicy")["LaunchOfferedTypesTaggedAndHardened"]
    del here["StringEquals"]["aws:RequestedRegion"], home["ArnEquals"]
    assert here == home, "the same types, tags and metadata options as at home"
    assert len(launches) == 4


def _launches(holder: str) -> dict[str, Any]:
    """The conditions of a policy's launch statements."""
    stack = Stack(parameters={"PeerRegions": "us-west-2"})
    return {
        rule["Sid"]: rule["Condition"] for name, rule in statements(stack) if name == holder and rule["Action"] == "ec2:RunInstances" and "Condition" in rule
    }


def test_given_subnets_are_launched_in_only_within_the_given_vpc() -> None:
    stack = Stack(parameters={"VpcId": "vpc-0123456789abcdef0", "SubnetIds": "subnet-0a,subnet-0b"})
    rule = next(rule for _, rule in statements(stack) if rule.get("Sid") == "LaunchInThisVpc")
    assert rule["Condition"] == {"ArnEquals": {"ec2:Vpc": EC2 + "vpc/vpc-0123456789abcdef0"}}


def test_instances_are_tagged_only_at_birth_and_ended_only_with_the_projects_tag() -> None:
    assert _rule("TagAtBirth")["Condition"] == {
        "StringEquals": {"ec2:CreateAction": ["RunInstances", "CreateFleet"], "aws:RequestTag/dropforge:project": "dropforge"},
    }
    assert _rule("EndInstancesOfThisProject")["Condition"] == {"StringEquals": {"aws:ResourceTag/dropforge:project": "dropforge"}}


def test_every_function_has_a_role_of_its_own_that_only_lambda_assumes() -> None:
    stack = Stack()
    roles = {name: function["Role"] for name, function in stack.of_type("AWS::Lambda::Function").items()}
    assert roles == {name: f"<{name.removesuffix('Function')}Role.Arn>" for name in roles}
    for role in roles.values():
        trust = stack.properties(role[1 : -len(".Arn>")])["AssumeRolePolicyDocument"]["Statement"]
        assert trust == [{"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}]


def test_the_ledgers_items_are_those_that_its_policy_names() -> None:
    assert _rule("NotePublishedNotices")["Condition"]["ForAllValues:StringLike"] == {"dynamodb:LeadingKeys": ["NOTICE#*"]}
    assert 'f"NOTICE#{notice_id}"' in (ROOT / "functions/control_plane/adapters/publish_ledger.py").read_text()


def test_only_the_tick_tags_after_birth_and_only_strays_of_the_project() -> None:
    tagging = {(holder, rule["Sid"]) for holder, rule in statements(Stack()) if "ec2:CreateTags" in listed(rule["Action"])}
    assert tagging == {("LaunchPolicy", "TagAtBirth"), ("PeerPolicy", "TagAtBirthInPeers"), ("ReconcileRole", "MarkStrays")}
    rule = _rule("MarkStrays")
    assert rule["Resource"] == EC2 + "instance/*"
    assert rule["Condition"] == {
        "StringEquals": {"aws:ResourceTag/dropforge:project": "dropforge"},
        "ForAllValues:StringEquals": {"aws:TagKeys": [STRAY_SINCE]},
        "Null": {"aws:TagKeys": "false"},
    }
    assert STRAY_SINCE not in REQUIRED


def test_policies_fit_iam_with_the_longest_stack_name() -> None:
    """6,144 characters a managed policy, white space not counted (IAM quotas); names that AWS makes are up to 64 or so."""
    stack = Stack(parameters={"AWS::StackName": "s" * 128, "LaunchTemplate": "lt-" + 17 * "0", "Vpc": "vpc-" + 17 * "0"})
    for name, policy in stack.of_type("AWS::IAM::ManagedPolicy").items():
        text = re.sub(r"<[^>]*>", 64 * "x", json.dumps(policy["PolicyDocument"], separators=(",", ":")))
        assert len(text) <= 6144, name
