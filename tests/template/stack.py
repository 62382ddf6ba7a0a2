"""The translated template for tests: resources by type, intrinsics as readable text, and two small evaluators.

``${DataBucket.Arn}`` resolves to ``<DataBucket.Arn>`` and a parameter to its default, so that a policy can be compared as text.
``allowed`` and ``matches`` know only the parts of IAM and EventBridge that this template uses, and raise on any other.
"""

import copy
import re
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

from tools.translate import translate

ROOT = Path(__file__).parents[2]
PSEUDO = {
    "AWS::Partition": "aws",
    "AWS::Region": "eu-west-1",
    "AWS::AccountId": "111122223333",
    "AWS::URLSuffix": "amazonaws.com",
    "AWS::StackName": "dropforge",
}


@cache
def _translated() -> dict[str, Any]:
    return translate(ROOT / "template.yaml")


class Stack:
    """One translated template. ``with_`` gives a changed copy: a planted bug."""

    def __init__(self, template: dict[str, Any] | None = None, parameters: dict[str, str] | None = None) -> None:
        self.template = template if template is not None else copy.deepcopy(_translated())
        defaults = {name: str(spec.get("Default", "")) for name, spec in self.template["Parameters"].items()}
        self.values = PSEUDO | defaults | (parameters or {})

    def of_type(self, kind: str) -> dict[str, dict[str, Any]]:
        """Resolved properties by logical id."""
        found = {name: self.properties(name) for name, resource in self.template["Resources"].items() if resource["Type"] == kind}
        assert found, f"no {kind} in the template"
        return found

    def properties(self, name: str) -> dict[str, Any]:
        resolved: dict[str, Any] = self.resolve(self.template["Resources"][name].get("Properties", {}))
        return resolved

    def raw(self, name: str) -> dict[str, Any]:
        """The properties themselves, for planting a bug in."""
        properties: dict[str, Any] = self.template["Resources"][name]["Properties"]
        return properties

    def resolve(self, value: Any) -> Any:
        if isinstance(value, list):
            resolved = [self.resolve(item) for item in value]
            return [item for item in resolved if item is not None]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            (key, inner), *_ = value.items()
            if key == "Ref" or key.startswith("Fn::"):
                return self._intrinsic(key, inner)
        resolved_map = {key: self.resolve(item) for key, item in value.items()}
        return {key: item for key, item in resolved_map.items() if item is not None}

    def _intrinsic(self, key: str, inner: Any) -> Any:
        match key:
            case "Ref":
                return None if inner == "AWS::NoValue" else self.values.get(inner, f"<{inner}>")
            case "Fn::GetAtt":
                return "<" + ".".join(inner) + ">"
            case "Fn::Join":
                return inner[0].join(str(item) for item in self.resolve(inner[1]))
            case "Fn::Sub":
                text, names = (inner[0], self.resolve(inner[1])) if isinstance(inner, list) else (inner, {})
                return re.sub(r"\$\{([^!}][^}]*)\}", lambda found: self._named(found.group(1), names), text).replace("${!", "${")
            case "Fn::If":
                return self.resolve(inner[1] if self.holds({"Condition": inner[0]}) else inner[2])
            case "Fn::Base64":
                return self.resolve(inner)
            case "Fn::Select":
                choices = self.resolve(inner[1])
                return choices[int(inner[0])] if isinstance(choices, list) else f"<Select {inner[0]}>"
            case "Fn::Split":
                return self.resolve(inner[1]).split(inner[0])
            case "Fn::GetAZs":
                return "<GetAZs>"
        raise NotImplementedIntrinsic(key)

    def _named(self, name: str, names: dict[str, Any]) -> str:
        return str(names.get(name, self.values.get(name, f"<{name}>")))

    def holds(self, condition: Any) -> bool:
        """Whether a condition, or a rule's assertion, holds for these parameters."""
        (key, inner), *_ = condition.items()
        match key:
            case "Condition":
                return self.holds(self.template["Conditions"][inner])
            case "Fn::Equals":
                left, right = self.resolve(inner)
                return str(left) == str(right)
            case "Fn::Not":
                return not self.holds(inner[0])
            case "Fn::And":
                return all(self.holds(part) for part in inner)
        raise NotImplementedIntrinsic(key)


class NotImplementedIntrinsic(AssertionError):
    """The template uses a function that these tests do not know: teach them."""


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def statements(stack: Stack) -> list[tuple[str, dict[str, Any]]]:
    """Every statement of every identity policy, with the logical id it stands in."""
    found = [(name, s) for name, policy in stack.of_type("AWS::IAM::ManagedPolicy").items() for s in policy["PolicyDocument"]["Statement"]]
    for name, role in stack.of_type("AWS::IAM::Role").items():
        found += [(name, s) for policy in role.get("Policies", []) for s in policy["PolicyDocument"]["Statement"]]
    return found


def role_statements(stack: Stack, role: str) -> list[dict[str, Any]]:
    """What a role may do: its own statements and those of the stack's managed policies attached to it."""
    holders = {role, *(arn.strip("<>") for arn in stack.properties(role).get("ManagedPolicyArns", []))}
    return [statement for name, statement in statements(stack) if name in holders]


def allowed(rules: list[dict[str, Any]], action: str, resource: str, variables: dict[str, str] | None = None) -> bool:
    """IAM's answer from actions and resources alone: a statement with a condition counts as an Allow that holds, a Deny that does not."""
    verdict = False
    for rule in rules:
        if not any(fnmatchcase(action.lower(), pattern.lower()) for pattern in listed(rule["Action"])):
            continue
        named = "Resource" in rule
        patterns = [_filled(pattern, variables or {}) for pattern in listed(rule["Resource"] if named else rule["NotResource"])]
        if any(fnmatchcase(resource, _literal_brackets(pattern)) for pattern in patterns) is not named:
            continue
        if rule["Effect"] == "Allow":
            verdict = True
        elif "Condition" not in rule:
            return False
    return verdict


def _filled(pattern: str, variables: dict[str, str]) -> str:
    for name, value in variables.items():
        pattern = pattern.replace("${" + name + "}", value)
    return pattern


def _literal_brackets(pattern: str) -> str:
    return pattern.replace("[", "[[]")


def matches(pattern: dict[str, Any], event: dict[str, Any]) -> bool:
    """Whether EventBridge would hand the event to the rule: exact values, ``prefix`` and ``wildcard``."""
    for key, wanted in pattern.items():
        found = event.get(key)
        if isinstance(wanted, dict):
            if not isinstance(found, dict) or not matches(wanted, found):
                return False
        elif not any(_value_matches(choice, found) for choice in wanted):
            return False
    return True


def _value_matches(choice: Any, found: Any) -> bool:
    match choice:
        case {"prefix": prefix}:
            return isinstance(found, str) and found.startswith(prefix)
        case {"wildcard": wildcard}:
            return isinstance(found, str) and fnmatchcase(found, _literal_brackets(wildcard))
        case str():
            return bool(found == choice)
    raise AssertionError(f"a pattern that these tests do not know: {choice}")
