"""``dropforge doctor`` on the real template in the local cloud: green as deployed, red for each thing broken, green again once mended as it says."""

import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from dropforge.local import deploy
from dropforge.operate.doctor import CHECKS
from dropforge.operate.findings import Finding, Verdict
from jobspec import tags
from jobspec.operator import HOLD_ATTRIBUTE, HOLD_KEY, Hold
from tests.cli.conftest import Site, an_account_with_quota, offering
from tests.cli.shell import read_aws

pytestmark = pytest.mark.local_cloud


def of(findings: list[Finding], check: str) -> list[Finding]:
    return [finding for finding in findings if finding.check == check]


def mend(site: Site, command: str) -> None:
    """Do what a finding says, as the AWS command line would."""
    call = read_aws(shlex.split(command))
    assert call is not None
    client = site.client(call.service)
    method = next(name for name, operation in client.meta.method_to_api_mapping.items() if operation == call.operation)
    getattr(client, method)(**call.parameters)


def test_a_stack_as_it_was_deployed_is_well_in_every_line(site: Site) -> None:
    status, findings = site.doctor()
    assert [finding for finding in findings if finding.verdict is not Verdict.OK] == []
    assert status == 0
    assert {finding.check for finding in findings} == {check.name for check in CHECKS}


def test_what_aws_does_not_answer_is_unknown_and_not_ok(site: Site) -> None:
    for operation in ("GetServiceQuota", "DescribeInstanceTypeOfferings"):
        site.answers.refuse(operation, "ServiceException", "try again later")
    status, findings = site.doctor()
    assert {finding.check for finding in findings if finding.verdict is Verdict.UNKNOWN} == {"quota", "zones"}
    assert {finding.verdict for finding in findings if finding.check not in ("quota", "zones")} == {Verdict.OK}
    assert status == 0


def test_a_quota_that_the_local_cloud_was_given_is_the_one_that_is_told(site: Site) -> None:
    site.market.set_quota(4)
    try:
        found = of(site.doctor()[1], "quota")
        site.market.set_quota(0)
        status, none = site.doctor()
    finally:
        site.market.set_quota(None)
    assert "4 vCPUs: too few for g4dn.2xlarge" in found[0].means
    assert status == 1
    assert [finding.verdict for finding in of(none, "quota")] == [Verdict.BROKEN] * 3 + [Verdict.OK] * 2
    assert {finding.verdict for finding in of(site.doctor()[1], "quota")} == {Verdict.OK}


def test_a_launch_that_the_organization_denies_is_broken_and_one_that_only_you_may_not_is_unknown(site: Site) -> None:
    denied = (
        "User: arn:aws:iam::123456789012:user/me is not authorized to perform: ec2:RunInstances on resource: arn:aws:ec2:us-east-1:123456789012:instance/* "
    )
    site.answers.refuse("RunInstances", "UnauthorizedOperation", denied + "with an explicit deny in a service control policy")
    status, findings = site.doctor()
    (found,) = of(findings, "launch")
    assert (status, found.verdict) == (1, Verdict.BROKEN)
    assert "no job can start" in found.means
    assert read_aws(shlex.split(found.mend)) is not None
    site.answers.refuse("RunInstances", "UnauthorizedOperation", denied + "because no identity-based policy allows the ec2:RunInstances action")
    (found,) = of(site.doctor()[1], "launch")
    assert found.verdict is Verdict.UNKNOWN


def test_for_people_each_finding_is_a_line_and_each_remedy_one_below(site: Site) -> None:
    site.client("events").disable_rule(Name=site.id("SubmitFunctionManifestChanged"))
    result = site.run("doctor")
    site.client("events").enable_rule(Name=site.id("SubmitFunctionManifestChanged"))
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("broken   rules"))
    assert lines[at + 1].strip() == f"mend: aws events enable-rule --name {site.id('SubmitFunctionManifestChanged')}"
    assert lines[-1].endswith("1 broken")


def test_without_a_stack_there_is_one_line_and_the_command_that_makes_it(site: Site) -> None:
    site.client("cloudformation")
    from click.testing import CliRunner

    from dropforge.cli import main

    result = CliRunner().invoke(main, ["doctor", "--stack", "nowhere", "--json"])
    (finding,) = json.loads(result.stdout)["findings"]
    assert (result.exit_code, finding["verdict"]) == (1, "broken")
    assert "nowhere" in finding["means"]
    assert finding["mend"] == "sam build && sam deploy --guided --stack-name nowhere"


@dataclass(frozen=True)
class Break:
    """``breaks`` by the service's own calls; the remedy that doctor names mends it, unless ``mends`` does."""

    check: str
    said: str
    breaks: Callable[[Site], Any]
    mends: Callable[[Site], Any] | None = None
    verdict: Verdict = Verdict.BROKEN


def _unsubscribe(site: Site, topic: str, protocol: str) -> None:
    sns = site.client("sns")
    for item in sns.list_subscriptions_by_topic(TopicArn=site.id(topic))["Subscriptions"]:
        if item["Protocol"] == protocol:
            sns.unsubscribe(SubscriptionArn=item["SubscriptionArn"])


def _spent_alert(site: Site) -> dict[str, Any]:
    notification = {"NotificationType": "ACTUAL", "ComparisonOperator": "GREATER_THAN", "Threshold": 100, "ThresholdType": "PERCENTAGE"}
    return {"AccountId": "123456789012", "BudgetName": site.id("MonthlyBudget"), "Notification": notification}


def _without_subscriber(site: Site) -> None:
    site.client("budgets").delete_subscriber(**_spent_alert(site), Subscriber={"SubscriptionType": "SNS", "Address": site.id("BudgetTopic")})


def _without_targets(site: Site) -> None:
    rule = site.id("CompletionFunctionMarkerWritten")
    events = site.client("events")
    events.remove_targets(Rule=rule, Ids=[target["Id"] for target in events.list_targets_by_rule(Rule=rule)["Targets"]])


def _schedule(site: Site, state: str) -> None:
    scheduler = site.client("scheduler")
    (found,) = scheduler.list_schedules()["Schedules"]
    facts = scheduler.get_schedule(Name=found["Name"])
    kept = {key: facts[key] for key in ("Name", "ScheduleExpression", "FlexibleTimeWindow", "Target")}
    scheduler.update_schedule(**kept, State=state)


def _settings(site: Site, change: Callable[[dict[str, str]], Any]) -> None:
    client, name = site.client("lambda"), site.id("ReconcileFunction")
    variables = dict(client.get_function_configuration(FunctionName=name)["Environment"]["Variables"])
    change(variables)
    client.update_function_configuration(FunctionName=name, Environment={"Variables": variables})


def _topic_policy(site: Site, policy: dict[str, Any]) -> None:
    site.client("sns").set_topic_attributes(TopicArn=site.id("BudgetTopic"), AttributeName="Policy", AttributeValue=json.dumps(policy))


def _default_route(site: Site) -> dict[str, str]:
    return {"RouteTableId": site.id("RouteTable"), "DestinationCidrBlock": "0.0.0.0/0"}


BREAKS = {
    "nobody subscribed": Break("e-mail", "Nobody is subscribed", lambda site: _unsubscribe(site, "Topic", "email"), verdict=Verdict.WARNING),
    "image gone": Break(
        "image",
        ":latest is not in its repository",
        lambda site: site.client("ecr").batch_delete_image(repositoryName=site.repository, imageIds=[{"imageTag": "latest"}]),
        lambda site: site.client("ecr").put_image(repositoryName=site.repository, imageTag="latest", imageManifest=deploy.EMPTY_IMAGES["latest"]),
    ),
    "agent image gone": Break(
        "image",
        ":latest-agent is not in its repository: each start stages model and data after the image",
        lambda site: site.client("ecr").batch_delete_image(repositoryName=site.repository, imageIds=[{"imageTag": "latest-agent"}]),
        lambda site: site.client("ecr").put_image(repositoryName=site.repository, imageTag="latest-agent", imageManifest=deploy.EMPTY_IMAGES["latest-agent"]),
        Verdict.WARNING,
    ),
    "alert without subscriber": Break("budget", "tells the stack nothing when it is spent", _without_subscriber),
    "alert gone": Break("budget", "tells the stack nothing", lambda site: site.client("budgets").delete_notification(**_spent_alert(site))),
    "budget may not publish": Break("budget", "may not publish to", lambda site: _topic_policy(site, {"Version": "2012-10-17", "Statement": []})),
    "relay gone": Break("budget", "No function listens", lambda site: _unsubscribe(site, "BudgetTopic", "lambda")),
    "hold set": Break(
        "hold",
        "New launches are held",
        lambda site: site.client("dynamodb").put_item(
            TableName=site.id("JobTable"), Item=HOLD_KEY | {HOLD_ATTRIBUTE: {"S": Hold(reason="paused: test", since=datetime.now(UTC)).model_dump_json()}}
        ),
        lambda site: site.client("dynamodb").delete_item(TableName=site.id("JobTable"), Key=HOLD_KEY),
        Verdict.WARNING,
    ),
    "rule off": Break(
        "rules", "InterruptionFunctionSpotWarned is disabled", lambda site: site.client("events").disable_rule(Name=site.id("InterruptionFunctionSpotWarned"))
    ),
    "rule without target": Break("rules", "CompletionFunctionMarkerWritten has no target", _without_targets),
    "schedule off": Break("schedules", "is disabled", lambda site: _schedule(site, "DISABLED")),
    "function frozen": Break(
        "functions",
        "SubmitFunction may not run at all",
        lambda site: site.client("lambda").put_function_concurrency(FunctionName=site.id("SubmitFunction"), ReservedConcurrentExecutions=0),
    ),
    "setting lost": Break(
        "functions",
        "ReconcileFunction is not told TABLE_NAME, BUDGET_ACTION",
        lambda site: _settings(site, lambda variables: (variables.pop("TABLE_NAME"), variables.update(BUDGET_ACTION=""))),
        lambda site: _settings(site, lambda variables: variables.update(TABLE_NAME=site.id("JobTable"), BUDGET_ACTION="pause")),
    ),
    "bucket silent": Break(
        "buckets",
        "does not tell EventBridge",
        lambda site: site.client("s3").put_bucket_notification_configuration(Bucket=site.id("DataBucket"), NotificationConfiguration={}),
    ),
    "letter lies": Break(
        "dead letters",
        "1 event",
        lambda site: site.client("sqs").send_message(QueueUrl=site.id("DeadLetters"), MessageBody="{}"),
        lambda site: site.client("sqs").purge_queue(QueueUrl=site.id("DeadLetters")),
    ),
    "no route": Break(
        "route",
        "no route to the internet and its VPC no endpoint for ecr.api, ecr.dkr, logs",
        lambda site: site.client("ec2").delete_route(**_default_route(site)),
        lambda site: site.client("ec2").create_route(**_default_route(site), GatewayId=site.id("InternetGateway")),
    ),
    "no public address": Break(
        "route",
        "instances get no public address",
        lambda site: site.client("ec2").modify_subnet_attribute(SubnetId=site.id("SubnetB"), MapPublicIpOnLaunch={"Value": False}),
    ),
    "alarm rings": Break(
        "alarms",
        "DeadLettersAlarm",
        lambda site: site.client("cloudwatch").set_alarm_state(AlarmName=site.id("DeadLettersAlarm"), StateValue="ALARM", StateReason="a test rings it"),
        lambda site: site.client("cloudwatch").set_alarm_state(AlarmName=site.id("DeadLettersAlarm"), StateValue="OK", StateReason="over"),
    ),
    "alarm gone": Break(
        "alarms",
        "1 alarm(s) of the stack were removed by hand",
        lambda site: site.alarm("IdleGpusAlarm", delete=True),
        lambda site: site.alarm("IdleGpusAlarm", delete=False),
    ),
    "alarm muted": Break(
        "alarms", "is muted", lambda site: site.client("cloudwatch").disable_alarm_actions(AlarmNames=[site.id("DeadLettersAlarm")]), verdict=Verdict.WARNING
    ),
}


@pytest.mark.parametrize("name", BREAKS)
def test_each_thing_broken_is_said_and_its_remedy_mends_it(site: Site, name: str) -> None:
    case = BREAKS[name]
    case.breaks(site)
    remedy = None
    try:
        status, findings = site.doctor()
        said = [finding for finding in findings if finding.verdict is not Verdict.OK]
        assert {(finding.check, finding.verdict) for finding in said} == {(case.check, case.verdict)}, said
        assert all(case.said in finding.means and finding.mend for finding in said), said
        assert status == (1 if case.verdict is Verdict.BROKEN else 0)
        remedy = said[0].mend
    finally:
        if case.mends is not None:
            case.mends(site)
        elif remedy is not None:
            mend(site, remedy)
    status, findings = site.doctor()
    assert [finding for finding in findings if finding.verdict is not Verdict.OK] == []


def test_a_budget_that_somebody_deleted_is_broken_and_not_unknown(site: Site) -> None:
    site.answers.refuse("DescribeBudget", "NotFoundException", "Unable to get budget: well-monthly - the budget doesn't exist.")
    status, findings = site.doctor()
    (found,) = of(findings, "budget")
    assert (status, found.verdict) == (1, Verdict.BROKEN)
    assert found.mend == "aws cloudformation detect-stack-drift --stack-name well"


def test_an_unconfirmed_subscription_is_broken_for_it_drops_every_mail(site: Site) -> None:
    topic = site.id("Topic")
    pending = {"SubscriptionArn": "PendingConfirmation", "Owner": "123456789012", "Protocol": "email", "Endpoint": "you@example.com", "TopicArn": topic}
    site.answers.give("ListSubscriptionsByTopic", lambda asked: {"Subscriptions": [pending]} if asked["TopicArn"] == topic else None)
    status, findings = site.doctor()
    (found,) = of(findings, "e-mail")
    assert (status, found.verdict) == (1, Verdict.BROKEN)
    assert "you@example.com never confirmed" in found.means
    assert found.mend == f"aws sns subscribe --topic-arn {topic} --protocol email --notification-endpoint you@example.com"
    other = pending | {"SubscriptionArn": f"{topic}:1", "Endpoint": "me@example.com"}
    site.answers.give("ListSubscriptionsByTopic", lambda asked: {"Subscriptions": [pending, other]} if asked["TopicArn"] == topic else None)
    assert [finding.verdict for finding in of(site.doctor()[1], "e-mail")] == [Verdict.BROKEN, Verdict.OK]


def test_an_account_without_gpu_quota_is_broken_and_each_quota_has_its_request(site: Site) -> None:
    an_account_with_quota(site.answers, 0.0)
    status, findings = site.doctor()
    found = of(findings, "quota")
    assert status == 1
    assert [finding.verdict for finding in found] == [Verdict.BROKEN] * 3 + [Verdict.WARNING] * 2
    assert found[0].mend == "aws service-quotas request-service-quota-increase --service-code ec2 --quota-code L-3819A6DF --desired-value 48"
    assert [finding.mend.split("--quota-code ")[1].split()[0] for finding in found] == ["L-3819A6DF", "L-7212CCBC", "L-C4BD4855", "L-DB2E81BA", "L-417A185B"]


def test_quota_for_small_types_only_is_enough_and_says_what_it_is_not_enough_for(site: Site) -> None:
    site.answers.give("GetServiceQuota", lambda asked: {"Quota": {"Value": 8.0 if asked["QuotaCode"] == "L-3819A6DF" else 0.0}})
    status, findings = site.doctor()
    found = of(findings, "quota")
    assert status == 0
    assert found[0].verdict is Verdict.OK
    assert "8 vCPUs: too few for g5.12xlarge, g6e.12xlarge" in found[0].means
    assert {finding.verdict for finding in found[1:]} == {Verdict.WARNING}


def test_a_quota_that_was_never_changed_is_the_default_one(site: Site) -> None:
    site.answers.refuse("GetServiceQuota", "NoSuchResourceException")
    site.answers.give("GetAWSDefaultServiceQuota", {"Quota": {"Value": 0.0}})
    assert {finding.verdict for finding in of(site.doctor()[1], "quota")} == {Verdict.BROKEN, Verdict.WARNING}


def test_zones_without_the_types_are_named(site: Site) -> None:
    site.answers.give("DescribeInstanceTypeOfferings", lambda asked: offering([], asked))
    status, findings = site.doctor()
    (found,) = of(findings, "zones")
    assert (status, found.verdict) == (1, Verdict.BROKEN)
    in_a = [{"InstanceType": "g5.xlarge", "LocationType": "availability-zone", "Location": "us-east-1a"}]
    site.answers.give("DescribeInstanceTypeOfferings", {"InstanceTypeOfferings": in_a})
    status, findings = site.doctor()
    (found,) = of(findings, "zones")
    assert (status, found.verdict) == (0, Verdict.WARNING)
    assert "us-east-1b, us-east-1c offers none" in found.means


def test_two_subnets_in_one_zone_are_broken_for_a_fleet_refuses_them(site: Site) -> None:
    subnets = site.client("ec2").describe_subnets(SubnetIds=[site.id("SubnetA"), site.id("SubnetB")])["Subnets"]
    site.answers.give("DescribeSubnets", {"Subnets": [subnet | {"AvailabilityZone": "us-east-1a"} for subnet in subnets]})
    (found,) = of(site.doctor()[1], "zones")
    assert found.verdict is Verdict.BROKEN
    assert "Two subnets lie in us-east-1a" in found.means


def test_a_route_to_a_gateway_that_is_gone_is_broken(site: Site) -> None:
    tables = site.client("ec2").describe_route_tables(RouteTableIds=[site.id("RouteTable")])["RouteTables"]
    routes = [route | {"State": "blackhole"} if route.get("DestinationCidrBlock") == "0.0.0.0/0" else route for route in tables[0]["Routes"]]
    site.answers.give("DescribeRouteTables", {"RouteTables": [tables[0] | {"Routes": routes}]})
    assert {(finding.verdict, "blackhole" in finding.means) for finding in of(site.doctor()[1], "route")} == {(Verdict.BROKEN, True)}


def test_endpoints_are_a_way_as_well_as_the_internet(site: Site) -> None:
    ec2 = site.client("ec2")
    ec2.delete_route(**_default_route(site))
    names = ["s3", "ecr.api", "ecr.dkr", "logs"]
    site.answers.give("DescribeVpcEndpoints", {"VpcEndpoints": [{"ServiceName": f"com.amazonaws.us-east-1.{name}", "State": "available"} for name in names]})
    try:
        (found,) = of(site.doctor()[1], "route")
        assert found.verdict is Verdict.OK
    finally:
        ec2.create_route(**_default_route(site), GatewayId=site.id("InternetGateway"))


def test_what_ec2_refuses_in_a_dry_run_is_broken_in_its_own_words(site: Site) -> None:
    site.answers.refuse("RunInstances", "InvalidAMIID.NotFound", "The image id '[ami-1]' does not exist")
    status, findings = site.doctor()
    (found,) = of(findings, "launch")
    assert (status, found.verdict) == (1, Verdict.BROKEN)
    assert "InvalidAMIID.NotFound: The image id" in found.means


def test_a_dry_run_starts_nothing_and_is_one(site: Site) -> None:
    site.doctor()
    (asked,) = [parameters for operation, parameters in site.answers.requests if operation == "RunInstances"]
    assert asked["DryRun"] is True
    assert site.market.instances() == []


def test_an_instance_past_its_own_deadline_is_broken(site: Site) -> None:
    now = datetime.now(UTC)
    kept = {tags.PROJECT: "well", tags.JOB: "a-job", tags.DEADLINE: str(int((now - timedelta(minutes=11)).timestamp()))}
    instance = {
        "InstanceId": "i-0123456789abcdef0",
        "InstanceType": "g5.xlarge",
        "LaunchTime": now,
        "State": {"Name": "running"},
        "Tags": [{"Key": key, "Value": value} for key, value in kept.items()],
    }
    site.answers.give("DescribeInstances", {"Reservations": [{"Instances": [instance]}]})
    (found,) = of(site.doctor()[1], "instances")
    assert (found.verdict, found.mend) == (Verdict.BROKEN, "aws ec2 terminate-instances --region us-east-1 --instance-ids i-0123456789abcdef0")
    instance["Tags"] = [{"Key": tags.DEADLINE, "Value": str(int((now + timedelta(hours=1)).timestamp()))}]
    (found,) = of(site.doctor()[1], "instances")
    assert found.verdict is Verdict.OK


def _connected_to_github(site: Site, audiences: list[str]) -> None:
    formation = site.client("cloudformation")
    real = formation.describe_stacks(StackName="well")["Stacks"][0]
    site.answers.give("DescribeStacks", {"Stacks": [real | {"Parameters": [{"ParameterKey": "GitHubRepository", "ParameterValue": "us/forge"}]}]})
    provider = {
        "LogicalResourceId": "OidcProvider",
        "ResourceType": "AWS::IAM::OIDCProvider",
        "PhysicalResourceId": "arn:aws:iam::123456789012:oidc-provider/x",
        "LastUpdatedTimestamp": datetime.now(UTC),
        "ResourceStatus": "CREATE_COMPLETE",
    }
    found = formation.list_stack_resources(StackName="well")["StackResourceSummaries"]
    site.answers.give("ListStackResources", {"StackResourceSummaries": [*found, provider]})
    site.answers.give("GetOpenIDConnectProvider", {"Url": "token.actions.githubusercontent.com", "ClientIDList": audiences})


def test_a_provider_that_does_not_take_the_tokens_is_broken_where_github_is_connected(site: Site) -> None:
    _connected_to_github(site, ["sigstore"])
    status, findings = site.doctor()
    (found,) = of(findings, "github")
    assert (status, found.verdict) == (1, Verdict.BROKEN)
    call = read_aws(shlex.split(found.mend))
    assert call is not None
    assert call.parameters == {"OpenIDConnectProviderArn": "arn:aws:iam::123456789012:oidc-provider/x", "ClientID": "sts.amazonaws.com"}
    _connected_to_github(site, ["sts.amazonaws.com"])
    (found,) = of(site.doctor()[1], "github")
    assert (found.verdict, "us/forge can sign in" in found.means) == (Verdict.OK, True)


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        ("UPDATE_COMPLETE", Verdict.OK),
        ("UPDATE_IN_PROGRESS", Verdict.WARNING),
        ("UPDATE_ROLLBACK_COMPLETE", Verdict.WARNING),
        ("UPDATE_ROLLBACK_FAILED", Verdict.BROKEN),
        ("ROLLBACK_COMPLETE", Verdict.BROKEN),
        ("DELETE_IN_PROGRESS", Verdict.BROKEN),
        ("REVIEW_IN_PROGRESS", Verdict.BROKEN),
    ],
)
def test_each_state_of_a_stack_has_its_verdict(site: Site, status: str, verdict: Verdict) -> None:
    real = site.client("cloudformation").describe_stacks(StackName="well")["Stacks"][0]
    site.answers.give("DescribeStacks", {"Stacks": [real | {"StackStatus": status}]})
    (found,) = of(site.doctor()[1], "stack")
    assert found.verdict is verdict


def test_a_right_that_is_missing_makes_its_check_unknown_and_no_other(site: Site) -> None:
    site.doctor()
    operations = {operation for _, operation in site.answers.calls} - {"DescribeStacks"}
    assert len(operations) > 15
    for operation in sorted(operations):
        site.as_usual()
        code = "UnauthorizedOperation" if operation.startswith(("Describe", "RunInstances")) else "AccessDeniedException"
        site.answers.refuse(operation, code)
        status, findings = site.doctor()
        unsure = [finding for finding in findings if finding.verdict is not Verdict.OK]
        assert unsure, operation
        assert {finding.verdict for finding in unsure} == {Verdict.UNKNOWN}, operation
        assert all(code in finding.means for finding in unsure), operation
        assert status == 0, operation
        silent = {check.name for check in CHECKS} - {finding.check for finding in findings}
        assert not silent, f"{operation} refused: {silent} say nothing"


def test_a_function_that_was_deleted_by_hand_is_one_line_and_hides_no_other(site: Site) -> None:
    name = site.id("CurfewFunction")

    def gone(asked: dict[str, Any]) -> dict[str, Any] | None:
        if name in asked["FunctionName"]:
            raise ClientError({"Error": {"Code": "ResourceNotFoundException", "Message": "Function not found"}}, "GetFunctionConfiguration")
        return None

    site.answers.before("GetFunctionConfiguration", gone)
    status, findings = site.doctor()
    trouble = [finding for finding in findings if finding.verdict is not Verdict.OK]
    assert (status, [finding.check for finding in trouble]) == (1, ["functions"])
    assert trouble[0].means.startswith("CurfewFunction is gone, somebody deleted it by hand")
    assert read_aws(shlex.split(trouble[0].mend)) is not None
