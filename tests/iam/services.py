"""What AWS's own services ask for on the stack's behalf, read off the translated template: no line of ours makes these calls.

In a role of the stack: Lambda for a function's logs, traces and failed events, Scheduler for its target, Docker for the push.
As themselves, by the policy of what they reach: rules and topics that wake functions or put letters aside, alarms and budgets that speak.
"""

from collections.abc import Iterator
from typing import Any

from dropforge.local.iam.policies import Request
from tests.iam.hearing import Hearing
from tests.iam.instances import LOGS
from tests.iam.site import ACCOUNT, REGION, Site

#: ECR guide, "Required IAM permissions for pushing an image"; amazon-ecr-login signs in.
PUSH = (
    *("ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:CompleteLayerUpload"),
    *("ecr:InitiateLayerUpload", "ecr:PutImage", "ecr:UploadLayerPart"),
)
_TLS = {"aws:SecureTransport": "true", "aws:SourceAccount": ACCOUNT}


def in_roles_of_the_stack(hearing: Hearing) -> None:
    """Lambda, Scheduler and the push workflow, each with the role that the template gives it."""
    site = hearing.site
    for name, function in site.stack.of_type("AWS::Lambda::Function").items():
        hearing.note(_role(function["Role"]), _of_function(site, name, function))
    for schedule in site.stack.of_type("AWS::Scheduler::Schedule").values():
        target = site.shaped(schedule["Target"])
        role = _role(schedule["Target"]["RoleArn"])
        hearing.note(role, [Request("lambda:InvokeFunction", target["Arn"]), Request("sqs:SendMessage", target["DeadLetterConfig"]["Arn"], _TLS)])
    hearing.note("PushImageRole", [Request("ecr:GetAuthorizationToken", "*"), *(Request(action, site.arn("Repository")) for action in PUSH)])


def _role(reference: str) -> str:
    return reference.strip("<>").removesuffix(".Arn")


def _of_function(site: Site, name: str, function: dict[str, Any]) -> Iterator[Request]:
    """Lambda guide: "Sending logs to CloudWatch", "Visualize Lambda function invocations using X-Ray", "Adding a destination"."""
    group = site.stack.properties(_role(function["LoggingConfig"]["LogGroup"]))["LogGroupName"]
    for action in LOGS:
        yield Request(f"logs:{action}", f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{group}:log-stream:2026/11/25/[$LATEST]0123456789abcdef")
    if function["TracingConfig"] == {"Mode": "Active"}:
        yield Request("xray:PutTraceSegments", "*")
        yield Request("xray:PutTelemetryRecords", "*")
    for config in site.stack.of_type("AWS::Lambda::EventInvokeConfig").values():
        if _role(config["FunctionName"]) == name:
            yield Request("sqs:SendMessage", site.shaped(config["DestinationConfig"]["OnFailure"]["Destination"]), _TLS)


def as_themselves(hearing: Hearing) -> None:
    """Each rule, subscription, alarm and the budget, with the source that AWS names for it."""
    site = hearing.site
    for name, rule in site.stack.of_type("AWS::Events::Rule").items():
        source = _TLS | {"aws:SourceArn": f"arn:aws:events:{REGION}:{ACCOUNT}:rule/{site.physical(name)}"}
        for target in site.shaped(rule["Targets"]):
            hearing.note_service("events.amazonaws.com", Request("lambda:InvokeFunction", target["Arn"], source))
            hearing.note_service("events.amazonaws.com", Request("sqs:SendMessage", target["DeadLetterConfig"]["Arn"], source))
    for subscription in site.stack.of_type("AWS::SNS::Subscription").values():
        if subscription["Protocol"] == "lambda":
            given = site.shaped(subscription)
            source = _TLS | {"aws:SourceArn": given["TopicArn"]}
            hearing.note_service("sns.amazonaws.com", Request("lambda:InvokeFunction", given["Endpoint"], source))
            hearing.note_service("sns.amazonaws.com", Request("sqs:SendMessage", given["RedrivePolicy"]["deadLetterTargetArn"], source))
    for name, alarm in site.stack.of_type("AWS::CloudWatch::Alarm").items():
        source = _TLS | {"aws:SourceArn": f"arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:{site.physical(name)}"}
        for topic in site.shaped(alarm["AlarmActions"]):
            hearing.note_service("cloudwatch.amazonaws.com", Request("sns:Publish", topic, source))
    for budget in site.stack.of_type("AWS::Budgets::Budget").values():
        source = _TLS | {"aws:SourceArn": f"arn:aws:budgets::{ACCOUNT}:budget/{budget['Budget']['BudgetName']}"}
        for entry in budget["NotificationsWithSubscribers"]:
            for subscriber in entry["Subscribers"]:
                hearing.note_service("budgets.amazonaws.com", Request("sns:Publish", site.shaped(subscriber["Address"]), source))
