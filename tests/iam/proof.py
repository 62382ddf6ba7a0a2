"""The proof's two halves over a hearing: what was asked for and is not allowed is in ``refusals``; what is allowed and was never asked for is here."""

from collections.abc import Iterator
from dataclasses import dataclass

from dropforge.local.iam.patterns import arn_matches
from dropforge.local.iam.policies import Request, Statement
from tests.iam.hearing import Hearing

#: Their calls are made by the SAM CLI and by CloudFormation in a live account; what they may not do is in the matrix.
UNHEARD_ROLES = frozenset({"DeployRole", "CloudFormationRole"})


@dataclass(frozen=True, slots=True, order=True)
class Grant:
    """The smallest thing that a policy gives: one action of one statement on one of its resources, to one role."""

    role: str
    statement: str
    action: str
    resource: str

    def __str__(self) -> str:
        return f"{self.role}: {self.statement}: {self.action} on {self.resource}"


def grants(hearing: Hearing) -> Iterator[tuple[Grant, Statement]]:
    for name, role in hearing.site.roles.items():
        for statement in role.statements:
            if name not in UNHEARD_ROLES and statement.allows:
                for action in statement.actions:
                    # "All but" is one grant.
                    for resource in statement.resources or ("all but " + ", ".join(statement.but_resources),):
                        yield Grant(name, str(statement), action, resource), statement


def unused(hearing: Hearing) -> list[Grant]:
    """Grants without which every request that was heard would be answered just the same."""
    needed: dict[tuple[str, str], list[Request]] = {}
    for (who, request), decision in hearing.heard.items():
        if decision.allowed and len(decision.by) == 1:
            needed.setdefault((who, str(decision.by[0])), []).append(request)
    return sorted(
        grant for grant, statement in grants(hearing) if not any(_needs(request, grant, statement) for request in needed.get((grant.role, grant.statement), []))
    )


def _needs(request: Request, grant: Grant, statement: Statement) -> bool:
    if request.action.lower() != grant.action.lower():
        return False
    fitting = [one for one in statement.resources if one == "*" or arn_matches(one, request.resource, request.context)]
    return fitting == [grant.resource] if statement.resources else True
