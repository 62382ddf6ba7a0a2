"""Policies, requests and IAM's decision.

IAM guide, "Policy evaluation logic", for one account: an explicit Deny anywhere refuses; else a permissions boundary, where there
is one, must allow; else the identity's policies or the resource's own must allow.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dropforge.local.iam.conditions import NotKnown, holds
from dropforge.local.iam.patterns import Context, arn_matches, matches, variables

_VERSION = "2012-10-17"
_ELEMENTS = frozenset({"Sid", "Effect", "Action", "NotAction", "Resource", "NotResource", "Principal", "Condition"})

#: Who asks, as the Principal element names it: ``{"AWS": arn}``, ``{"Service": name}``, ``{"Federated": arn}``.
Principal = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Request:
    """One question to IAM. ``context``: condition keys, in lower case once it is made."""

    action: str
    resource: str
    context: Context = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "context", {key.lower(): value for key, value in self.context.items()})

    def __hash__(self) -> int:
        return hash((self.action, self.resource, tuple(sorted(self.context.items()))))


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement. ``holder`` says, for people, which policy it stands in."""

    holder: str
    sid: str
    allows: bool
    actions: tuple[str, ...]
    but_actions: tuple[str, ...]
    resources: tuple[str, ...]
    but_resources: tuple[str, ...]
    condition: Mapping[str, Mapping[str, Any]]
    principal: Any

    def __str__(self) -> str:
        return f"{self.holder}.{self.sid}"

    def __hash__(self) -> int:
        return hash((self.holder, self.sid, self.actions, self.resources))

    def speaks_of(self, request: Request) -> bool:
        """Whether action, resource and condition are the request's. Raises NotKnown."""
        return self._names_action(request) and self._names_resource(request) and holds(self.condition, request.context)

    def reads(self) -> set[str]:
        """The condition keys, in lower case, that its answer may depend on."""
        values = [text for keys in self.condition.values() for wanted in keys.values() for text in _listed(wanted) if isinstance(text, str)]
        named = [key for pattern in (*self.resources, *self.but_resources, *values) for key in variables(pattern)]
        return {key.lower() for key in (*named, *(key for keys in self.condition.values() for key in keys))}

    def _names_action(self, request: Request) -> bool:
        patterns = self.actions or self.but_actions
        return any(matches(one, request.action, {}, ignore_case=True) for one in patterns) is bool(self.actions)

    def _names_resource(self, request: Request) -> bool:
        patterns = self.resources or self.but_resources
        return any(one == "*" or arn_matches(one, request.resource, request.context) for one in patterns) is bool(self.resources)

    def names(self, principal: Principal) -> bool:
        """Whether the Principal element names who asks."""
        if self.principal == "*":
            return True
        for kind, named in self.principal.items():
            for one in _listed(named):
                if kind == "AWS" and (one.endswith(":root") or one.isdecimal()):
                    raise NotKnown(f"{self}: a whole account as principal")
                if one == principal.get(kind) or (kind == "AWS" and one == "*"):
                    return True
        return False


def statements_of(holder: str, document: Mapping[str, Any]) -> tuple[Statement, ...]:
    """The statements of a policy document. Raises NotKnown for an element that is not known here."""
    if document.get("Version") != _VERSION:
        raise NotKnown(f"{holder}: a policy without Version {_VERSION}, in which variables are plain text")
    return tuple(_statement(holder, raw, number) for number, raw in enumerate(_listed(document["Statement"])))


def _statement(holder: str, raw: Mapping[str, Any], number: int) -> Statement:
    sid = str(raw.get("Sid", number))
    if unknown := set(raw) - _ELEMENTS:
        raise NotKnown(f"{holder}.{sid}: {', '.join(sorted(unknown))}")
    if ("Action" in raw) is ("NotAction" in raw) or raw["Effect"] not in ("Allow", "Deny"):
        raise NotKnown(f"{holder}.{sid}: Effect must be Allow or Deny, with one of Action and NotAction")
    but_resources = tuple(_listed(raw.get("NotResource", [])))
    # A role's trust policy names no resource: it is the role itself.
    resources = tuple(_listed(raw.get("Resource", [] if but_resources else ["*"])))
    actions, but_actions = tuple(_listed(raw.get("Action", []))), tuple(_listed(raw.get("NotAction", [])))
    return Statement(holder, sid, raw["Effect"] == "Allow", actions, but_actions, resources, but_resources, raw.get("Condition", {}), raw.get("Principal"))


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


@dataclass(frozen=True, slots=True)
class Decision:
    """``by``: the statements that decided. None of them, and not allowed: nothing allows it."""

    allowed: bool
    by: tuple[Statement, ...] = ()
    reason: str = ""


def decide(
    request: Request,
    identity: Iterable[Statement],
    *,
    boundary: Sequence[Statement] | None = None,
    resource: Iterable[Statement] = (),
    principal: Principal | None = None,
) -> Decision:
    """IAM's answer. ``resource``: the policy of what is asked for; ``principal``: who asks, for that policy. Raises NotKnown."""
    mine = [one for one in identity if one.speaks_of(request)]
    its = [one for one in resource if one.names(principal or {}) and one.speaks_of(request)]
    limit = [one for one in boundary or () if one.speaks_of(request)]
    if denying := tuple(one for one in (*mine, *its, *limit) if not one.allows):
        return Decision(False, denying, "denied by " + ", ".join(map(str, denying)))
    if boundary is not None and not limit:
        return Decision(False, (), "outside the permissions boundary")
    allowing = (*mine, *its)
    return Decision(bool(allowing), allowing, "allowed by " + ", ".join(map(str, allowing)) if allowing else "nothing allows it")
