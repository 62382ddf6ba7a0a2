"""Used but not allowed: nothing. Allowed but unused: nothing. And a policy that is wider, narrower or otherwise changed is noticed."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.iam.hearing import Hearing
from tests.iam.proof import UNHEARD_ROLES, unused
from tests.iam.site import WHOLE, Site
from tools.stack import Stack


def test_every_call_that_is_made_is_allowed(hearing: Hearing) -> None:
    assert hearing.refusals == []


def test_everything_that_is_allowed_is_needed_by_a_call(hearing: Hearing) -> None:
    assert [str(grant) for grant in unused(hearing)] == []


def test_every_role_but_the_deployments_own_was_heard(hearing: Hearing) -> None:
    heard = {who for who, _ in hearing.heard}
    assert set(hearing.site.roles) - heard == UNHEARD_ROLES


def _policy(stack: Stack, holder: str, sid: str) -> dict[str, Any]:
    """The statement itself, to plant a bug in."""
    properties = stack.raw(holder)
    documents = [properties["PolicyDocument"]] if "PolicyDocument" in properties else [policy["PolicyDocument"] for policy in properties["Policies"]]
    found: list[dict[str, Any]] = [statement for document in documents for statement in document["Statement"] if statement.get("Sid") == sid]
    assert len(found) == 1
    return found[0]


def _without_action(action: str) -> Callable[[dict[str, Any]], None]:
    return lambda statement: statement["Action"].remove(action)


def _with_action(action: str) -> Callable[[dict[str, Any]], None]:
    def add(statement: dict[str, Any]) -> None:
        statement["Action"] = [*(statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]), action]

    return add


def _with_resource(resource: str) -> Callable[[dict[str, Any]], None]:
    def add(statement: dict[str, Any]) -> None:
        statement["Resource"] = [*(statement["Resource"] if isinstance(statement["Resource"], list) else [statement["Resource"]]), resource]

    return add


def _demanding(operator: str, key: str, value: str) -> Callable[[dict[str, Any]], None]:
    return lambda statement: statement.setdefault("Condition", {}).update({operator: {key: value}})


@pytest.mark.parametrize(
    ("holder", "sid", "change", "refused"),
    [
        ("RecordPolicy", "KeepJobs", _without_action("dynamodb:PutItem"), "dynamodb:PutItem"),
        ("CurfewRole", "EndInstancesOfThisProject", _demanding("StringEquals", "aws:ResourceTag/dropforge:project", "another"), "ec2:TerminateInstances"),
        ("InstanceRole", "WriteOwnRun", _without_action("s3:AbortMultipartUpload"), "s3:AbortMultipartUpload"),
        ("LaunchPolicy", "TagAtBirth", _demanding("StringEquals", "ec2:CreateAction", "RunInstances"), "ec2:CreateTags"),
        ("ReconcileRole", "MarkStrays", _demanding("ForAllValues:StringEquals", "aws:TagKeys", "another"), "ec2:CreateTags"),
        ("DeadLettersPolicy", "TopicsRedrive", _demanding("ArnEquals", "aws:SourceArn", "arn:aws:sns:eu-west-1:111122223333:another"), "sqs:SendMessage"),
    ],
)
def test_a_policy_that_is_too_narrow_is_noticed(hearing: Hearing, holder: str, sid: str, change: Callable[[dict[str, Any]], None], refused: str) -> None:
    stack = Stack(parameters=WHOLE)
    change(_policy(stack, holder, sid))
    refusals = hearing.again(Site(stack)).refusals
    assert refusals
    assert all(f": {refused} on " in refusal for refusal in refusals)


@pytest.mark.parametrize(
    ("holder", "sid", "change", "idle"),
    [
        ("RecordPolicy", "KeepJobs", _with_action("dynamodb:Scan"), "dynamodb:Scan on "),
        ("LaunchPolicy", "EndInstancesOfThisProject", _with_action("ec2:StopInstances"), "ec2:StopInstances on "),
        ("CurfewRole", "LookAround", _with_action("ec2:DescribeVolumes"), "ec2:DescribeVolumes on *"),
        ("FilesPolicy", "WriteStatusAndTickets", _with_resource("arn:aws:s3:::dropforge-databucket-example/jobs/*"), "/jobs/*"),
        ("LaunchPolicy", "GiveInstancesTheirRole", _with_resource("arn:aws:iam::111122223333:role/admin"), "role/admin"),
    ],
)
def test_a_policy_that_is_too_wide_is_noticed(hearing: Hearing, holder: str, sid: str, change: Callable[[dict[str, Any]], None], idle: str) -> None:
    stack = Stack(parameters=WHOLE)
    change(_policy(stack, holder, sid))
    found = unused(hearing.again(Site(stack)))
    assert found
    assert all(f"{holder}.{sid}" in str(grant) and idle in str(grant) for grant in found)


def test_a_grant_that_another_one_makes_needless_is_noticed(hearing: Hearing) -> None:
    stack = Stack(parameters=WHOLE)
    statements = stack.raw("RecordPolicy")["PolicyDocument"]["Statement"]
    statements.append({**statements[0], "Sid": "KeepJobsAgain"})
    assert {grant.statement for grant in unused(hearing.again(Site(stack)))} == {"RecordPolicy.KeepJobs", "RecordPolicy.KeepJobsAgain"}
