"""The unchanged template in the local cloud: deployed, used at its edges, updated, deleted. What an emulator cannot show is said where it matters."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
import yaml

from dropforge.local import cloud as clouds
from dropforge.local import deploy, printed
from dropforge.local.market import Market
from dropforge.local.state import CloudState
from dropforge.translation import read
from jobspec import tags
from tests.driver.house import MANIFEST, MATERIAL

pytestmark = pytest.mark.local_cloud

T = TypeVar("T")
#: One minute of a schedule in these tests, in seconds.
MINUTE_S = 3.0


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("deployed")


@pytest.fixture(scope="module")
def plan(home: Path) -> clouds.Plan:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    return clouds.Plan(home, port=port, notice_s=2.0, minute_s=MINUTE_S, stop_grace_s=1.0)


@pytest.fixture(scope="module")
def cloud(plan: clouds.Plan) -> Iterator[CloudState]:
    missing = [name for name in (".venv-cloud", ".venv-lambda") if not (clouds.REPOSITORY / name / "bin" / "python").exists()]
    if missing:
        pytest.skip(f"{', '.join(missing)} missing: run `make setup`")
    try:
        yield clouds.up(plan)
    finally:
        clouds.down(plan.home)


def eventually(look: Callable[[], T], within_s: float = 120.0) -> T:
    until = time.monotonic() + within_s
    while not (found := look()):
        assert time.monotonic() < until, f"not within {within_s} s: {found!r}"
        time.sleep(0.2)
    return found


def items(cloud: CloudState, prefix: str) -> list[dict[str, Any]]:
    found = deploy.client_of(cloud, "dynamodb").scan(TableName=cloud.outputs["JobTableName"])["Items"]
    return [item for item in found if item["pk"]["S"].startswith(prefix)]


def test_a_published_notice_is_noted_once_however_often_it_is_delivered(cloud: CloudState) -> None:
    sns = deploy.client_of(cloud, "sns")
    attributes = {"notice_id": {"DataType": "String", "StringValue": "tiny#end"}}
    sns.publish(TopicArn=cloud.outputs["TopicArn"], Subject="s", Message="m", MessageAttributes=attributes)
    sns.publish(TopicArn=cloud.outputs["TopicArn"], Subject="an alarm", Message="has no notice id")
    (noted,) = eventually(lambda: items(cloud, "NOTICE#"))
    assert noted["pk"]["S"] == "NOTICE#tiny#end"
    assert int(noted["expires_at"]["N"]) > time.time()
    event = json.loads((clouds.REPOSITORY / "events/published-notice-sns.json").read_text())
    for _ in range(2):
        answer = deploy.client_of(cloud, "lambda").invoke(FunctionName=cloud.outputs["PublishLedgerFunctionName"], Payload=json.dumps(event).encode())
        assert "FunctionError" not in answer, answer["Payload"].read()
    (delivered,) = items(cloud, "NOTICE#tiny-0123456789ab#end")
    assert len(delivered["messages"]["SS"]) == 1


def overdue(cloud: CloudState) -> str:
    """Starts an instance that is past its deadline, and on nobody's record; gives its id."""
    mine = {tags.PROJECT: cloud.stack, tags.JOB: "gone", tags.ATTEMPT: "1", tags.LAUNCH: "t", tags.DEADLINE: str(int(time.time()) - 7200)}
    request = {
        "MinCount": 1,
        "MaxCount": 1,
        "InstanceType": "g5.xlarge",
        "ImageId": "ami-0123456789abcdef0",
        "UserData": "#!/bin/bash\nexec sleep 300",
        "TagSpecifications": [{"ResourceType": "instance", "Tags": [{"Key": key, "Value": value} for key, value in mine.items()]}],
    }
    return str(deploy.client_of(cloud, "ec2").run_instances(**request)["Instances"][0]["InstanceId"])


def test_the_curfew_comes_by_itself_and_ends_what_is_past_its_deadline(cloud: CloudState, home: Path) -> None:
    ec2, instance_id = deploy.client_of(cloud, "ec2"), overdue(cloud)

    def state() -> str:
        return str(ec2.describe_instances(InstanceIds=[instance_id])["Reservations"][0]["Instances"][0]["State"]["Name"])

    eventually(lambda: state() in ("shutting-down", "terminated"), within_s=40 * MINUTE_S)
    lines = eventually(lambda: [line for entry in printed.entries(home, "curfew", follow=False) for line in entry["lines"]], within_s=40 * MINUTE_S)
    assert any('"outcome":"done"' in line.replace(" ", "") for line in lines), lines


def test_an_instances_own_log_arrives_in_its_attempts_stream_by_its_own_rights(cloud: CloudState) -> None:
    """From the real launch template: user data, role and stand-in of the AWS CLI. It is on nobody's record, and waits for a ticket."""
    mine = {tags.PROJECT: cloud.stack, tags.JOB: "late-1a2b3c", tags.ATTEMPT: "3", tags.LAUNCH: "t", tags.DEADLINE: str(int(time.time()) + 3600)}
    answer = deploy.client_of(cloud, "ec2").run_instances(
        MinCount=1,
        MaxCount=1,
        InstanceType="g5.xlarge",
        LaunchTemplate={"LaunchTemplateId": cloud.outputs["LaunchTemplateId"], "Version": "$Latest"},
        TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": key, "Value": value} for key, value in mine.items()]}],
    )
    logs = deploy.client_of(cloud, "logs")
    group = cloud.outputs["InstanceLogGroup"]

    def messages() -> list[str]:
        streams = [stream["logStreamName"] for stream in logs.describe_log_streams(logGroupName=group)["logStreams"]]
        if "late-1a2b3c/3/bootstrap" not in streams:
            return []
        return [event["message"] for event in logs.get_log_events(logGroupName=group, logStreamName="late-1a2b3c/3/bootstrap")["events"]]

    told = eventually(messages)
    deploy.client_of(cloud, "ec2").terminate_instances(InstanceIds=[answer["Instances"][0]["InstanceId"]])
    assert told[0].endswith("dropforge: power-off in 65 minutes at the latest"), told


def metrics_in(lines: list[str]) -> set[tuple[str, str, tuple[tuple[str, str], ...]]]:
    """Namespace, name and dimensions of what CloudWatch reads out of log lines in its embedded metric format."""
    found = set()
    for line in lines:
        if '"_aws"' not in line:
            continue
        told = json.loads(line)
        for block in told["_aws"]["CloudWatchMetrics"]:
            for names in block["Dimensions"]:
                found |= {(block["Namespace"], metric["Name"], tuple((name, told[name]) for name in names)) for metric in block["Metrics"]}
    return found


@contextmanager
def job_in_vain(cloud: CloudState) -> Iterator[None]:
    """A job that asks for instances of which EC2 has none."""
    s3, bucket, market = deploy.client_of(cloud, "s3"), cloud.outputs["DataBucketName"], Market(cloud)
    manifest = {**MANIFEST, "name": "in-vain", "compute": {"instance_types": ["g6.xlarge"]}}
    market.set_capacity(0, instance_type="g6.xlarge")
    for key, body in {**MATERIAL, "jobs/in-vain.yaml": yaml.safe_dump(manifest).encode()}.items():
        s3.put_object(Bucket=bucket, Key=key, Body=body)
    yield
    s3.delete_object(Bucket=bucket, Key="jobs/in-vain.yaml")
    market.set_capacity(None, instance_type="g6.xlarge")


def test_every_alarm_is_made_and_reads_a_metric_that_the_deployed_functions_send(cloud: CloudState, home: Path) -> None:
    """After the tests above: a notice was published. An overdue instance may be the tick's or the curfew's to end; only the curfew counts it."""
    alarms = deploy.client_of(cloud, "cloudwatch").describe_alarms()["MetricAlarms"]
    resources = read(clouds.REPOSITORY / "template.yaml")["Resources"]
    # Those of a part that was not asked for are not made.
    declared = {
        name for name, resource in resources.items() if resource["Type"] == "AWS::CloudWatch::Alarm" and resource.get("Condition") in (None, "WatchesAll")
    }
    assert {alarm["AlarmName"].removeprefix(f"{cloud.stack}-").partition("-")[0] for alarm in alarms} == declared
    own = {
        (alarm["Namespace"], alarm["MetricName"], tuple((one["Name"], one["Value"]) for one in alarm["Dimensions"]))
        for alarm in alarms
        if not alarm["Namespace"].startswith("AWS/")
    }
    assert {name for _, name, _ in own} >= {"OverdueInstances", "StaleHeartbeats", "SpendUsdPerHour", "IdleGpus"}

    def unsent() -> set[Any]:
        missing = own - metrics_in([line for entry in printed.entries(home, None, follow=False) for line in entry["lines"]])
        if any(name == "OverdueInstances" for _, name, _ in missing):
            overdue(cloud)
            deploy.client_of(cloud, "lambda").invoke(FunctionName=cloud.outputs["CurfewFunctionName"], Payload=b"{}")
        return missing

    with job_in_vain(cloud):
        eventually(lambda: not unsent(), within_s=40 * MINUTE_S)


def test_an_update_with_other_parameters_is_carried_out_and_keeps_what_is_there(cloud: CloudState, plan: clouds.Plan) -> None:
    """With a webhook, and GitHub's roles on a provider that the account has. The emulator makes no provider and keeps no boundaries."""
    s3, provider = deploy.client_of(cloud, "s3"), f"arn:aws:iam::{clouds.ACCOUNT_ID}:oidc-provider/token.actions.githubusercontent.com"
    s3.put_object(Bucket=cloud.outputs["DataBucketName"], Key="data/kept", Body=b"kept")
    github = {"GitHubRepository": "me/it", "GitHubRepositoryId": "1", "GitHubOwnerId": "2", "GitHubOidcProviderArn": provider}
    updated = clouds.up(replace(plan, parameters={"SpendAlarmUsdPerHour": "7", "LogRetentionDays": "7", "WebhookParameter": "/ours/webhook", **github}))
    assert {key: value for key, value in updated.outputs.items() if key in cloud.outputs} == cloud.outputs
    assert updated.outputs.keys() - cloud.outputs.keys() == {"PushImageRoleArn", "DeployRoleArn", "CloudFormationRoleArn", "WebhookFunctionName"}
    groups = deploy.client_of(cloud, "logs").describe_log_groups(logGroupNamePrefix=f"/dropforge/{cloud.stack}/")["logGroups"]
    assert {group["retentionInDays"] for group in groups} == {7}
    assert s3.get_object(Bucket=cloud.outputs["DataBucketName"], Key="data/kept")["Body"].read() == b"kept"


def test_a_webhook_that_was_asked_for_hears_the_topic_finds_its_address_and_says_when_it_is_not_taken(cloud: CloudState, home: Path) -> None:
    """After the update above. Nobody listens at that address: what is taken where somebody does is tested in tests/handlers."""
    deploy.client_of(cloud, "ssm").put_parameter(Name="/ours/webhook", Type="SecureString", Value="https://127.0.0.1:9/secret-7f3a")
    deploy.client_of(cloud, "sns").publish(TopicArn=cloud.outputs["TopicArn"], Subject="s", Message="m")

    def said() -> list[str]:
        return [line for entry in printed.entries(home, None, follow=False) for line in entry["lines"] if "127.0.0.1 was not reached" in line]

    assert not any("secret-7f3a" in line for line in eventually(said))


def test_deleting_the_stack_leaves_the_data_and_nothing_that_runs(cloud: CloudState) -> None:
    """Last in this file: the stack is gone after it."""
    formation = deploy.client_of(cloud, "cloudformation")
    formation.delete_stack(StackName=cloud.stack)

    def gone() -> bool:
        stacks = formation.list_stacks(StackStatusFilter=["DELETE_COMPLETE", "DELETE_FAILED"])["StackSummaries"]
        failed = [stack for stack in stacks if stack["StackName"] == cloud.stack and stack["StackStatus"] == "DELETE_FAILED"]
        assert not failed, failed
        return any(stack["StackName"] == cloud.stack for stack in stacks)

    eventually(gone)
    assert deploy.client_of(cloud, "s3").get_object(Bucket=cloud.outputs["DataBucketName"], Key="data/kept")["Body"].read() == b"kept"
    assert deploy.client_of(cloud, "dynamodb").describe_table(TableName=cloud.outputs["JobTableName"])["Table"]["TableStatus"] == "ACTIVE"
    policy = deploy.client_of(cloud, "s3").get_bucket_policy(Bucket=cloud.outputs["OutputsBucketName"])["Policy"]
    assert "MarkerStays" in policy
    assert deploy.client_of(cloud, "ecr").describe_repositories()["repositories"]
    functions = [function["FunctionName"] for function in deploy.client_of(cloud, "lambda").list_functions()["Functions"]]
    assert [name for name in functions if name.startswith(f"{cloud.stack}-")] == []
    assert deploy.client_of(cloud, "events").list_rules(NamePrefix=f"{cloud.stack}-")["Rules"] == []
    assert deploy.client_of(cloud, "scheduler").list_schedules()["Schedules"] == []
