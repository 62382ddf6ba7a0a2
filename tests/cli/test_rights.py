"""The policy in docs/operations.md is what the commands need: every call is allowed by it, every right of it is used, and with it each command works."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from dropforge import stack as stacks
from dropforge.operate import hold, stop
from dropforge.operate.doctor import NO_RIGHT
from dropforge.operate.findings import Verdict
from jobspec.operator import HOLD_KEY
from tests.cli.conftest import Site
from tests.cli.test_hold_and_stop import launch, with_door
from tests.cli.test_redrive import put, record
from tests.cli.test_regions import launch_there, with_a_peer

pytestmark = pytest.mark.local_cloud

PAGE = (Path(__file__).parents[2] / "docs/operations.md").read_text()
#: Services whose actions have another prefix than botocore's name (Service Authorization Reference).
PREFIXES = {"service-quotas": "servicequotas"}
#: Calls whose action has another name (the same reference).
ACTIONS = {
    ("s3", "GetBucketNotificationConfiguration"): "s3:GetBucketNotification",
    ("budgets", "DescribeBudget"): "budgets:ViewBudget",
    ("budgets", "DescribeNotificationsForBudget"): "budgets:ViewBudget",
    ("budgets", "DescribeSubscribersForNotification"): "budgets:ViewBudget",
    ("lambda", "Invoke"): "lambda:InvokeFunction",
}
#: No right is needed for it (IAM reference), or the page says that it is left out.
WITHOUT = {"sts:GetCallerIdentity", "ec2:RunInstances"}
#: Only asked where a GitHub repository is connected; `test_doctor` does.
ELSEWHERE = {"iam:GetOpenIDConnectProvider"}
#: Asked where the usual answer is another: a route without the internet, a quota that was never changed.
SELDOM = {"ec2:DescribeVpcEndpoints", "servicequotas:GetAWSDefaultServiceQuota"}


#: What ministack 1.5.33 asks for in other words than AWS (core/iam_actions.py): a read of the concurrency as a write of it, budgets by
#: operation, and for these no resource (or, for a rule, one with a bus in it, which AWS's rules of the default bus have not).
AS_THE_EMULATOR_HAS_IT = {
    "Sid": "AsTheEmulatorHasIt",
    "Effect": "Allow",
    "Action": [
        *("events:DescribeRule", "events:ListTargetsByRule", "lambda:PutFunctionConcurrency", "cloudwatch:DescribeAlarms"),
        *("budgets:DescribeBudget", "budgets:DescribeNotificationsForBudget", "budgets:DescribeSubscribersForNotification"),
    ],
    "Resource": "*",
}


def policy() -> dict[str, Any]:
    (block,) = [text for text in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL) if '"Statement"' in text]
    return dict(json.loads(block))


def filled(site: Site) -> dict[str, Any]:
    text = json.dumps(policy())
    for word, value in (("LOWER-CASE-STACK", "well"), ("REGION", "us-east-1"), ("ACCOUNT", "123456789012"), ("STACK", "well")):
        text = text.replace(word, value)
    document = dict(json.loads(text))
    document["Statement"].append(AS_THE_EMULATOR_HAS_IT)
    return document


def allowed(of: dict[str, Any]) -> set[str]:
    actions = [statement["Action"] for statement in of["Statement"]]
    return {action for item in actions for action in ([item] if isinstance(item, str) else item)}


def action_of(service: str, operation: str) -> str:
    return ACTIONS.get((service, operation), f"{PREFIXES.get(service, service)}:{operation}")


@pytest.fixture(autouse=True)
def _quick(site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(hold, "CONFIRMED_WITHIN_S", 2.0)
    monkeypatch.setattr(stop.end_all, "__kwdefaults__", {"quiet_s": 0.2, "give_up_after_s": 8.0})
    yield
    site.client("dynamodb").delete_item(TableName=site.id("JobTable"), Key=HOLD_KEY)
    site.client("sqs").purge_queue(QueueUrl=site.id("DeadLetters"))


COMMANDS = (["doctor"], ["pause"], ["resume"], ["stop-all", "--yes"], ["redrive"])


def run_all(site: Site) -> None:
    """Each command with something to do, on a stack with another region."""
    with_a_peer(site)
    with_door(site)
    put(site, record(site, "CurfewFunction", {}))
    put(site, "not a letter")
    launch(site)
    for command in COMMANDS:
        site.run(*command)


def test_every_call_is_allowed_and_every_right_is_used(site: Site) -> None:
    run_all(site)
    called = {action_of(service, operation) for service, operation in site.answers.calls}
    assert called - allowed(policy()) - WITHOUT == set(), "calls that the page's policy does not allow"
    assert allowed(policy()) - called - ELSEWHERE - SELDOM == set(), "rights of the page's policy that no command uses"


def test_no_right_is_given_on_everything_but_the_listed_looks() -> None:
    for statement in policy()["Statement"]:
        assert statement["Effect"] == "Allow"
        if statement["Resource"] == "*":
            assert statement["Sid"] == "LookAround"
            assert all(re.fullmatch(r"ec2:Describe\w+|servicequotas:Get\w+", action) for action in statement["Action"])
    assert not any("*" in action for action in allowed(policy()))


def as_a_person_with(site: Site, document: dict[str, Any], monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """From here on the commands run with the credentials of a user who has this policy and no other."""
    iam = site.client("iam")
    iam.create_user(UserName=name)
    iam.put_user_policy(UserName=name, PolicyName="operator", PolicyDocument=json.dumps(document))
    key = iam.create_access_key(UserName=name)["AccessKey"]
    session = boto3.Session(aws_access_key_id=key["AccessKeyId"], aws_secret_access_key=key["SecretAccessKey"], region_name="us-east-1")
    site.answers.listen_to(session)
    monkeypatch.setenv("AWS_ENDPOINT_URL", site.state.endpoint)
    monkeypatch.setattr(stacks, "new_session", lambda: session)


def test_with_the_policy_of_the_page_every_command_does_its_work(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    as_a_person_with(site, filled(site), monkeypatch, "operator")
    with_a_peer(site)
    status, findings = site.doctor()
    assert {(finding.check, finding.verdict) for finding in findings if finding.verdict is not Verdict.OK} == {("launch", Verdict.UNKNOWN)}
    assert status == 0
    with_door(site)
    instance, away = launch(site), launch_there(site)
    put(site, record(site, "CurfewFunction", {}))
    for words in (["pause"], ["resume"], ["stop-all", "--yes"], ["redrive"], ["resume"]):
        result = site.run(*words)
        assert result.exit_code == 0, f"{words}: {result.output}"
    assert {instance, away} <= {item["InstanceIds"][0] for operation, item in site.answers.requests if operation == "TerminateInstances"}


def test_with_the_policy_of_the_page_nobody_else_is_touched(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    as_a_person_with(site, filled(site), monkeypatch, "careful")
    theirs = launch(site, project="other")
    person = stacks.new_session()
    forbidden = {
        "another project's instance": lambda: person.client("ec2").terminate_instances(InstanceIds=[theirs]),
        "a job's record": lambda: person.client("dynamodb").get_item(TableName=site.id("JobTable"), Key={"pk": {"S": "JOB#x"}}),
        "writing the hold": lambda: person.client("dynamodb").put_item(TableName=site.id("JobTable"), Item={"pk": {"S": "PROJECT#hold"}}),
        "a launch": lambda: person.client("ec2").run_instances(
            MinCount=1, MaxCount=1, InstanceType="g5.xlarge", LaunchTemplate={"LaunchTemplateId": site.id("LaunchTemplate")}, SubnetId=site.id("SubnetA")
        ),
        "a manifest": lambda: person.client("s3").put_object(Bucket=site.id("DataBucket"), Key="jobs/x.yaml", Body=b""),
    }
    for what, act in forbidden.items():
        with pytest.raises(ClientError) as raised:
            act()
        assert raised.value.response["Error"]["Code"] in NO_RIGHT, what


@pytest.mark.parametrize("sid", [statement["Sid"] for statement in policy()["Statement"]])
def test_without_one_of_its_statements_something_is_missing(site: Site, monkeypatch: pytest.MonkeyPatch, sid: str) -> None:
    less = filled(site)
    less["Statement"] = [statement for statement in less["Statement"] if statement["Sid"] != sid]
    as_a_person_with(site, less, monkeypatch, f"without-{sid}")
    if sid == "LookAtOtherRegions":
        with_a_peer(site)
    with_door(site)
    put(site, record(site, "CurfewFunction", {}))
    launch(site)
    lacking = []
    for words in COMMANDS:
        result = site.run(*words)
        lacking += (
            [words[0]]
            if re.search(r"AccessDenied|UnauthorizedOperation|not authorized", result.output.replace("(UnauthorizedOperation). It says nothing", ""))
            else []
        )
    assert lacking, sid
