"""Two small evaluators over the translated template (``tools.stack``): what a role may do, and which event a rule takes.

``allowed`` and ``matches`` know only the parts of IAM and EventBridge that this template uses, and raise on any other.
"""

from fnmatch import fnmatchcase
from typing import Any

from tools.stack import PSEUDO, ROOT, Stack, listed, statements

__all__ = ["PSEUDO", "ROOT", "Stack", "allowed", "listed", "matches", "role_statements", "statements"]


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
