"""Checks on who hears and what it costs: the e-mail topic, the budget, the hold, instances past their time."""

import json
import shlex
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from dropforge.operate import instances as running
from dropforge.operate.findings import Check, Finding, broken, ok, unknown, warning
from dropforge.operate.hold import stored_hold
from dropforge.stack import Deployment
from jobspec import tags

#: The instance's own timer ends it, and the tick after it; later than this, neither did.
OVERDUE = timedelta(minutes=10)
#: Protocols that reach a person, or whatever a person put in between.
HEARD = frozenset({"email", "email-json", "sms", "https", "http"})


def email(stack: Deployment) -> Iterator[Finding]:
    """An unconfirmed subscription drops every message, and nothing else shows it (SNS guide, "Confirm the subscription")."""
    topic = stack.physical_id("Topic")
    pages = stack.client("sns").get_paginator("list_subscriptions_by_topic").paginate(TopicArn=topic)
    hearers = [item for page in pages for item in page["Subscriptions"] if item["Protocol"] in HEARD and item["SubscriptionArn"] != "Deleted"]
    again = f"aws sns subscribe --topic-arn {topic} --protocol {{}} --notification-endpoint {{}}"
    pending = [item for item in hearers if item["SubscriptionArn"] == "PendingConfirmation"]
    for item in pending:
        yield broken(
            "e-mail",
            f"{item['Endpoint']} never confirmed the subscription, so every message to it is dropped. Follow the link in the mail from AWS, "
            "or have it sent again.",
            again.format(item["Protocol"], item["Endpoint"]),
        )
    if len(hearers) > len(pending):
        yield ok("e-mail", f"{', '.join(item['Endpoint'] for item in hearers if item not in pending)} will hear how jobs end.")
    elif not pending:
        yield warning("e-mail", "Nobody is subscribed: jobs end without a word.", again.format("email", "YOU@EXAMPLE.COM"))


def budget(stack: Deployment) -> Iterator[Finding]:
    """The way from AWS Budgets to the hold: a budget, its notifications, the topic's policy, the relay function."""
    name, topic = stack.physical_id("MonthlyBudget"), stack.physical_id("BudgetTopic")
    budgets, of_budget = stack.client("budgets"), {"AccountId": stack.account_id, "BudgetName": name}
    limit = budgets.describe_budget(**of_budget)["Budget"].get("BudgetLimit", {})
    notifications = budgets.describe_notifications_for_budget(**of_budget)["Notifications"]
    told: list[dict[str, Any]] = []
    for notification in notifications:
        asked = {key: notification[key] for key in SPENT if key in notification}
        subscribers = budgets.describe_subscribers_for_notification(**of_budget, Notification=asked)["Subscribers"]
        if any(subscriber["Address"] == topic for subscriber in subscribers):
            told.append(notification)
    full = [item for item in notifications if _is_spent_alert(item)]
    if not any(_is_spent_alert(item) for item in told):
        said = f"--account-id {stack.account_id} --budget-name {name} --notification {_notification(full[0] if full else SPENT)}"
        verb, to = ("create-subscriber", "--subscriber") if full else ("create-notification", "--subscribers")
        mend = f"aws budgets {verb} {said} {to} SubscriptionType=SNS,Address={topic}"
        yield broken("budget", f"{name} tells the stack nothing when it is spent: no such notification of it reaches {topic}.", mend)
        return
    policy = json.loads(stack.client("sns").get_topic_attributes(TopicArn=topic)["Attributes"].get("Policy", "{}"))
    if not _lets_budgets_publish(policy):
        value = shlex.quote(json.dumps(policy | {"Statement": [*policy.get("Statement", []), _publishing(stack, topic)]}))
        mend = f"aws sns set-topic-attributes --topic-arn {topic} --attribute-name Policy --attribute-value {value}"
        yield broken("budget", f"AWS Budgets may not publish to {topic}: its alerts are lost without an error.", mend)
        return
    pages = stack.client("sns").get_paginator("list_subscriptions_by_topic").paginate(TopicArn=topic)
    if not any(item["Protocol"] == "lambda" for page in pages for item in page["Subscriptions"]):
        relay = stack.functions.get("BudgetRelayFunction", {}).get("FunctionArn", "FUNCTION-ARN")
        mend = f"aws sns subscribe --topic-arn {topic} --protocol lambda --notification-endpoint {relay}"
        yield broken("budget", f"No function listens to {topic}: a spent budget pauses nothing.", mend)
        return
    spent = [item for item in told if item.get("NotificationState") == "ALARM" and _is_spent_alert(item)]
    amount = f"{limit.get('Amount', '?')} {limit.get('Unit', '')} a month".replace("  ", " ")
    if spent:
        yield warning("budget", f"{name} ({amount}) is spent.", f"aws budgets describe-budget --account-id {stack.account_id} --budget-name {name}")
    else:
        yield ok("budget", f"{name}: {amount}, {len(told)} alert(s) reach the stack, hours late by their nature.")


#: The alert that the hold waits for, as template.yaml orders it.
SPENT = {"NotificationType": "ACTUAL", "ComparisonOperator": "GREATER_THAN", "Threshold": 100, "ThresholdType": "PERCENTAGE"}


def _is_spent_alert(notification: dict[str, Any]) -> bool:
    kind, unit = notification["NotificationType"], notification.get("ThresholdType", "PERCENTAGE")
    return kind == "ACTUAL" and unit == "PERCENTAGE" and float(notification["Threshold"]) >= 100


def _notification(notification: dict[str, Any]) -> str:
    """In the command line's short form."""
    return ",".join(f"{key}={notification[key]:g}" if key == "Threshold" else f"{key}={notification[key]}" for key in SPENT if key in notification)


def _publishing(stack: Deployment, topic: str) -> dict[str, Any]:
    """The statement of template.yaml's BudgetTopicPolicy."""
    source = {"StringEquals": {"aws:SourceAccount": stack.account_id}, "ArnLike": {"aws:SourceArn": f"arn:{stack.partition}:budgets::{stack.account_id}:*"}}
    return {"Effect": "Allow", "Principal": {"Service": "budgets.amazonaws.com"}, "Action": "sns:Publish", "Resource": topic, "Condition": source}


def _lets_budgets_publish(policy: dict[str, Any]) -> bool:
    for statement in policy.get("Statement", []):
        principal = statement.get("Principal")
        services = principal.get("Service", []) if isinstance(principal, dict) else []
        if statement.get("Effect") == "Allow" and "budgets.amazonaws.com" in ([services] if isinstance(services, str) else services):
            return True
    return False


def hold(stack: Deployment) -> Iterator[Finding]:
    held = stored_hold(stack)
    if held is not None and held.holds_at(datetime.now(UTC)):
        until = f" until {held.until:%Y-%m-%d %H:%M} UTC" if held.until else ""
        yield warning("hold", f"New launches are held{until}, since {held.since:%Y-%m-%d %H:%M} UTC: {held.reason}", f"dropforge resume --stack {stack.name}")
    else:
        yield ok("hold", "New launches are not held.")


def instances(stack: Deployment) -> Iterator[Finding]:
    seen, now = running.look(stack), datetime.now(UTC)
    late: dict[str, list[str]] = {}
    for instance in seen.live:
        deadline = tags.deadline_of(instance.tags)
        if deadline is None or now - deadline > OVERDUE:
            late.setdefault(instance.region, []).append(instance.instance_id)
    for region, ids in late.items():
        yield broken(
            "instances",
            f"{len(ids)} of {len(seen.live)} instance(s) outlived the deadline in their own tags, or have none: {', '.join(ids)}.",
            f"aws ec2 terminate-instances --region {region} --instance-ids {' '.join(ids)}",
        )
    for region, why in seen.unread.items():
        yield unknown("instances", f"What lives in {region} could not be looked at: {why}")
    if not late:
        where = f" in {', '.join(region for region in stack.regions if region not in seen.unread)}" if stack.peers else ""
        yield ok("instances", f"{len(seen.live)} live{where}, none past its deadline.")


#: Whom GitHub's tokens must be made out to (IAM guide, "Create an OpenID Connect identity provider").
AUDIENCE = "sts.amazonaws.com"


def github(stack: Deployment) -> Iterator[Finding]:
    """Whether GitHub's workflows can push and deploy, where the stack was told of a repository."""
    repository = stack.parameters.get("GitHubRepository", "")
    if not repository:
        yield ok("github", "No GitHub repository is connected: image and stack are pushed and deployed by hand.")
        return
    own = next((item.physical_id for item in stack.of_kind("AWS::IAM::OIDCProvider")), "")
    arn = stack.parameters.get("GitHubOidcProviderArn") or own
    provider = stack.client("iam").get_open_id_connect_provider(OpenIDConnectProviderArn=arn)
    if AUDIENCE not in provider.get("ClientIDList", []):
        mend = f"aws iam add-client-id-to-open-id-connect-provider --open-id-connect-provider-arn {arn} --client-id {AUDIENCE}"
        yield broken("github", f"The identity provider {arn} does not take tokens for {AUDIENCE}: workflows of {repository} cannot sign in.", mend)
    else:
        yield ok("github", f"Workflows of {repository} can sign in, each to the role that its branch or environment allows.")


CHECKS = (Check("e-mail", email), Check("budget", budget), Check("hold", hold), Check("instances", instances), Check("github", github))
