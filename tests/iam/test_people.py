"""The two policies that the pages give to people: docs/operations.md for whoever keeps the stack, docs/jobs.md for whoever runs jobs.

That the commands need each right of them is tested where the commands run (tests/cli). Here AWS's own names for what is asked of: the
emulator of those tests does not know all of them.
"""

import json
import re
from functools import cache

import pytest

from dropforge.local.iam.policies import Request, Statement, decide, statements_of
from jobspec import keys
from tests.iam.site import ACCOUNT, REGION, ROLE_ID, the_site
from tools.stack import ROOT

OURS, THEIRS = "dropforge", "another"
WRITER = keys.writer_of(ROLE_ID, "i-0aaaaaaaaaaaaaaaa")


@cache
def page(name: str) -> tuple[Statement, ...]:
    """The page's policy, filled in as it says."""
    (text,) = (block for block in re.findall(r"```json\n(.*?)```", (ROOT / "docs" / name).read_text(), re.DOTALL) if '"Statement"' in block)
    site = the_site()
    buckets = {"DATA-BUCKET": site.arn("DataBucket").rpartition(":")[2], "OUTPUTS-BUCKET": site.arn("OutputsBucket").rpartition(":")[2]}
    for word, value in (*buckets.items(), ("LOWER-CASE-STACK", OURS), ("REGION", REGION), ("ACCOUNT", ACCOUNT), ("STACK", OURS), ("role/ROLE", "role/fis")):
        text = text.replace(word, value)
    return statements_of(name, json.loads(text))


def arn(service: str, rest: str, *, region: str = REGION) -> str:
    return f"arn:aws:{service}:{region}:{ACCOUNT}:{rest}"


#: Action, what is asked about (its stack in braces), and condition keys that are not as usual.
OF_A_STACK: list[tuple[str, str, dict[str, str | tuple[str, ...]]]] = [
    ("cloudformation:DescribeStacks", arn("cloudformation", "stack/{0}/0123"), {}),
    ("cloudformation:ListStackResources", arn("cloudformation", "stack/{0}/0123"), {}),
    ("lambda:GetFunctionConfiguration", arn("lambda", "function:{0}-SubmitFunction-X"), {}),
    ("lambda:GetFunctionConcurrency", arn("lambda", "function:{0}-SubmitFunction-X"), {}),
    ("lambda:InvokeFunction", arn("lambda", "function:{0}-SubmitFunction-X"), {}),
    ("dynamodb:GetItem", arn("dynamodb", "table/{0}-JobTable-X"), {"dynamodb:LeadingKeys": ("PROJECT#hold",)}),
    ("sns:GetTopicAttributes", arn("sns", "{0}-Topic-X"), {}),
    ("sns:ListSubscriptionsByTopic", arn("sns", "{0}-Topic-X"), {}),
    ("sqs:GetQueueAttributes", arn("sqs", "{0}-DeadLetters-X"), {}),
    ("sqs:ReceiveMessage", arn("sqs", "{0}-DeadLetters-X"), {}),
    ("sqs:DeleteMessage", arn("sqs", "{0}-DeadLetters-X"), {}),
    ("sqs:ChangeMessageVisibility", arn("sqs", "{0}-DeadLetters-X"), {}),
    ("events:DescribeRule", arn("events", "rule/{0}-SubmitFunctionManifestChanged-X"), {}),
    ("events:ListTargetsByRule", arn("events", "rule/{0}-SubmitFunctionManifestChanged-X"), {}),
    ("s3:GetBucketNotification", "arn:aws:s3:::{0}-databucket-x", {}),
    ("budgets:ViewBudget", arn("budgets", "budget/{0}-monthly", region=""), {}),
    ("ec2:TerminateInstances", arn("ec2", "instance/i-1"), {"aws:ResourceTag/dropforge:project": "{0}"}),
]


def _asked(entry: tuple[str, str, dict[str, str | tuple[str, ...]]], stack: str) -> Request:
    action, resource, context = entry
    filled = {key: value.format(stack) if isinstance(value, str) else value for key, value in context.items()}
    return Request(action, resource.format(stack), filled)


@pytest.mark.parametrize("entry", OF_A_STACK, ids=lambda entry: entry[0])
def test_who_keeps_the_stack_may_this_in_this_stack_and_not_in_another(entry: tuple[str, str, dict[str, str | tuple[str, ...]]]) -> None:
    assert decide(_asked(entry, OURS), page("operations.md")).allowed
    assert not decide(_asked(entry, THEIRS), page("operations.md")).allowed


@pytest.mark.parametrize(
    ("action", "resource", "context", "may"),
    [
        ("cloudwatch:DescribeAlarms", arn("cloudwatch", "alarm:*"), {}, True),
        ("scheduler:GetSchedule", arn("scheduler", "schedule/default/named-by-aws"), {}, True),
        ("ecr:DescribeImages", arn("ecr", "repository/x"), {}, True),
        ("iam:GetOpenIDConnectProvider", arn("iam", "oidc-provider/token.actions.githubusercontent.com", region=""), {}, True),
        ("ec2:DescribeInstances", "*", {}, True),
        ("events:PutEvents", arn("events", "event-bus/default"), {"events:source": ("dropforge.operator",)}, True),
        ("events:PutEvents", arn("events", "event-bus/default"), {"events:source": ("dropforge.budget",)}, False),
        ("events:PutEvents", arn("events", "event-bus/default"), {"events:source": ("dropforge.operator", "aws.ec2")}, False),
        ("events:PutEvents", arn("events", "event-bus/default"), {}, False),
        ("dynamodb:GetItem", arn("dynamodb", "table/dropforge-JobTable-X"), {"dynamodb:LeadingKeys": ("JOB#x",)}, False),
        ("dynamodb:GetItem", arn("dynamodb", "table/dropforge-JobTable-X"), {}, False),
        ("dynamodb:PutItem", arn("dynamodb", "table/dropforge-JobTable-X"), {"dynamodb:LeadingKeys": ("PROJECT#hold",)}, False),
        ("ec2:TerminateInstances", arn("ec2", "instance/i-1"), {}, False),
        ("ec2:RunInstances", arn("ec2", "instance/*"), {}, False),
        ("s3:PutObject", "arn:aws:s3:::dropforge-databucket-x/jobs/x.yaml", {}, False),
        ("iam:GetOpenIDConnectProvider", arn("iam", "oidc-provider/example.com", region=""), {}, False),
    ],
)
def test_who_keeps_the_stack(action: str, resource: str, context: dict[str, str | tuple[str, ...]], may: bool) -> None:
    assert decide(Request(action, resource, context), page("operations.md")).allowed is may


DATA, OUTPUTS = "arn:aws:s3:::dropforge-databucket-example", "arn:aws:s3:::dropforge-outputsbucket-example"


@pytest.mark.parametrize(
    ("action", "resource", "context", "may"),
    [
        ("cloudformation:DescribeStacks", arn("cloudformation", "stack/dropforge/0123"), {}, True),
        ("s3:ListBucket", DATA, {"s3:prefix": "status/"}, True),
        ("s3:ListBucket", OUTPUTS, {"s3:prefix": "runs/x/"}, True),
        # A name that no job has: without this right S3 answers 403 for a missing key, and with a prefix asked for it would not be held.
        ("s3:ListBucket", DATA, {}, True),
        ("s3:GetObject", f"{DATA}/{keys.status_key('x')}", {}, True),
        ("s3:GetObject", f"{DATA}/{keys.report_key('x')}", {}, True),
        ("s3:PutObject", f"{DATA}/{keys.report_key('x')}", {}, False),
        ("s3:GetObjectVersion", f"{DATA}/jobs/x.yaml", {}, True),
        ("s3:GetObject", f"{OUTPUTS}/{keys.final_prefix('x', WRITER)}adapter.safetensors", {}, True),
        ("s3:PutObject", f"{DATA}/jobs/x.yaml", {}, True),
        ("s3:DeleteObject", f"{DATA}/jobs/x.yaml", {}, True),
        ("logs:FilterLogEvents", arn("logs", "log-group:/dropforge/dropforge/instances"), {}, True),
        ("logs:FilterLogEvents", arn("logs", "log-group:/dropforge/dropforge/instances:log-stream:"), {}, True),
        ("iam:PassRole", arn("iam", "role/fis", region=""), {"iam:PassedToService": "fis.amazonaws.com"}, True),
        ("iam:PassRole", arn("iam", "role/fis", region=""), {"iam:PassedToService": "ec2.amazonaws.com"}, False),
        ("logs:FilterLogEvents", arn("logs", "log-group:/dropforge/another/instances"), {}, False),
        ("cloudformation:DescribeStacks", arn("cloudformation", "stack/another/0123"), {}, False),
        ("s3:ListBucket", "arn:aws:s3:::another", {}, False),
        ("s3:GetObject", f"{DATA}/data/secret.jsonl", {}, False),
        ("s3:GetObject", f"{DATA}/{keys.ticket_key(WRITER)}", {}, False),
        ("s3:PutObject", f"{DATA}/{keys.status_key('x')}", {}, False),
        ("s3:PutObject", f"{DATA}/{keys.ticket_key(WRITER)}", {}, False),
        ("s3:PutObject", f"{OUTPUTS}/{keys.marker_key('x', WRITER)}", {}, False),
        ("s3:DeleteObject", f"{OUTPUTS}/{keys.final_prefix('x', WRITER)}adapter.safetensors", {}, False),
        ("ec2:TerminateInstances", arn("ec2", "instance/i-1"), {"aws:ResourceTag/dropforge:project": "dropforge"}, False),
        ("dynamodb:GetItem", arn("dynamodb", "table/dropforge-JobTable-X"), {"dynamodb:LeadingKeys": ("JOB#x",)}, False),
    ],
)
def test_who_runs_jobs(action: str, resource: str, context: dict[str, str], may: bool) -> None:
    assert decide(Request(action, resource, context), page("jobs.md")).allowed is may
