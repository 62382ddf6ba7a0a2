"""What the tests of the translated template (``tools.stack``) share: a role's statements, and which event a rule takes.

What a role may do is decided in one place, ``dropforge.local.iam``, and proved in ``tests/iam``. ``matches`` knows only the parts of
EventBridge's patterns that this template uses, and raises on any other.
"""

from fnmatch import fnmatchcase
from typing import Any

from tools.stack import PSEUDO, ROOT, Stack, listed, statements

__all__ = ["PSEUDO", "ROOT", "Stack", "listed", "matches", "role_statements", "statements"]


def role_statements(stack: Stack, role: str) -> list[dict[str, Any]]:
    """What a role may do: its own statements and those of the stack's managed policies attached to it."""
    holders = {role, *(arn.strip("<>") for arn in stack.properties(role).get("ManagedPolicyArns", []))}
    return [statement for name, statement in statements(stack) if name in holders]


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
