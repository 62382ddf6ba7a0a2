"""Who has no policy of this stack: AWS's services, workflows of GitHub, and a role whose policy a pipeline wrote. Their golden rows."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from dropforge.local.iam.policies import Principal, Request, Statement, decide
from tests.iam.calls import SPOT_ROLE
from tests.iam.site import ACCOUNT, REGION, Site, the_site
from tests.iam.test_matrix import EVERY_RIGHT, filled

OTHER_ACCOUNT = "999999999999"
CLAIM = "token.actions.githubusercontent.com:"
#: What GitHub's token says of a push to main, and of a deployment that the reviewers let through; numbers as in ``site.WHOLE``.
TOKEN = {"aud": "sts.amazonaws.com", "repository_id": "123", "repository_owner_id": "45", "ref": "refs/heads/main"}
PUSH, DEPLOY = TOKEN | {"sub": "repo:me/it:ref:refs/heads/main"}, TOKEN | {"sub": "repo:me/it:environment:production"}


@dataclass(frozen=True)
class Row:
    who: str
    may: bool
    what: str
    principal: Principal
    action: str
    resource: str
    context: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.who} {'may' if self.may else 'may not'} {self.what}"

    def request(self, site: Site) -> Request:
        return Request(self.action, filled(self.resource, site), {"aws:SecureTransport": "true"} | filled(self.context, site))


def service(name: str, may: bool, what: str, action: str, resource: str, source: str, account: str = ACCOUNT) -> Row:
    return Row(name, may, what, {"Service": f"{name}.amazonaws.com"}, action, resource, {"aws:SourceArn": source, "aws:SourceAccount": account})


def workflow(may: bool, what: str, role: str, token: Mapping[str, str], provider: str = "oidcprovider") -> Row:
    context = {CLAIM + name: value for name, value in token.items()}
    return Row("a workflow", may, what, {"Federated": provider}, "sts:AssumeRoleWithWebIdentity", f"{{{role}}}", context)


RULE, THEIR_RULE = f"arn:aws:events:{REGION}:{ACCOUNT}:rule/x", f"arn:aws:events:{REGION}:{OTHER_ACCOUNT}:rule/x"
ALARM, THEIR_ALARM = f"arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:x", f"arn:aws:cloudwatch:{REGION}:{OTHER_ACCOUNT}:alarm:x"
BUDGET, THEIR_BUDGET = f"arn:aws:budgets::{ACCOUNT}:budget/x", f"arn:aws:budgets::{OTHER_ACCOUNT}:budget/x"
GROUP = f"arn:aws:scheduler:{REGION}:{ACCOUNT}:schedule-group/default"
WAKES = [
    ("events", f"{name}Function", f"{{{rule}}}")
    for name, rule in (
        *(("Submit", "SubmitFunctionManifestChanged"), ("Interruption", "InterruptionFunctionSpotWarned"), ("Completion", "CompletionFunctionMarkerWritten")),
        *(("InstanceState", "InstanceStateFunctionInstanceEnding"), ("Reconcile", "ReconcileFunctionTick"), ("Budget", "BudgetFunctionBudgetAlert")),
        ("Operator", "OperatorFunctionOperatorRequest"),
        ("Report", "ReportFunctionStatusWritten"),
    )
]
WAKES += [("sns", "BudgetRelayFunction", "{BudgetTopic}"), ("sns", "PublishLedgerFunction", "{Topic}"), ("sns", "WebhookFunction", "{Topic}")]

SERVICES: tuple[Row, ...] = (
    *(service(who, True, f"wake the {name}, by its own rule or topic", "lambda:InvokeFunction", f"{{{name}}}", source) for who, name, source in WAKES),
    *(service(who, False, f"wake the {name}, by another", "lambda:InvokeFunction", f"{{{name}}}", RULE) for who, name, source in WAKES),
    *(service("scheduler", False, f"wake the {name} by itself", "lambda:InvokeFunction", f"{{{name}}}", source) for who, name, source in WAKES),
    service("cloudwatch", True, "send an alarm of this account", "sns:Publish", "{Topic}", ALARM),
    service("cloudwatch", False, "send an alarm of another account", "sns:Publish", "{Topic}", THEIR_ALARM),
    service("cloudwatch", False, "send an alarm for another account", "sns:Publish", "{Topic}", ALARM, OTHER_ACCOUNT),
    service("events", False, "send mail", "sns:Publish", "{Topic}", ALARM),
    service("budgets", True, "speak of this account's money", "sns:Publish", "{BudgetTopic}", BUDGET),
    service("budgets", False, "speak of another account's money", "sns:Publish", "{BudgetTopic}", THEIR_BUDGET),
    service("budgets", False, "speak for another account", "sns:Publish", "{BudgetTopic}", BUDGET, OTHER_ACCOUNT),
    service("cloudwatch", False, "speak of money", "sns:Publish", "{BudgetTopic}", BUDGET),
    service("events", True, "put aside what a rule of this account could not deliver", "sqs:SendMessage", "{DeadLetters}", RULE),
    service("events", False, "put aside what a rule of another account could not", "sqs:SendMessage", "{DeadLetters}", THEIR_RULE),
    service("sns", True, "put aside what the topic could not deliver", "sqs:SendMessage", "{DeadLetters}", "{Topic}"),
    service("sns", False, "put aside what another topic could not", "sqs:SendMessage", "{DeadLetters}", f"arn:aws:sns:{REGION}:{ACCOUNT}:x"),
    service("scheduler", False, "put a letter aside by itself", "sqs:SendMessage", "{DeadLetters}", "{Topic}"),
    service("scheduler", False, "put a letter of a rule aside", "sqs:SendMessage", "{DeadLetters}", RULE),
)

TRUSTS: tuple[Row, ...] = (
    *(Row("Lambda", True, f"take the {name}", {"Service": "lambda.amazonaws.com"}, "sts:AssumeRole", f"{{{name}}}") for name in ("SubmitRole", "CurfewRole")),
    Row("EC2", True, "take the instances' role", {"Service": "ec2.amazonaws.com"}, "sts:AssumeRole", "{InstanceRole}"),
    Row("EC2", False, "take a function's role", {"Service": "ec2.amazonaws.com"}, "sts:AssumeRole", "{SubmitRole}"),
    Row("Lambda", False, "take the instances' role", {"Service": "lambda.amazonaws.com"}, "sts:AssumeRole", "{InstanceRole}"),
    service("scheduler", True, "take the schedule's role", "sts:AssumeRole", "{CurfewScheduleRole}", GROUP),
    service("scheduler", False, "take the schedule's role for another account", "sts:AssumeRole", "{CurfewScheduleRole}", GROUP, OTHER_ACCOUNT),
    service("scheduler", False, "take the schedule's role for another group", "sts:AssumeRole", "{CurfewScheduleRole}", GROUP.replace("default", "x")),
    service("lambda", False, "take the schedule's role", "sts:AssumeRole", "{CurfewScheduleRole}", GROUP),
    service("cloudformation", True, "take its role", "sts:AssumeRole", "{CloudFormationRole}", "x"),
    service("cloudformation", False, "take its role for another account", "sts:AssumeRole", "{CloudFormationRole}", "x", OTHER_ACCOUNT),
    Row(
        "a person",
        False,
        "take CloudFormation's role",
        {"AWS": f"arn:aws:iam::{ACCOUNT}:user/x"},
        "sts:AssumeRole",
        "{CloudFormationRole}",
        {"aws:SourceAccount": ACCOUNT},
    ),
    workflow(True, "of main push", "PushImageRole", PUSH),
    workflow(True, "of main push, its subject in the form with numbers", "PushImageRole", PUSH | {"sub": "repo:me@45/it@123:ref:refs/heads/main"}),
    workflow(True, "of the reviewed environment deploy", "DeployRole", DEPLOY),
    workflow(False, "of main deploy without the reviewed environment", "DeployRole", PUSH),
    workflow(False, "of another provider push", "PushImageRole", PUSH, "another"),
    workflow(False, "of another provider deploy", "DeployRole", DEPLOY, "another"),
    *(
        workflow(False, f"with another {claim} take the {role}", role, token | {claim: other})
        for role, token in (("PushImageRole", PUSH), ("DeployRole", DEPLOY))
        for claim, other in (
            *(("aud", "another"), ("repository_id", "124"), ("repository_owner_id", "46"), ("ref", "refs/heads/x")),
            ("sub", "repo:me/another:ref:refs/heads/main"),
        )
    ),
)


@pytest.mark.parametrize("row", [*SERVICES, *TRUSTS], ids=str)
def test_the_matrix_of_strangers(row: Row) -> None:
    assert the_site().decide_for(row.principal, row.request(the_site())).allowed is row.may


def test_no_row_is_there_twice() -> None:
    rows = [str(row) for row in (*SERVICES, *TRUSTS)]
    assert len(set(rows)) == len(rows)


def weakened(statement: Statement) -> Iterator[tuple[str, Statement]]:
    """What a careless change makes of an Allow; Denies are in the matrix of roles."""
    for operator, conditions in statement.condition.items():
        for key in conditions:
            rest = {name: {k: v for k, v in keys.items() if (name, k) != (operator, key)} for name, keys in statement.condition.items()}
            yield f"without {operator} {key}", replace(statement, condition=rest)
    yield "for anybody", replace(statement, principal="*")


def test_every_condition_and_every_principal_is_held_by_a_row() -> None:
    site, unnoticed = the_site(), []
    owned = site.attached | {
        role.arn: role.trust for name, role in site.roles.items() if name in ("CurfewScheduleRole", "PushImageRole", "DeployRole", "CloudFormationRole")
    }
    rows = [(row, row.request(site)) for row in (*SERVICES, *TRUSTS)]
    for arn, policy in owned.items():
        for statement in policy:
            for what, weaker in weakened(statement) if statement.allows else ():
                others = tuple(weaker if one is statement else one for one in policy)
                if all(decide(request, (), resource=others, principal=row.principal).allowed is row.may for row, request in rows if request.resource == arn):
                    unnoticed.append(f"{statement} {what}")
    assert unnoticed == []


def test_every_role_of_a_function_trusts_lambda_alone() -> None:
    trusts = {name: role.trust for name, role in the_site().roles.items() if f"{name.removesuffix('Role')}Function" in the_site().stack.template["Resources"]}
    assert len(trusts) == len(the_site().stack.of_type("AWS::Lambda::Function"))
    assert all([one.principal for one in trust] == [{"Service": "lambda.amazonaws.com"}] for trust in trusts.values())


@pytest.mark.parametrize(
    ("action", "resource", "context", "may"),
    [
        ("s3:GetObject", "arn:aws:s3:::any/x", {}, True),
        ("iam:PassRole", "{InstanceRole}", {"iam:PassedToService": "ec2.amazonaws.com"}, True),
        ("iam:CreateServiceLinkedRole", SPOT_ROLE, {"iam:AWSServiceName": "spot.amazonaws.com"}, True),
        ("iam:PassRole", "{InstanceRole}", {"iam:PassedToService": "lambda.amazonaws.com"}, False),
        ("iam:PassRole", "{CloudFormationRole}", {"iam:PassedToService": "ec2.amazonaws.com"}, False),
        ("iam:CreateServiceLinkedRole", SPOT_ROLE, {"iam:AWSServiceName": "lex.amazonaws.com"}, False),
        ("iam:CreateUser", "arn:aws:iam::{ACCOUNT}:user/x", {}, False),
        ("iam:PutRolePolicy", "{SubmitRole}", {}, False),
        ("sts:AssumeRole", "arn:aws:iam::{ACCOUNT}:role/admin", {}, False),
        ("lambda:UpdateFunctionCode", "{SubmitFunction}", {}, False),
        ("kms:Decrypt", "arn:aws:kms:{REGION}:{ACCOUNT}:key/x", {}, False),
    ],
)
def test_the_boundary_holds_a_role_that_was_given_every_right(action: str, resource: str, context: dict[str, str], may: bool) -> None:
    site = the_site()
    request = Request(action, filled(resource, site), context)
    assert decide(request, EVERY_RIGHT, boundary=site.managed("Boundary")).allowed is may
