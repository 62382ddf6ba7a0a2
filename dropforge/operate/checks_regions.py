"""Checks on the stack's other regions: that a stack of region.yaml stands there, and all that a launch there needs."""

import json
import shlex
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from botocore.exceptions import ClientError

from dropforge.operate.checks_launching import launch, quotas
from dropforge.operate.checks_network import routes, zones
from dropforge.operate.findings import Check, Finding, broken, ok, warning
from dropforge.operate.places import Place, home_of, peer_of
from dropforge.stack import Deployment

#: What the rule of region.yaml forwards: all that the home region's functions hear of instances.
FORWARDED = {
    "source": ["aws.ec2"],
    "detail-type": ["EC2 Spot Instance Interruption Warning", "EC2 Instance Rebalance Recommendation", "EC2 Instance State-change Notification"],
}


def forward(place: Place) -> Iterator[Finding]:
    """The rule that tells the home region's bus what EC2 says of instances: there, on, of these events, with that bus for a target."""
    name, home = place.forward_rule, place.stack.region
    if not name:
        yield warning("forward", f"its stack does not say which rule tells {home} of its instances: it is older than this command.", "sam deploy")
        return
    client = place.client("events")
    try:
        rule = dict(client.describe_rule(Name=name))
    except client.exceptions.ResourceNotFoundException:
        rule = {}
    trouble = _rule_trouble(rule)
    if trouble:
        yield broken("forward", f"rule {name} {trouble}: {_UNHEARD}", f"aws events {_switched_on(name, rule)}")
    targets = client.list_targets_by_rule(Rule=name)["Targets"] if rule else []
    bus = f"arn:{place.stack.partition}:events:{home}:{place.stack.account_id}:event-bus/default"
    # Another region's bus is only spoken to with a role (EventBridge user guide, "Sending and receiving events between AWS Regions").
    if not any(target["Arn"] == bus and target.get("RoleArn") for target in targets):
        target = shlex.quote(json.dumps([{"Id": "home", "Arn": bus, "RoleArn": place.forward_role_arn}]))
        yield broken("forward", f"rule {name} does not send to the bus of {home}: {_UNHEARD}", f"aws events put-targets --rule {name} --targets {target}")
    elif not trouble:
        yield ok("forward", f"what EC2 says of instances there is told to {home}.")


_UNHEARD = "an instance that is taken back there is noticed only by the tick, up to minutes late."


def _rule_trouble(rule: dict[str, Any]) -> str:
    """What is wrong with the rule itself; empty where nothing is."""
    if not rule:
        return "is gone, somebody removed it"
    if rule["State"] == "DISABLED":
        return "is disabled"
    pattern = json.loads(rule.get("EventPattern") or "{}")
    missing = [one for key, wanted in FORWARDED.items() for one in wanted if one not in pattern.get(key, [])]
    return f"does not match {', '.join(missing)}" if missing else ""


def _switched_on(name: str, rule: dict[str, Any]) -> str:
    if rule.get("State") == "DISABLED":
        return f"enable-rule --name {name}"
    return f"put-rule --name {name} --event-pattern {shlex.quote(json.dumps(FORWARDED))}"


#: As at home, with what that region has; and what carries its events home.
_THERE: dict[str, Callable[[Place], Iterator[Finding]]] = {"quota": quotas, "launch": launch, "zones": zones, "route": routes, "forward": forward}


def checks_in(region: str) -> tuple[Check, ...]:
    """The first says whether there is anything to look at; the others are only of use where it is."""

    def of(look: Callable[[Place], Iterator[Finding]]) -> Callable[[Deployment], Iterator[Finding]]:
        return lambda stack: (_there(stack, region, finding) for finding in look(peer_of(stack, region)))

    return (Check("region", lambda stack: _stands(stack, region)), *(Check(name, of(look)) for name, look in _THERE.items()))


def _stands(stack: Deployment, region: str) -> Iterator[Finding]:
    try:
        place = peer_of(stack, region)
    except ValueError as error:
        yield broken("region", f"{region}: {error}", _deploy(stack, region))
        return
    except ClientError as error:
        if error.response["Error"]["Code"] != "ParameterNotFound":
            raise
        yield broken("region", f"{region}: no stack of region.yaml stands there, so nothing can be launched there.", _deploy(stack, region))
        return
    here, there = home_of(stack).facts(), place.facts()
    other = sorted(name for name in here.keys() | there.keys() if here.get(name) != there.get(name))
    if other:
        said = ", ".join(f"{name} {there.get(name, '')!r} there, {here.get(name, '')!r} at home" for name in other)
        yield warning("region", f"{region}: its launch template is older than the home stack: {said}.", _deploy(stack, region))
    else:
        yield ok("region", f"{region}: jobs that name it may run there, from {place.template_id} version {place.template_version}.")


def _there(stack: Deployment, region: str, finding: Finding) -> Finding:
    """The region's name before what is said, and in the command that mends it."""
    mend = finding.mend
    if mend.startswith("sam deploy"):
        mend = _deploy(stack, region)
    elif mend:
        mend = f"{mend} --region {region}"
    return replace(finding, means=f"{region}: {finding.means}", mend=mend)


def _deploy(stack: Deployment, region: str) -> str:
    """docs/deployment.md, Another region."""
    query = f"--stack-name {stack.name} --query \"Stacks[0].Outputs[?OutputKey=='PeerParameters'].OutputValue\" --output text"
    return (
        f"aws cloudformation deploy --region {region} --stack-name {stack.name}-region --template-file region.yaml --capabilities CAPABILITY_IAM "
        f"--parameter-overrides $(aws cloudformation describe-stacks --region {stack.region} {query})"
    )
