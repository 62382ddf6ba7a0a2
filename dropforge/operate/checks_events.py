"""Checks on what carries events to functions: bucket notifications, rules, schedules, functions, the dead-letter queue, alarms."""

import json
import shlex
from collections.abc import Iterator
from typing import Any

from dropforge.operate.findings import Check, Finding, broken, ok, warning
from dropforge.stack import Deployment, Resource

#: What every function is told (docs/architecture.md, "Environment of the functions"); a test holds this to what the functions read.
SETTINGS = (
    *("PROJECT", "TABLE_NAME", "DATA_BUCKET", "OUTPUTS_BUCKET", "TOPIC_ARN", "INSTANCE_ROLE_ID", "LAUNCH_TEMPLATE_ID", "LAUNCH_TEMPLATE_VERSION"),
    *("SUBNET_IDS", "HEARTBEAT_SECONDS", "NOTICE_SECONDS", "STRAY_GRACE_SECONDS", "MAX_CONCURRENT_JOBS", "BUDGET_ACTION"),
    *("MONTHLY_CAP_USD", "VOLUME_GIB"),
)
#: Buckets whose objects wake a function.
SPEAKING_BUCKETS = ("DataBucket", "OutputsBucket")


def buckets(stack: Deployment) -> Iterator[Finding]:
    """Without the notification S3 is silent: no manifest is seen, and a marker only by the tick."""
    silent = []
    for logical_id in SPEAKING_BUCKETS:
        bucket = stack.physical_id(logical_id)
        if "EventBridgeConfiguration" not in stack.client("s3").get_bucket_notification_configuration(Bucket=bucket):
            silent.append(bucket)
    for bucket in silent:
        mend = f"""aws s3api put-bucket-notification-configuration --bucket {bucket} --notification-configuration '{{"EventBridgeConfiguration": {{}}}}'"""
        yield broken("buckets", f"{bucket} does not tell EventBridge of its objects: what is put there is not noticed.", mend)
    if not silent:
        yield ok("buckets", "Both buckets tell EventBridge of their objects.")


def rules(stack: Deployment) -> Iterator[Finding]:
    """Every rule on, with a target."""
    events, found, well = stack.client("events"), stack.of_kind("AWS::Events::Rule"), True
    for rule in found:
        name = rule.physical_id.rsplit("/", 1)[-1]
        if events.describe_rule(Name=name)["State"] == "DISABLED":
            well = False
            yield broken("rules", f"{rule.logical_id} is disabled: its events are not heard.", f"aws events enable-rule --name {name}")
        elif not events.list_targets_by_rule(Rule=name)["Targets"]:
            well = False
            yield broken(
                "rules", f"{rule.logical_id} has no target: its events go nowhere.", f"aws events put-targets --rule {name} --targets {_target(stack, rule)}"
            )
    if well:
        yield ok("rules", f"All {len(found)} rules are on and have their targets.")


def _target(stack: Deployment, rule: Resource) -> str:
    """The target that SAM gave the rule, quoted for a shell; SAM names a function's rule ``<function><event>``."""
    arn = next((facts["FunctionArn"] for logical_id, facts in stack.functions.items() if rule.logical_id.startswith(logical_id)), "FUNCTION-ARN")
    queue = stack.physical_id("DeadLetters").rsplit("/", 1)[-1]
    letters_arn = f"arn:{stack.partition}:sqs:{stack.region}:{stack.account_id}:{queue}"
    return shlex.quote(json.dumps([{"Id": f"{rule.logical_id}LambdaTarget", "Arn": arn, "DeadLetterConfig": {"Arn": letters_arn}}]))


def schedules(stack: Deployment) -> Iterator[Finding]:
    """Schedules of EventBridge Scheduler, where the stack has any (the tick may be one, or a rule)."""
    found, well = stack.of_kind("AWS::Scheduler::Schedule"), True
    for schedule in found:
        # The physical id is the name, or GROUP|NAME or an ARN that ends in GROUP/NAME.
        group, _, name = schedule.physical_id.replace("|", "/").rpartition("/")
        asked = {"Name": name} | ({"GroupName": group.rsplit("/", 1)[-1]} if group else {})
        facts = stack.client("scheduler").get_schedule(**asked)
        if facts["State"] != "ENABLED":
            well = False
            yield broken("schedules", f"{schedule.logical_id} is disabled: what it should start does not run.", _enable(facts))
    if found and well:
        yield ok("schedules", f"All {len(found)} schedules are on.")


def _enable(facts: dict[str, Any]) -> str:
    """UpdateSchedule replaces the whole schedule (its API reference), so everything that it has is said again."""
    said = {"name": facts["Name"], "group-name": facts.get("GroupName", "default"), "state": "ENABLED", "schedule-expression": facts["ScheduleExpression"]}
    said |= {"flexible-time-window": json.dumps(facts["FlexibleTimeWindow"]), "target": json.dumps(facts["Target"])}
    return "aws scheduler update-schedule " + " ".join(f"--{key} {shlex.quote(value)}" for key, value in said.items())


def functions(stack: Deployment) -> Iterator[Finding]:
    """Active, not throttled to nothing, and told everything that they read at their start."""
    client, well = stack.client("lambda"), True
    for logical_id in sorted({function.logical_id for function in stack.of_kind("AWS::Lambda::Function")} - stack.functions.keys()):
        well = False
        yield broken(
            "functions",
            f"{logical_id} is gone, somebody deleted it by hand: what it does is not done.",
            f"aws cloudformation detect-stack-drift --stack-name {stack.name}",
        )
    for logical_id, facts in stack.functions.items():
        name = facts["FunctionName"]
        variables = facts.get("Environment", {}).get("Variables", {})
        missing = [setting for setting in SETTINGS if not variables.get(setting)]
        if missing:
            well = False
            yield broken(
                "functions",
                f"{logical_id} is not told {', '.join(missing)}: it fails at its start. Deploy again; what was changed by hand must be put back by hand.",
                f"sam build && sam deploy --stack-name {stack.name}",
            )
        if "Failed" in (facts.get("State"), facts.get("LastUpdateStatus")):
            well = False
            why = facts.get("StateReason") or facts.get("LastUpdateStatusReason") or "no reason given"
            yield broken("functions", f"{logical_id} cannot run ({facts.get('State')}): {why}", f"sam build && sam deploy --stack-name {stack.name}")
        if client.get_function_concurrency(FunctionName=name).get("ReservedConcurrentExecutions") == 0:
            well = False
            yield broken(
                "functions",
                f"{logical_id} may not run at all: somebody set its concurrency to 0.",
                f"aws lambda delete-function-concurrency --function-name {name}",
            )
    if well:
        yield ok("functions", f"All {len(stack.functions)} functions are active and have their settings.")


def letters(stack: Deployment) -> Iterator[Finding]:
    """The dead-letter queue: an event in it was handled by nobody, and a manifest's event has no second chance."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible", "ApproximateNumberOfMessagesDelayed"]
    attributes = stack.client("sqs").get_queue_attributes(QueueUrl=stack.physical_id("DeadLetters"), AttributeNames=names)["Attributes"]
    count = sum(int(attributes.get(name, 0)) for name in names)
    if count:
        yield broken(
            "dead letters",
            f"About {count} event(s) were handled by nobody. Look at them, mend the cause, send them again.",
            f"dropforge redrive --stack {stack.name} --dry-run",
        )
    else:
        yield ok("dead letters", "The queue is empty.")


def alarms(stack: Deployment) -> Iterator[Finding]:
    found = [alarm.physical_id for alarm in stack.of_kind("AWS::CloudWatch::Alarm")]
    if not found:
        yield warning("alarms", "This stack has no alarms: nobody is told when its functions fail.", f"sam build && sam deploy --stack-name {stack.name}")
        return
    described = []
    for start in range(0, len(found), 100):
        described += stack.client("cloudwatch").describe_alarms(AlarmNames=found[start : start + 100])["MetricAlarms"]
    history = "aws cloudwatch describe-alarm-history --alarm-name {}"
    for alarm in described:
        if alarm["StateValue"] == "ALARM":
            yield broken(
                "alarms", f"{alarm['AlarmName']} rings: {alarm.get('AlarmDescription') or alarm.get('StateReason', '')}", history.format(alarm["AlarmName"])
            )
        elif not alarm.get("ActionsEnabled", True):
            yield warning("alarms", f"{alarm['AlarmName']} is muted.", f"aws cloudwatch enable-alarm-actions --alarm-names {alarm['AlarmName']}")
    if len(described) < len(found):
        yield broken(
            "alarms",
            f"{len(found) - len(described)} alarm(s) of the stack were removed by hand.",
            f"aws cloudformation detect-stack-drift --stack-name {stack.name}",
        )
    elif all(alarm["StateValue"] != "ALARM" and alarm.get("ActionsEnabled", True) for alarm in described):
        yield ok("alarms", f"None of {len(found)} alarms rings.")


CHECKS = (
    Check("buckets", buckets),
    Check("rules", rules),
    Check("schedules", schedules),
    Check("functions", functions),
    Check("dead letters", letters),
    Check("alarms", alarms),
)
