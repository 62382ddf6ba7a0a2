"""What the functions may do: what their code calls, on what is theirs, and nothing else."""

import ast
import json
import re

import pytest

from jobspec.instances import GPU_INSTANCES
from jobspec.tags import REQUIRED, STRAY_SINCE
from tests.template.stack import ROOT, Stack, allowed, listed, role_statements, statements

DRIVERS = ["SubmitRole", "InterruptionRole", "InstanceStateRole", "CompletionRole", "ReconcileRole", "BudgetRole"]
FUNCTION_ROLES = [*DRIVERS, "BudgetRelayRole", "OperatorRole", "PublishLedgerRole", "CurfewRole"]
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
#: boto3 methods of the adapters, and the action that IAM asks for.
ACTION_OF = {
    "get_item": "dynamodb:GetItem",
    "put_item": "dynamodb:PutItem",
    "update_item": "dynamodb:UpdateItem",
    "delete_item": "dynamodb:DeleteItem",
    "query": "dynamodb:Query",
    "scan": "dynamodb:Scan",
    "transact_write_items": "dynamodb:PutItem",  # of its Put entries; the test below refuses other kinds
    "get_object": "s3:GetObject",
    "head_object": "s3:GetObject",
    "put_object": "s3:PutObject",
    "delete_object": "s3:DeleteObject",
    "list_objects_v2": "s3:ListBucket",
    "create_fleet": "ec2:CreateFleet",
    "run_instances": "ec2:RunInstances",
    "create_tags": "ec2:CreateTags",
    "terminate_instances": "ec2:TerminateInstances",
    "describe_instances": "ec2:DescribeInstances",
    "describe_subnets": "ec2:DescribeSubnets",
    "describe_spot_price_history": "ec2:DescribeSpotPriceHistory",
    "publish": "sns:Publish",
    "put_events": "events:PutEvents",
}
#: Asked for by AWS on the caller's behalf, or by Lambda itself: no line of ours calls them.
IMPLIED = {
    "ec2:RunInstances": "CreateFleet launches as its caller",
    "ec2:CreateTags": "TagSpecifications of CreateFleet",
    "iam:PassRole": "the launch template's instance profile",
    "iam:CreateServiceLinkedRole": "the account's first spot instance or fleet",
    "s3:ListBucket": "404, not 403, for a missing key",
    "logs:CreateLogStream": "Lambda",
    "logs:PutLogEvents": "Lambda",
    "xray:PutTraceSegments": "Lambda's tracing",
    "xray:PutTelemetryRecords": "Lambda's tracing",
    "sqs:SendMessage": "Lambda's on-failure destination",
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
    launches = {rule["Sid"]: rule["Condition"] for _, rule in statements(Stack()) if rule["Action"] == "ec2:RunInstances"}
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


def test_given_subnets_are_launched_in_only_within_the_given_vpc() -> None:
    stack = Stack(parameters={"VpcId": "vpc-0123456789abcdef0", "SubnetIds": "subnet-0a,subnet-0b"})
    rule = next(rule for _, rule in statements(stack) if rule.get("Sid") == "LaunchInThisVpc")
    assert rule["Condition"] == {"ArnEquals": {"ec2:Vpc": EC2 + "vpc/vpc-0123456789abcdef0"}}


def test_instances_are_tagged_only_at_birth_and_ended_only_with_the_projects_tag() -> None:
    assert _rule("TagAtBirth")["Condition"] == {
        "StringEquals": {"ec2:CreateAction": ["RunInstances", "CreateFleet"], "aws:RequestTag/dropforge:project": "dropforge"},
    }
    assert _rule("EndInstancesOfThisProject")["Condition"] == {"StringEquals": {"aws:ResourceTag/dropforge:project": "dropforge"}}


def test_budget_alerts_are_the_only_events_put_and_only_by_relay_and_tick() -> None:
    assert _rule("PutBudgetAlerts")["Condition"] == {"StringEquals": {"events:source": "dropforge.budget"}}
    bus = "arn:aws:events:eu-west-1:111122223333:event-bus/default"
    roles = [name for name in Stack().of_type("AWS::IAM::Role") if allowed(role_statements(Stack(), name), "events:PutEvents", bus)]
    assert sorted(roles) == ["BudgetRelayRole", "ReconcileRole"]


def test_every_function_has_a_role_of_its_own_that_only_lambda_assumes() -> None:
    stack = Stack()
    roles = {name: function["Role"] for name, function in stack.of_type("AWS::Lambda::Function").items()}
    assert roles == {name: f"<{name.removesuffix('Function')}Role.Arn>" for name in roles}
    for role in roles.values():
        trust = stack.properties(role[1 : -len(".Arn>")])["AssumeRolePolicyDocument"]["Statement"]
        assert trust == [{"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}]


@pytest.mark.parametrize("role", DRIVERS)
@pytest.mark.parametrize(
    ("action", "resource", "expected"),
    [
        ("s3:GetObject", "<DataBucket.Arn>/jobs/tiny.yaml", True),
        ("s3:PutObject", "<DataBucket.Arn>/status/tiny.json", True),
        ("s3:PutObject", "<DataBucket.Arn>/tickets/W/ticket.json", True),
        ("s3:GetObject", "<OutputsBucket.Arn>/runs/j/W/completion.json", True),
        ("dynamodb:PutItem", "<JobTable.Arn>", True),
        ("dynamodb:Query", "<JobTable.Arn>/index/open", True),
        ("sns:Publish", "<Topic>", True),
        ("ec2:TerminateInstances", EC2 + "instance/i-0aaaaaaaaaaaaaaaa", True),
        ("s3:PutObject", "<DataBucket.Arn>/jobs/tiny.yaml", False),
        ("s3:PutObject", "<OutputsBucket.Arn>/runs/j/W/completion.json", False),
        ("s3:GetObject", "<DataBucket.Arn>/data/train.jsonl", False),
        ("s3:DeleteObject", "<DataBucket.Arn>/jobs/tiny.yaml", False),
        ("dynamodb:Scan", "<JobTable.Arn>", False),
        ("sns:Publish", "<BudgetTopic>", False),
        ("ec2:ModifyInstanceAttribute", EC2 + "instance/i-0aaaaaaaaaaaaaaaa", False),
        ("ec2:CreateLaunchTemplateVersion", EC2 + "launch-template/<LaunchTemplate>", False),
        ("ec2:CreateFleet", EC2 + "launch-template/lt-0another", False),
        ("iam:PassRole", "<SubmitRole.Arn>", False),
        ("ssm:SendCommand", EC2 + "instance/i-0aaaaaaaaaaaaaaaa", False),
    ],
)
def test_a_driving_function_does_its_work_and_nothing_beside_it(role: str, action: str, resource: str, expected: bool) -> None:
    assert allowed(role_statements(Stack(), role), action, resource) is expected


def test_the_relay_may_only_put_alerts_on_the_bus() -> None:
    assert _own("BudgetRelayRole") == {"events:PutEvents"}


def _own(role: str) -> set[str]:
    """What the role may do beyond what every function may."""
    return {action for rule in role_statements(Stack(), role) for action in listed(rule["Action"])} - set(IMPLIED)


def test_the_ledger_may_only_note_notices() -> None:
    assert _own("PublishLedgerRole") == {"dynamodb:UpdateItem"}
    rule = _rule("NotePublishedNotices")
    assert rule["Resource"] == "<JobTable.Arn>"
    assert rule["Condition"] == {"ForAllValues:StringLike": {"dynamodb:LeadingKeys": ["NOTICE#*"]}, "Null": {"dynamodb:LeadingKeys": "false"}}
    assert 'f"NOTICE#{notice_id}"' in (ROOT / "functions/control_plane/adapters/dynamodb.py").read_text()


def test_the_curfew_may_only_look_and_end_what_is_the_projects() -> None:
    assert _own("CurfewRole") == {"ec2:DescribeInstances", "ec2:TerminateInstances"}
    (ends,) = [rule for rule in role_statements(Stack(), "CurfewRole") if rule["Action"] == "ec2:TerminateInstances"]
    assert ends["Condition"] == {"StringEquals": {"aws:ResourceTag/dropforge:project": "dropforge"}}


def test_only_the_tick_tags_after_birth_and_only_strays_of_the_project() -> None:
    tagging = {(holder, rule["Sid"]) for holder, rule in statements(Stack()) if "ec2:CreateTags" in listed(rule["Action"])}
    assert tagging == {("LaunchPolicy", "TagAtBirth"), ("ReconcileRole", "MarkStrays")}
    rule = _rule("MarkStrays")
    assert rule["Resource"] == EC2 + "instance/*"
    assert rule["Condition"] == {
        "StringEquals": {"aws:ResourceTag/dropforge:project": "dropforge"},
        "ForAllValues:StringEquals": {"aws:TagKeys": [STRAY_SINCE]},
        "Null": {"aws:TagKeys": "false"},
    }
    assert STRAY_SINCE not in REQUIRED


def calls_of_the_code() -> set[str]:
    """The actions behind every boto3 method that ``control_plane/adapters`` calls, paginated or not."""
    found = set()
    for path in (ROOT / "functions/control_plane/adapters").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr in ACTION_OF:
                found.add(ACTION_OF[node.attr])
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "get_paginator":
                assert isinstance(node.args[0], ast.Constant)
                found.add(ACTION_OF[str(node.args[0].value)])
    return found


def test_every_call_of_the_code_is_allowed_and_every_allowed_action_is_called() -> None:
    granted = {action for role in FUNCTION_ROLES for rule in role_statements(Stack(), role) for action in listed(rule["Action"])}
    assert calls_of_the_code() == granted - (set(IMPLIED) - calls_of_the_code())


def test_transactions_hold_puts_only_as_the_policy_expects() -> None:
    source = (ROOT / "functions/control_plane/adapters/dynamodb.py").read_text()
    assert set(re.findall(r'\{"(Put|Update|Delete|ConditionCheck)":', source)) == {"Put"}


def test_policies_fit_iam_with_the_longest_stack_name() -> None:
    """6,144 characters a managed policy, white space not counted (IAM quotas); names that AWS makes are up to 64 or so."""
    stack = Stack(parameters={"AWS::StackName": "s" * 128, "LaunchTemplate": "lt-" + 17 * "0", "Vpc": "vpc-" + 17 * "0"})
    for name, policy in stack.of_type("AWS::IAM::ManagedPolicy").items():
        text = re.sub(r"<[^>]*>", 64 * "x", json.dumps(policy["PolicyDocument"], separators=(",", ":")))
        assert len(text) <= 6144, name
