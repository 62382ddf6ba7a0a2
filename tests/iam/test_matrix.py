"""The golden matrix holds, and it is whole: a policy that lost a condition, a Deny or the limits of a resource breaks a row."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from dropforge.local.iam.policies import Request, Statement, decide, statements_of
from tests.iam.asking import FACTS, ME, Row
from tests.iam.calls import SPOT_ROLE, World, asked
from tests.iam.hearing import instance_keys
from tests.iam.matrix import (
    ALL,
    CHANGER,
    CURFEW,
    DEPLOYER,
    DRIVER,
    EVERYBODY,
    FUNCTION,
    HOOK,
    INSTANCE,
    LATER,
    LEDGER,
    OPERATOR,
    PUSHER,
    RELAY,
    REPORT,
    SCHEDULE,
    SUBMIT,
    TICK,
    WITH_GITHUB,
)
from tests.iam.site import ACCOUNT, EC2, READS, REGION, SHARED, TRACKING, Site, the_site
from tests.iam.site import HOOK as HOOKED
from tools.stack import Stack

DRIVERS = ("SubmitRole", "InterruptionRole", "InstanceStateRole", "CompletionRole", "ReconcileRole", "BudgetRole")
ROLES: dict[str, tuple[str, ...]] = {
    DRIVER: DRIVERS,
    SUBMIT: ("SubmitRole", "ReconcileRole"),
    LATER: ("InterruptionRole", "InstanceStateRole", "CompletionRole", "BudgetRole"),
    FUNCTION: (*DRIVERS, "BudgetRelayRole", "OperatorRole", "PublishLedgerRole", "CurfewRole", "ReportRole", "WebhookRole"),
    TICK: ("ReconcileRole",),
    RELAY: ("BudgetRelayRole",),
    OPERATOR: ("OperatorRole",),
    LEDGER: ("PublishLedgerRole",),
    CURFEW: ("CurfewRole",),
    REPORT: ("ReportRole",),
    HOOK: ("WebhookRole",),
    SCHEDULE: ("CurfewScheduleRole",),
    INSTANCE: ("InstanceRole",),
    PUSHER: ("PushImageRole",),
    DEPLOYER: ("DeployRole",),
    CHANGER: ("CloudFormationRole",),
}
EVERY_RIGHT = statements_of("administrator", {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]})


@cache
def without_github() -> Site:
    return Site(Stack(parameters=READS | HOOKED | TRACKING))


def names_of(site: Site) -> dict[str, str]:
    return {
        "DATA": site.arn("DataBucket").rpartition(":")[2],
        "OUTPUTS": site.arn("OutputsBucket").rpartition(":")[2],
        "SHARED": SHARED,
        "JOBS": site.arn("JobTable").rpartition("/")[2],
        "MAIL": site.arn("Topic"),
        "TEMPLATE": site.ref("LaunchTemplate"),
        "VPC": site.ref("Vpc"),
        "OURS": site.stack.values["AWS::StackName"],
        "EC2": EC2,
        "IMAGES": f"arn:aws:ec2:{REGION}::",
        "SPOT_ROLE": SPOT_ROLE,
        "STACK": site.stack.values["AWS::StackId"],
        "ACCOUNT": ACCOUNT,
        "REGION": REGION,
    }


def filled(value: Any, site: Site) -> Any:
    """The value with ``{WORD}`` as the stack's own part, or the ARN of the resource of that name."""
    if isinstance(value, str):
        known = names_of(site)
        return re.sub(r"\{(\w+)\}", lambda found: known.get(found[1]) or site.arn(found[1]), value)
    if isinstance(value, Mapping):
        return {key: filled(item, site) for key, item in value.items()}
    return type(value)(filled(item, site) for item in value) if isinstance(value, list | tuple) else value


def requests_of(row: Row, site: Site) -> list[Request]:
    service, operation, params = row.call
    caller = instance_keys(ME) if row.who == INSTANCE else {"aws:userid": "AROA:function"}
    given = filled(row.given, site)
    if not service:
        usual = {"aws:SecureTransport": "true", "aws:RequestedRegion": REGION}
        return [Request(operation, filled(params["Resource"], site), usual | caller | given)]
    elsewhere = "vpc-elsewhere"
    world = World(site, lambda resource: FACTS.get(resource, {}), vpc_of=lambda subnet: site.ref("Vpc") if subnet == "subnet-ours" else elsewhere)
    return [
        replace(one, context={**one.context, **{key.lower(): value for key, value in given.items()}})
        for one in asked(service, operation, filled(params, site), world, caller)
    ]


def allowed(row: Row, site: Site, role: str) -> bool:
    """All that the call asks for."""
    if row.who == EVERYBODY:
        return all(decide(one, EVERY_RIGHT, resource=site.policy_of(one.resource), principal={"AWS": "somebody"}).allowed for one in requests_of(row, site))
    return all(site.decide(role, one).allowed for one in requests_of(row, site))


@pytest.mark.parametrize("row", WITH_GITHUB, ids=str)
def test_the_matrix_of_the_deployment(row: Row) -> None:
    (role,) = ROLES[row.who]
    assert allowed(row, the_site(), role) is row.may


@pytest.mark.parametrize("row", ALL, ids=str)
def test_the_matrix(row: Row) -> None:
    """With the permissions boundary, and in a stack without a GitHub repository, which has none."""
    for site in (the_site(), without_github()):
        for role in ROLES.get(row.who, ("",)):
            assert allowed(row, site, role) is row.may, role


def test_a_stack_without_other_buckets_reads_and_lists_none() -> None:
    site = Site(Stack())
    rows = [row for row in ALL if "{SHARED}" in str(row.call) and row.may]
    assert {row.who for row in rows} == {INSTANCE, SUBMIT}
    for row in rows:
        for role in ROLES[row.who]:
            assert not allowed(row, site, role), (row, role)


def test_no_row_is_there_twice() -> None:
    assert len({str(row) for row in ALL + WITH_GITHUB}) == len(ALL + WITH_GITHUB)


def weakened(statement: Statement) -> Iterator[tuple[str, Statement | None]]:
    """What a careless change makes of a statement; None: it is gone."""
    if not statement.allows:
        yield "without it", None
        return
    for operator, conditions in statement.condition.items():
        for key in conditions:
            rest = {name: {k: v for k, v in keys.items() if (name, k) != (operator, key)} for name, keys in statement.condition.items()}
            yield f"without {operator} {key}", replace(statement, condition=rest)
    if statement.resources != ("*",):
        yield "on every resource", replace(statement, resources=("*",), but_resources=())


def _rows_of(role: str) -> list[Row]:
    return [row for row in ALL + WITH_GITHUB if role in ROLES.get(row.who, ())]


def unnoticed(site: Site) -> list[str]:
    """Weakened statements that change no row. Without the boundary, which is a second lock: each must hold by itself."""
    found, tried = [], set[str]()
    for name in sorted({role for roles in ROLES.values() for role in roles}):
        asked_for = [(row, requests_of(row, site)) for row in _rows_of(name)]
        role = site.roles[name]
        # A shared policy is tried in the first role that has it.
        fresh = [statement for statement in role.statements if str(statement) not in tried]
        tried |= {str(statement) for statement in fresh}
        for statement in fresh:
            for what, weaker in weakened(statement):
                others = tuple(weaker if one is statement else one for one in role.statements if weaker is not None or one is not statement)

                def answer(requests: list[Request], others: Any = others, role: Any = role) -> bool:
                    return all(decide(one, others, resource=site.policy_of(one.resource), principal={"AWS": role.arn}).allowed for one in requests)

                if all(answer(requests) is row.may for row, requests in asked_for):
                    found.append(f"{name}: {statement} {what}")
    return found


def test_every_condition_every_deny_and_every_limit_is_held_by_a_row() -> None:
    assert unnoticed(the_site()) == []
