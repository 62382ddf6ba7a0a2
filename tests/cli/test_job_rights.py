"""The policy in docs/jobs.md is what the job commands need: each runs with it, every right is used, and nothing beyond is allowed."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from dropforge import stack as stacks
from dropforge.jobs import acting
from jobspec import keys
from tests.cli.bucket import INSTANCE, Bucket, an_attempt
from tests.cli.conftest import Site

pytestmark = pytest.mark.local_cloud

PAGE = (Path(__file__).parents[2] / "docs/jobs.md").read_text()
#: In an account only; `test_jobs.py` holds what is asked of FIS.
OF_FAULT_INJECTION = {"fis:CreateExperimentTemplate", "fis:StartExperiment", "fis:GetExperiment", "fis:DeleteExperimentTemplate", "iam:PassRole"}
ACTIONS = {("s3", "ListObjectsV2"): "s3:ListBucket", ("s3", "HeadObject"): "s3:GetObject"}


def policy() -> dict[str, Any]:
    (block,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    return dict(json.loads(block))


def allowed() -> set[str]:
    actions = [statement["Action"] for statement in policy()["Statement"]]
    return {action for item in actions for action in ([item] if isinstance(item, str) else item)}


@pytest.fixture
def person(site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """Jobs of the stack, put there by its owner; from here on the commands run as a user who has the page's policy alone.

    The rule that hears of manifests is off: the stack's own submit would take them up, and write other statuses than these.
    """
    rule = site.id("SubmitFunctionManifestChanged")
    site.client("events").disable_rule(Name=rule)
    owner = Bucket(stacks.find_stack("well"))
    owner.put_material()
    text = json.dumps(policy())
    words = {"DATA-BUCKET": owner.stack.data_bucket, "OUTPUTS-BUCKET": owner.stack.outputs_bucket, "REGION": "us-east-1", "ACCOUNT": "123456789012"}
    for word, value in (*words.items(), ("STACK", "well")):
        text = text.replace(word, value)
    iam = site.client("iam")
    iam.create_user(UserName="runner")
    iam.put_user_policy(UserName="runner", PolicyName="jobs", PolicyDocument=text)
    key = iam.create_access_key(UserName="runner")["AccessKey"]
    session = boto3.Session(aws_access_key_id=key["AccessKeyId"], aws_secret_access_key=key["SecretAccessKey"], region_name="us-east-1")
    site.answers.listen_to(session)
    monkeypatch.setenv("AWS_ENDPOINT_URL", site.state.endpoint)
    monkeypatch.setattr(stacks, "new_session", lambda: session)
    monkeypatch.setattr("dropforge.jobs.logs.new_session", lambda: session)
    monkeypatch.setattr(acting, "CANCELLED_WITHIN_S", 0.0)
    yield owner
    site.client("events").enable_rule(Name=rule)
    iam.delete_access_key(UserName="runner", AccessKeyId=key["AccessKeyId"])
    iam.delete_user_policy(UserName="runner", PolicyName="jobs")
    iam.delete_user(UserName="runner")


def test_every_command_works_with_the_policy_and_every_right_of_it_is_used(site: Site, person: Bucket, tmp_path: Path) -> None:
    person.put_model("done", {"adapter.safetensors": b"weights"})
    person.put_status("broke", "FAILED", attempts=(an_attempt(),))
    person.put_status("runs", "RUNNING", attempts=(an_attempt(),))
    site.client("logs").create_log_stream(logGroupName="/dropforge/well/instances", logStreamName="runs-abc123/1/agent")
    site.client("logs").put_log_events(
        logGroupName="/dropforge/well/instances", logStreamName="runs-abc123/1/agent", logEvents=[{"timestamp": 1_795_608_000_000, "message": "hello"}]
    )
    (tmp_path / "mine.yaml").write_text("name: mine\nmodel: {s3: models/m/}\ndata: {train: data/t.jsonl}\ncompute: {gpu: {memory_gib: 16}}\n")
    site.answers.calls.clear()
    for words in (
        ["list"],
        ["status", "done", "--watch"],
        ["status", "don"],
        ["logs", "runs"],
        ["cost"],
        ["report", "done", "--to", str(tmp_path / "done.html")],
        ["download", "done", "--to", str(tmp_path / "done")],
        ["submit", str(tmp_path / "mine.yaml")],
        ["retry", "broke"],
        ["cancel", "runs", "--yes"],
    ):
        result = site.run(*words)
        assert result.exit_code == 0, f"{words}: {result.output}"
    called = {ACTIONS.get(call, f"{call[0]}:{call[1]}") for call in site.answers.calls}
    # GetObject with a version is another right (S3 guide, "Actions, resources, and condition keys").
    called |= {"s3:GetObjectVersion" for name, asked in site.answers.requests if name == "GetObject" and "VersionId" in asked}
    assert called == allowed() - OF_FAULT_INJECTION


def test_with_the_policy_nothing_else_is_written_or_ended(site: Site, person: Bucket) -> None:
    session = stacks.new_session()
    s3, data, outputs = session.client("s3"), person.stack.data_bucket, person.stack.outputs_bucket
    forbidden = {
        "a status": lambda: s3.put_object(Bucket=data, Key=keys.status_key("x"), Body=b""),
        "a ticket": lambda: s3.put_object(Bucket=data, Key=keys.ticket_key(f"AROAEXAMPLE:{INSTANCE}"), Body=b""),
        "a marker": lambda: s3.put_object(Bucket=outputs, Key=keys.marker_key("x", f"AROAEXAMPLE:{INSTANCE}"), Body=b""),
        "somebody's rows": lambda: s3.get_object(Bucket=data, Key="data/secret.jsonl"),
        "a job's record": lambda: session.client("dynamodb").get_item(TableName=site.id("JobTable"), Key={"pk": {"S": "JOB#x"}}),
        "an instance": lambda: session.client("ec2").terminate_instances(InstanceIds=[INSTANCE]),
    }
    for what, act in forbidden.items():
        with pytest.raises(ClientError) as raised:
            act()
        assert raised.value.response["Error"]["Code"] in ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation"), what


def test_a_missing_right_names_the_action_and_the_page(site: Site, person: Bucket) -> None:
    site.client("iam").put_user_policy(
        UserName="runner",
        PolicyName="jobs",
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [DENY]}),
    )
    result = site.run("list")
    assert result.exit_code == 1
    assert "You lack the right to cloudformation:DescribeStacks" in " ".join(result.output.split())
    assert "docs/jobs.md, Rights" in result.output


DENY = {"Effect": "Deny", "Action": "*", "Resource": "*"}
