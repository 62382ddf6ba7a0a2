"""What holds for the whole stack: nothing lost in silence, nothing open, nothing kept for ever, every parameter explained."""

import importlib
import json
import re

import pytest
import yaml
from pydantic import TypeAdapter, ValidationError

from control_plane.settings import settings_from
from jobspec.units import Duration
from tests.template.stack import PSEUDO, ROOT, Stack, listed

FUNCTIONS = [
    "Budget",
    "BudgetRelay",
    "Completion",
    "Curfew",
    "InstanceState",
    "Interruption",
    "Operator",
    "PublishLedger",
    "Reconcile",
    "Report",
    "Submit",
    "Webhook",
]


def losable_events(stack: Stack) -> list[str]:
    """Targets of rules and schedules, subscriptions and asynchronous invocations whose failures would vanish."""
    dead = "<DeadLetters.Arn>"
    targets = [(name, target) for name, rule in stack.of_type("AWS::Events::Rule").items() for target in rule["Targets"]]
    targets += [(name, schedule["Target"]) for name, schedule in stack.of_type("AWS::Scheduler::Schedule").items()]
    lost = [
        name
        for name, target in targets
        if target.get("DeadLetterConfig") != {"Arn": dead} or not {"MaximumRetryAttempts", "MaximumEventAgeInSeconds"} <= target.get("RetryPolicy", {}).keys()
    ]
    for name, subscription in stack.of_type("AWS::SNS::Subscription").items():
        if subscription["Protocol"] == "lambda" and subscription.get("RedrivePolicy") != {"deadLetterTargetArn": dead}:
            lost.append(name)
    safe = {
        config["FunctionName"]
        for config in stack.of_type("AWS::Lambda::EventInvokeConfig").values()
        if config.get("DestinationConfig") == {"OnFailure": {"Destination": dead}} and config.get("MaximumRetryAttempts") == 2
    }
    return lost + [name for name in stack.of_type("AWS::Lambda::Function") if f"<{name}>" not in safe]


def unnamed_callers(stack: Stack) -> list[str]:
    """Lambda permissions that do not say whose call they let in."""
    return [name for name, permission in stack.of_type("AWS::Lambda::Permission").items() if not permission.get("SourceArn")]


def open_to_plain_http(stack: Stack) -> list[str]:
    """Buckets, topics and queues without a policy that denies everybody who comes without TLS."""
    kinds = {
        "AWS::S3::Bucket": ("AWS::S3::BucketPolicy", "Bucket", "s3:*"),
        "AWS::SNS::Topic": ("AWS::SNS::TopicPolicy", "Topics", "sns:Publish"),
        "AWS::SQS::Queue": ("AWS::SQS::QueuePolicy", "Queues", "sqs:*"),
    }
    found = []
    for kind, (policy_kind, place, action) in kinds.items():
        guarded = {
            target
            for policy in stack.of_type(policy_kind).values()
            for target in listed(policy[place])
            if any(
                s["Effect"] == "Deny" and s["Principal"] == "*" and s["Action"] == action and s.get("Condition") == {"Bool": {"aws:SecureTransport": "false"}}
                for s in policy["PolicyDocument"]["Statement"]
            )
        }
        found += [name for name in stack.of_type(kind) if f"<{name}>" not in guarded]
    return found


def test_no_event_is_lost_in_silence() -> None:
    assert losable_events(Stack()) == []


def test_a_target_without_a_dead_letter_queue_or_retries_is_noticed() -> None:
    stack = Stack()
    del stack.raw("SubmitFunctionManifestChanged")["Targets"][0]["DeadLetterConfig"]
    del stack.raw("ReconcileFunctionTick")["Targets"][0]["RetryPolicy"]
    del stack.raw("BudgetRelayFunctionBudgetAlerted")["RedrivePolicy"]
    del stack.raw("PublishLedgerFunctionNoticePublished")["RedrivePolicy"]
    del stack.raw("CurfewFunctionRound")["Target"]["DeadLetterConfig"]
    del stack.raw("CompletionFunctionEventInvokeConfig")["DestinationConfig"]
    assert sorted(losable_events(stack)) == [
        "BudgetRelayFunctionBudgetAlerted",
        "CompletionFunction",
        "CurfewFunctionRound",
        "PublishLedgerFunctionNoticePublished",
        "ReconcileFunctionTick",
        "SubmitFunctionManifestChanged",
    ]


def test_the_dead_letter_queue_takes_from_rules_of_this_account_and_the_two_topics_only_and_keeps_two_weeks() -> None:
    policy = Stack().properties("DeadLettersPolicy")["PolicyDocument"]["Statement"]
    allows = [(s["Principal"], s["Action"], s["Condition"]) for s in policy if s["Effect"] == "Allow"]
    assert allows == [
        ({"Service": "events.amazonaws.com"}, "sqs:SendMessage", {"ArnLike": {"aws:SourceArn": "arn:aws:events:eu-west-1:111122223333:rule/*"}}),
        ({"Service": "sns.amazonaws.com"}, "sqs:SendMessage", {"ArnEquals": {"aws:SourceArn": ["<BudgetTopic>", "<Topic>"]}}),
    ]
    assert Stack().properties("DeadLetters")["MessageRetentionPeriod"] == 14 * 24 * 3600


def test_every_lambda_permission_names_its_source() -> None:
    assert unnamed_callers(Stack()) == []


def test_a_permission_without_its_source_is_noticed() -> None:
    stack = Stack()
    del stack.raw("SubmitFunctionManifestChangedPermission")["SourceArn"]
    assert unnamed_callers(stack) == ["SubmitFunctionManifestChangedPermission"]


def test_buckets_topics_and_the_queue_refuse_plain_http() -> None:
    assert open_to_plain_http(Stack()) == []


def test_a_bucket_without_its_tls_statement_is_noticed() -> None:
    stack = Stack()
    stack.raw("DataBucketPolicy")["PolicyDocument"]["Statement"][0]["Condition"] = {"Bool": {"aws:SecureTransport": "true"}}
    assert open_to_plain_http(stack) == ["DataBucket"]


@pytest.mark.parametrize("bucket", ["DataBucket", "OutputsBucket"])
def test_buckets_are_private_versioned_encrypted_told_of_and_kept(bucket: str) -> None:
    stack = Stack()
    properties = stack.properties(bucket)
    assert set(properties["PublicAccessBlockConfiguration"].values()) == {True}
    assert len(properties["PublicAccessBlockConfiguration"]) == 4
    assert properties["VersioningConfiguration"] == {"Status": "Enabled"}
    assert properties["BucketEncryption"]["ServerSideEncryptionConfiguration"] == [{"ServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]
    assert properties["OwnershipControls"] == {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}
    assert properties["NotificationConfiguration"] == {"EventBridgeConfiguration": {"EventBridgeEnabled": True}}
    assert any("AbortIncompleteMultipartUpload" in rule for rule in properties["LifecycleConfiguration"]["Rules"])


KEPT = {"DataBucket", "DataBucketPolicy", "JobTable", "OutputsBucket", "OutputsBucketPolicy", "Repository"}


def test_what_holds_a_users_work_and_what_guards_it_outlives_the_stack_and_nothing_else_does() -> None:
    resources = Stack().template["Resources"]
    policies = {name: (resource["DeletionPolicy"], resource["UpdateReplacePolicy"]) for name, resource in resources.items() if "DeletionPolicy" in resource}
    assert policies == dict.fromkeys(KEPT, ("RetainExceptOnCreate", "Retain"))
    page = (ROOT / "docs/operations.md").read_text()
    table = page[page.index("| stays |") : page.index("## Delete everything")]
    assert set(re.findall(r"`(\w+)`", table)) == KEPT


def test_no_lifecycle_rule_ever_removes_a_current_object_but_tickets_and_what_is_tagged_a_checkpoint() -> None:
    stack = Stack(parameters={"CheckpointDays": "91"})
    rules = [rule for bucket in stack.of_type("AWS::S3::Bucket").values() for rule in bucket["LifecycleConfiguration"]["Rules"]]
    expiring = {rule["Prefix"]: rule for rule in rules if "ExpirationInDays" in rule}
    assert expiring.keys() == {"tickets/", "runs/"}
    assert expiring["runs/"]["TagFilters"] == [{"Key": "dropforge:kind", "Value": "checkpoint"}]
    assert expiring["runs/"]["ExpirationInDays"] == "91"
    assert "dropforge%3Akind=checkpoint" in (ROOT / "agent/store.py").read_text()


def test_no_checkpoint_and_no_ticket_expires_while_its_job_may_live() -> None:
    youngest_days = Stack().template["Parameters"]["CheckpointDays"]["MinValue"]
    with pytest.raises(ValidationError, match="less than or equal"):
        TypeAdapter(Duration).validate_python(f"{youngest_days}d")
    rules = Stack().properties("DataBucket")["LifecycleConfiguration"]["Rules"]
    assert next(rule["ExpirationInDays"] for rule in rules if rule["Id"] == "forget-tickets") > youngest_days


def test_old_runs_move_to_a_class_that_is_read_at_once() -> None:
    rules = Stack().properties("OutputsBucket")["LifecycleConfiguration"]["Rules"]
    assert [rule["Transitions"] for rule in rules if "Transitions" in rule] == [[{"StorageClass": "GLACIER_IR", "TransitionInDays": "120"}]]


def test_a_tag_is_one_image_for_ever_but_for_latest_and_every_push_is_scanned() -> None:
    stack = Stack()
    repository = stack.properties("Repository")
    assert repository["ImageTagMutability"] == "IMMUTABLE_WITH_EXCLUSION"
    assert [f["ImageTagMutabilityExclusionFilterValue"] for f in repository["ImageTagMutabilityExclusionFilters"]] == ["latest", "latest-agent"]
    assert repository["ImageScanningConfiguration"] == {"ScanOnPush": True}
    rules = json.loads(repository["LifecyclePolicy"]["LifecyclePolicyText"])["rules"]
    assert [rule["selection"]["tagStatus"] for rule in rules] == ["untagged", "any"]
    assert "RepositoryName" not in repository, "a fixed name would be taken by the account's other stack"


@pytest.mark.parametrize(("zones", "subnets"), [("1", ["<SubnetA>"]), ("3", ["<SubnetA>", "<SubnetB>", "<SubnetC>"])])
def test_private_endpoints_are_in_every_zone_reached_only_by_instances_and_only_on_request(zones: str, subnets: list[str]) -> None:
    assert not Stack().holds({"Condition": "MakesEndpoints"})
    stack = Stack(parameters={"InterfaceEndpoints": "yes", "ZoneCount": zones})
    made = [e for e in stack.of_type("AWS::EC2::VPCEndpoint").values() if e["VpcEndpointType"] == "Interface"]
    assert [endpoint["ServiceName"].rpartition("eu-west-1.")[2] for endpoint in made] == ["ecr.api", "ecr.dkr", "logs"]
    assert all(e["SubnetIds"] == subnets and e["PrivateDnsEnabled"] and e["SecurityGroupIds"] == ["<EndpointSecurityGroup.GroupId>"] for e in made)
    (rule,) = stack.properties("EndpointSecurityGroup")["SecurityGroupIngress"]
    assert (rule["FromPort"], rule["ToPort"], rule["SourceSecurityGroupId"]) == (443, 443, "<InstanceSecurityGroup.GroupId>")


def test_a_marker_is_written_once_and_stays() -> None:
    policy = Stack().properties("OutputsBucketPolicy")["PolicyDocument"]["Statement"]
    denies = {s["Sid"]: (s["Action"], s["Resource"], s.get("Condition")) for s in policy if s["Effect"] == "Deny" and s["Principal"] == "*"}
    marker = "<OutputsBucket.Arn>/*/completion.json"
    assert denies["MarkerIsWrittenOnce"] == ("s3:PutObject", marker, {"Null": {"s3:if-none-match": "true"}})
    assert denies["MarkerStays"] == (["s3:DeleteObject", "s3:DeleteObjectVersion"], marker, None)


def test_the_job_table_has_the_keys_that_the_store_uses_and_can_be_restored() -> None:
    table = Stack(parameters={"DeletionProtection": "true"}).properties("JobTable")
    assert table["KeySchema"] == [{"AttributeName": "pk", "KeyType": "HASH"}]
    (index,) = table["GlobalSecondaryIndexes"]
    assert (index["IndexName"], index["Projection"]) == ("open", {"ProjectionType": "KEYS_ONLY"})
    assert [key["AttributeName"] for key in index["KeySchema"]] == ["open", "place"]
    assert table["TimeToLiveSpecification"] == {"AttributeName": "expires_at", "Enabled": True}
    assert table["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    assert (table["BillingMode"], table["DeletionProtectionEnabled"]) == ("PAY_PER_REQUEST", "true")


def test_every_log_group_forgets() -> None:
    groups = Stack(parameters={"LogRetentionDays": "7"}).of_type("AWS::Logs::LogGroup")
    assert {group["RetentionInDays"] for group in groups.values()} == {"7"}
    assert len(groups) == len(FUNCTIONS) + 1


def test_every_function_logs_to_its_own_group_which_its_role_may_write() -> None:
    stack = Stack()
    prefix = next(s["Resource"] for s in stack.properties("FunctionPolicy")["PolicyDocument"]["Statement"] if s["Sid"] == "WriteLogs")
    for name in FUNCTIONS:
        assert stack.properties(f"{name}Function")["LoggingConfig"] == {"LogGroup": f"<{name}Logs>", "LogFormat": "JSON"}
        assert prefix.rpartition(":log-group:")[2].rstrip("*") in stack.properties(f"{name}Logs")["LogGroupName"]


def test_the_functions_are_there_traced_small_and_without_reserved_concurrency() -> None:
    functions, few = (Stack(parameters={"Watch": watch}).of_type("AWS::Lambda::Function") for watch in ("all", "few"))
    assert sorted(functions) == [f"{name}Function" for name in FUNCTIONS]
    for name, function in functions.items():
        # The tick drives many jobs side by side: one whole processor.
        memory_mib = 1769 if name == "ReconcileFunction" else 512
        assert (function["Runtime"], function["Architectures"], function["MemorySize"]) == ("python3.13", ["arm64"], memory_mib)
        assert function["TracingConfig"] == {"Mode": "Active"}
        assert few[name]["TracingConfig"] == {"Mode": "PassThrough"}, "a trace is billed"
        assert "ReservedConcurrentExecutions" not in function


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_handler_is_there(name: str) -> None:
    module, _, attribute = Stack().properties(f"{name}Function")["Handler"].rpartition(".")
    assert callable(getattr(importlib.import_module(module), attribute))


def test_the_environment_is_complete_documented_and_the_code_reads_it() -> None:
    documented = re.search(r"## Environment of the functions\n(.*?)(\n## |\Z)", (ROOT / "docs/architecture.md").read_text(), re.DOTALL)
    assert documented
    names = set(re.findall(r"`([A-Z][A-Z_]+)`", documented.group(1)))
    for name, function in Stack().of_type("AWS::Lambda::Function").items():
        variables = function["Environment"]["Variables"]
        assert set(variables) == (names if name == "WebhookFunction" else names - {"WEBHOOK_PARAMETER"})
        assert settings_from({key: str(value) for key, value in variables.items()}).subnet_ids == ("<SubnetA>", "<SubnetB>", "<SubnetC>")
        assert variables["LAUNCH_TEMPLATE_VERSION"] == "<LaunchTemplate.LatestVersionNumber>"
        assert variables["INSTANCE_ROLE_ID"] == "<InstanceRole.RoleId>"


@pytest.mark.parametrize(
    ("parameters", "subnets"),
    [
        ({"ZoneCount": "1"}, "<SubnetA>"),
        ({"ZoneCount": "2"}, "<SubnetA>,<SubnetB>"),
        ({"ZoneCount": "3"}, "<SubnetA>,<SubnetB>,<SubnetC>"),
        ({"VpcId": "vpc-0123456789abcdef0", "SubnetIds": "subnet-0a,subnet-0b"}, "subnet-0a,subnet-0b"),
    ],
)
def test_the_subnets_are_those_made_or_those_given(parameters: dict[str, str], subnets: str) -> None:
    function = Stack(parameters=parameters).properties("SubmitFunction")
    assert function["Environment"]["Variables"]["SUBNET_IDS"] == subnets


def test_the_budget_speaks_to_its_topic_at_four_thresholds_once_the_topic_lets_it() -> None:
    stack = Stack(parameters={"MonthlyCapUsd": "42", "BudgetScope": "project"})
    budget = stack.properties("MonthlyBudget")
    heard = [(n["Notification"]["NotificationType"], n["Notification"]["Threshold"], n["Subscribers"]) for n in budget["NotificationsWithSubscribers"]]
    to_topic = [{"SubscriptionType": "SNS", "Address": "<BudgetTopic>"}]
    assert heard == [("ACTUAL", 50, to_topic), ("ACTUAL", 80, to_topic), ("ACTUAL", 100, to_topic), ("FORECASTED", 100, to_topic)]
    assert budget["Budget"]["BudgetLimit"] == {"Amount": "42", "Unit": "USD"}
    assert budget["Budget"]["CostFilters"] == {"TagKeyValue": ["user:dropforge:project$dropforge"]}
    assert "CostFilters" not in Stack().properties("MonthlyBudget")["Budget"]
    assert stack.template["Resources"]["MonthlyBudget"]["DependsOn"] == "BudgetTopicPolicy"
    grant = stack.properties("BudgetTopicPolicy")["PolicyDocument"]["Statement"][0]
    assert grant["Principal"] == {"Service": "budgets.amazonaws.com"}
    assert grant["Condition"]["StringEquals"] == {"aws:SourceAccount": PSEUDO["AWS::AccountId"]}


def test_an_email_is_subscribed_only_when_one_is_given() -> None:
    assert Stack().template["Resources"]["EmailSubscription"]["Condition"] == "HasEmail"
    assert not Stack().holds({"Condition": "HasEmail"})
    assert Stack(parameters={"NotificationEmail": "you@example.com"}).holds({"Condition": "HasEmail"})


def test_the_webhook_is_there_only_when_one_is_named_and_the_template_never_holds_its_address() -> None:
    resources = Stack().template["Resources"]
    of_it = {name: resource.get("Condition") for name, resource in resources.items() if "Webhook" in name}
    assert set(of_it.values()) == {"HasWebhook"}
    assert {"WebhookRole", "WebhookFunction", "WebhookErrorsAlarm", "WebhookFunctionNoticePublished", "WebhookFunctionEventInvokeConfig"} <= of_it.keys()
    others = json.dumps({name: resource for name, resource in resources.items() if name not in of_it})
    assert "WebhookFunction" not in others, "what is always there may not name what is not"
    assert not Stack().holds({"Condition": "HasWebhook"})
    stack = Stack(parameters={"WebhookParameter": "/ours/webhook"})
    assert stack.holds({"Condition": "HasWebhook"})
    assert stack.properties("WebhookFunction")["Environment"]["Variables"]["WEBHOOK_PARAMETER"] == "/ours/webhook"
    (policy,) = stack.properties("WebhookRole")["Policies"]
    (rule,) = policy["PolicyDocument"]["Statement"]
    assert rule["Resource"] == "arn:aws:ssm:eu-west-1:111122223333:parameter/ours/webhook"


def test_the_source_uses_no_yaml_anchor_which_cloudformation_refuses() -> None:
    tokens = yaml.scan((ROOT / "template.yaml").read_text())
    assert not [token for token in tokens if isinstance(token, yaml.AnchorToken | yaml.AliasToken)]


def test_the_functions_bundle_is_pinned_whole() -> None:
    lines = [line for line in (ROOT / "functions/requirements.txt").read_text().splitlines() if line and not line.startswith("#")]
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+(\[[a-z]+\])?==[0-9][0-9a-z.]*", line)] == []
    local = (ROOT / "requirements/lambda.txt").read_text().splitlines()
    assert "-r ../functions/requirements.txt" in local
    assert any(line.startswith("awslambdaric==") for line in local)
