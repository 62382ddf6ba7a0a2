"""The evaluator against known answers: cases out of AWS's documentation, and what it must refuse to guess."""

from typing import Any

import pytest

from dropforge.local.iam.conditions import NotKnown, holds
from dropforge.local.iam.policies import Request, decide, statements_of


def policy(*statements: dict[str, Any], version: str = "2012-10-17") -> Any:
    return statements_of("p", {"Version": version, "Statement": list(statements)})


def allow(action: Any = "s3:*", resource: Any = "*", **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


@pytest.mark.parametrize(
    ("condition", "context", "expected"),
    [
        # IAM guide, "Condition operators": a key that is not there fails a condition, and meets one that asks for "not".
        ({"StringEquals": {"aws:PrincipalTag/job-category": "iamuser-admin"}}, {}, False),
        ({"StringNotEquals": {"aws:PrincipalTag/job-category": "iamuser-admin"}}, {}, True),
        ({"ArnNotLike": {"aws:SourceArn": "arn:aws:s3:::b"}}, {}, True),
        ({"StringEqualsIfExists": {"ec2:InstanceType": ["t1.*", "t2.*"]}}, {}, True),
        ({"StringLikeIfExists": {"ec2:InstanceType": ["t1.*", "t2.*"]}}, {"ec2:instancetype": "t2.micro"}, True),
        ({"StringLikeIfExists": {"ec2:InstanceType": ["t1.*", "t2.*"]}}, {"ec2:instancetype": "m5.large"}, False),
        # Strings: letter for letter, a wildcard only with Like; several values are "or", and "nor" where it is negated.
        ({"StringEquals": {"a:k": "x*"}}, {"a:k": "xy"}, False),
        ({"StringLike": {"a:k": "x?z*"}}, {"a:k": "xyz-and-more"}, True),
        ({"StringLike": {"a:k": "X*"}}, {"a:k": "xy"}, False),
        ({"StringEqualsIgnoreCase": {"a:k": "XY"}}, {"a:k": "xy"}, True),
        ({"StringEquals": {"a:k": ["one", "two"]}}, {"a:k": "two"}, True),
        ({"StringNotEquals": {"a:k": ["one", "two"]}}, {"a:k": "two"}, False),
        ({"StringNotEquals": {"a:k": ["one", "two"]}}, {"a:k": "three"}, True),
        # Several keys and several operators are "and". A key's name has no case.
        ({"StringEquals": {"A:K": "1", "a:l": "2"}}, {"a:k": "1", "a:l": "3"}, False),
        ({"StringEquals": {"A:K": "1"}, "Bool": {"aws:SecureTransport": "true"}}, {"a:k": "1", "aws:securetransport": "true"}, True),
        ({"Bool": {"aws:SecureTransport": False}}, {"aws:securetransport": "false"}, True),
        # ARN: part by part; ArnEquals takes wildcards as ArnLike does.
        ({"ArnEquals": {"aws:SourceArn": "arn:aws:sns:*:123456789012:topic-*"}}, {"aws:sourcearn": "arn:aws:sns:eu-west-1:123456789012:topic-a"}, True),
        ({"ArnLike": {"aws:SourceArn": "arn:aws:sns:*:topic"}}, {"aws:sourcearn": "arn:aws:sns:eu-west-1:123456789012:topic"}, False),
        ({"ArnLike": {"aws:SourceArn": "arn:aws:events:*:*:rule/*"}}, {"aws:sourcearn": "arn:aws:events:r:1:rule/bus/name"}, True),
        # Numbers, as "Lambda credentials only through IMDSv2" compares them.
        ({"NumericLessThan": {"ec2:RoleDelivery": "2.0"}}, {"ec2:roledelivery": "1.0"}, True),
        ({"NumericLessThan": {"ec2:RoleDelivery": "2.0"}}, {"ec2:roledelivery": "2.0"}, False),
        ({"NumericLessThanEquals": {"s3:max-keys": "10"}}, {"s3:max-keys": "9"}, True),
        ({"NumericNotEquals": {"s3:max-keys": "10"}}, {"s3:max-keys": "10.0"}, False),
        # Null: "true" says that the key must not be there.
        ({"Null": {"aws:TokenIssueTime": "true"}}, {}, True),
        ({"Null": {"aws:TokenIssueTime": "false"}}, {}, False),
        ({"Null": {"aws:TagKeys": "false"}}, {"aws:tagkeys": ()}, False),
        # IAM guide, "Set operators": the four outcomes of the DynamoDB example, and both with no key at all.
        ({"ForAllValues:StringEquals": {"aws:TagKeys": ["environment", "cost-center"]}}, {"aws:tagkeys": ("environment",)}, True),
        ({"ForAllValues:StringEquals": {"aws:TagKeys": ["environment"]}}, {"aws:tagkeys": ("environment", "x")}, False),
        ({"ForAnyValue:StringEquals": {"aws:TagKeys": ["environment"]}}, {"aws:tagkeys": ("environment", "x")}, True),
        ({"ForAnyValue:StringEquals": {"aws:TagKeys": ["environment"]}}, {"aws:tagkeys": ("x",)}, False),
        ({"ForAllValues:StringEquals": {"aws:TagKeys": ["environment"]}}, {}, True),
        ({"ForAnyValue:StringEquals": {"aws:TagKeys": ["environment"]}}, {}, False),
        ({"ForAllValues:StringNotEquals": {"aws:TagKeys": ["a", "b"]}}, {"aws:tagkeys": ("c", "a")}, False),
        # Variables in values.
        ({"StringLike": {"s3:prefix": ["home/${aws:username}/*"]}}, {"s3:prefix": "home/david/x", "aws:username": "david"}, True),
        ({"StringLike": {"s3:prefix": ["home/${aws:username}/*"]}}, {"s3:prefix": "home/other/x", "aws:username": "david"}, False),
        ({"StringEquals": {"a:k": "${aws:username, 'nobody'}"}}, {"a:k": "nobody"}, True),
    ],
)
def test_conditions_hold_as_the_guide_says(condition: dict[str, Any], context: dict[str, Any], expected: bool) -> None:
    assert holds(condition, context) is expected


@pytest.mark.parametrize(
    ("pattern", "resource", "expected"),
    [
        ("arn:aws:s3:::bucket/*", "arn:aws:s3:::bucket/a/b", True),
        ("arn:aws:s3:::bucket", "arn:aws:s3:::bucket/a", False),
        ("arn:aws:s3:::Bucket/*", "arn:aws:s3:::bucket/a", False),
        ("arn:aws:s3:::b?cket/*", "arn:aws:s3:::bucket/a", True),
        ("arn:aws:ec2:*:*:instance/*", "arn:aws:ec2:eu-west-1:1:instance/i-1", True),
        # A wildcard inside a part stays there; as the last character of a part it may go on.
        ("arn:aws:ec2:eu-*1:1:instance/*", "arn:aws:ec2:eu-west-1:1:instance/i-1", True),
        ("arn:aws:ec2:e*-1:1:instance/*", "arn:aws:ec2:eu-west-1:9:x-1:1:instance/i-1", False),
        ("arn:aws:iam::*", "arn:aws:iam::123456789012:role/x", True),
        ("arn:aws:logs:r:1:log-group:g:*", "arn:aws:logs:r:1:log-group:g:log-stream:s", True),
        ("*", "anything", True),
        # The value of a variable is text; a variable without a value matches nothing; three characters can be meant as such.
        ("arn:aws:s3:::b/${aws:userid}/*", "arn:aws:s3:::b/AROA:i-1/x", True),
        ("arn:aws:s3:::b/${aws:userid}/*", "arn:aws:s3:::b/AROA:i-2/x", False),
        ("arn:aws:s3:::b/${AWS:UserId}/*", "arn:aws:s3:::b/AROA:i-1/x", True),
        ("arn:aws:s3:::b/${aws:username}/*", "arn:aws:s3:::b/${aws:username}/x", False),
        ("arn:aws:s3:::b/${aws:username, 'all'}/*", "arn:aws:s3:::b/all/x", True),
        ("arn:aws:s3:::b/${s3:star}/*", "arn:aws:s3:::b/anything/x", False),
        ("arn:aws:s3:::b/${*}", "arn:aws:s3:::b/*", True),
        ("arn:aws:s3:::b/${*}", "arn:aws:s3:::b/x", False),
        ("arn:aws:s3:::b/${?}${$}", "arn:aws:s3:::b/?$", True),
    ],
)
def test_resources_match_as_the_guide_says(pattern: str, resource: str, expected: bool) -> None:
    context = {"aws:userid": "AROA:i-1", "s3:star": "*"}
    assert decide(Request("s3:GetObject", resource, context), policy(allow(resource=pattern))).allowed is expected


def test_an_explicit_deny_wins_wherever_it_stands() -> None:
    request, deny = Request("s3:GetObject", "arn:aws:s3:::b/x"), {"Effect": "Deny", "Action": "s3:Get*", "Resource": "*"}
    assert decide(request, policy(allow())).allowed
    for place in ("identity", "boundary", "resource"):
        parts: dict[str, Any] = {"identity": policy(allow()), "boundary": policy(allow("*")), "resource": ()}
        refusing = {**deny, "Principal": "*"} if place == "resource" else deny
        parts[place] = (*parts[place], *policy(refusing))
        answer = decide(request, parts["identity"], boundary=parts["boundary"], resource=parts["resource"])
        assert (answer.allowed, answer.reason) == (False, "denied by p.0"), place


def test_nothing_is_allowed_that_nothing_allows() -> None:
    assert decide(Request("s3:GetObject", "arn:aws:s3:::b/x"), ()).reason == "nothing allows it"
    assert not decide(Request("s3:GetObject", "arn:aws:s3:::b/x"), policy(allow("s3:PutObject"))).allowed


def test_a_boundary_allows_nothing_by_itself_and_limits_what_is_allowed() -> None:
    request = Request("s3:GetObject", "arn:aws:s3:::b/x")
    assert not decide(request, (), boundary=policy(allow("*"))).allowed
    assert decide(request, policy(allow("*")), boundary=policy(allow("ec2:*"))).reason == "outside the permissions boundary"


def test_all_but_matches_all_but() -> None:
    rest = policy({"Effect": "Allow", "NotAction": "iam:*", "NotResource": "arn:aws:s3:::secret/*"})
    answers = [
        decide(Request(action, f"arn:aws:s3:::{key}"), rest).allowed
        for action, key in (("s3:GetObject", "b/x"), ("s3:GetObject", "secret/x"), ("iam:Get", "b/x"))
    ]
    assert answers == [True, False, False]


def test_a_resource_policy_asks_who() -> None:
    mine = policy(allow("sns:Publish", Principal={"Service": "budgets.amazonaws.com"}))
    request = Request("SNS:publish", "arn:aws:sns:r:1:t")
    assert decide(request, (), resource=mine, principal={"Service": "budgets.amazonaws.com"}).allowed
    assert not decide(request, (), resource=mine, principal={"Service": "events.amazonaws.com"}).allowed
    assert not decide(request, (), resource=mine, principal={"AWS": "budgets.amazonaws.com"}).allowed


@pytest.mark.parametrize(
    "statement",
    [
        allow(Condition={"DateLessThan": {"aws:CurrentTime": "2026-01-01T00:00:00Z"}}),
        allow(Condition={"NotNull": {"aws:TagKeys": "true"}}),
        allow(Condition={"ForSomeValues:StringEquals": {"aws:TagKeys": "x"}}),
        allow(Condition={"StringEquals": {"aws:TagKeys": "x"}}),
        allow(Principal={"AWS": "arn:aws:iam::1:root"}),
    ],
)
def test_what_is_not_known_is_no_guess(statement: dict[str, Any]) -> None:
    request = Request("s3:GetObject", "arn:aws:s3:::b/x", {"aws:TagKeys": ("x", "y"), "aws:CurrentTime": "2025-01-01T00:00:00Z"})
    held = policy(statement)
    with pytest.raises(NotKnown):
        decide(request, () if "Principal" in statement else held, resource=held if "Principal" in statement else (), principal={"AWS": "arn:aws:iam::1:user/x"})


@pytest.mark.parametrize(
    "document",
    [
        {"Statement": []},
        {"Version": "2008-10-17", "Statement": []},
        {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*", "NotPrincipal": "*"}]},
    ],
)
def test_a_document_of_another_form_is_refused(document: dict[str, Any]) -> None:
    with pytest.raises(NotKnown):
        statements_of("p", document)
