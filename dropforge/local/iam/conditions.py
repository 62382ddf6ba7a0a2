"""The Condition element: operators, their ``IfExists`` and ``Null`` forms, and the two for keys with several values.

IAM guide, "IAM JSON policy elements: Condition operators" and "Set operators for multivalued context keys".
"""

from collections.abc import Callable, Mapping
from typing import Any

from dropforge.local.iam.patterns import Context, arn_matches, matches, substituted

Compare = Callable[[str, str, Context], bool]


class NotKnown(ValueError):
    """A policy uses what this evaluator does not know: teach it, from AWS's documentation."""


def holds(condition: Mapping[str, Mapping[str, Any]], context: Context) -> bool:
    """Whether every operator holds for every key of its own. Raises NotKnown."""
    return all(_holds(operator, key.lower(), _texts(wanted), context) for operator, keys in condition.items() for key, wanted in keys.items())


def _texts(wanted: Any) -> tuple[str, ...]:
    values = wanted if isinstance(wanted, list) else [wanted]
    return tuple(str(value).lower() if isinstance(value, bool) else str(value) for value in values)


def _holds(operator: str, key: str, wanted: tuple[str, ...], context: Context) -> bool:
    many, _, name = operator.rpartition(":")
    found = context.get(key) or None
    if name == "Null":
        return (found is None) == (_the_one(wanted) == "true")
    compare, negated = _compare(operator, name.removesuffix("IfExists"))
    if found is None:
        # A key that is not there is "not that value" too. ForAllValues holds of none, ForAnyValue does not.
        return name.endswith("IfExists") or many == "ForAllValues" or (negated and not many)

    def fits(value: str) -> bool:
        return any(compare(one, value, context) for one in wanted) is not negated

    match many:
        case "":
            if not isinstance(found, str):
                raise NotKnown(f"{operator} on {key}, which may hold several values: AWS asks for ForAllValues or ForAnyValue")
            return fits(found)
        case "ForAllValues":
            return all(fits(value) for value in _several(found))
        case "ForAnyValue":
            return any(fits(value) for value in _several(found))
    raise NotKnown(f"the condition operator {operator}")


def _several(found: str | tuple[str, ...]) -> tuple[str, ...]:
    return (found,) if isinstance(found, str) else found


def _the_one(wanted: tuple[str, ...]) -> str:
    if len(wanted) != 1:
        raise NotKnown(f"Null takes one value, not {wanted}")
    return wanted[0]


def _compare(operator: str, name: str) -> tuple[Compare, bool]:
    """The comparison behind a name, and whether the name negates it."""
    positive = name.replace("Not", "", 1)
    if positive not in _OPERATORS:
        raise NotKnown(f"the condition operator {operator}")
    return _OPERATORS[positive], positive != name


def _equal(wanted: str, found: str, context: Context) -> bool:
    """Wildcards are plain characters here; variables are not."""
    pieces = substituted(wanted, context)
    return pieces is not None and "".join(text for _, text in pieces) == found


def _equal_ignoring_case(wanted: str, found: str, context: Context) -> bool:
    return _equal(wanted.lower(), found.lower(), context)


def _arn_like(wanted: str, found: str, context: Context) -> bool:
    """ArnEquals and ArnLike behave the same (IAM guide)."""
    return arn_matches(wanted, found, context, apart=True)


def _number(compare: Callable[[float, float], bool]) -> Compare:
    return lambda wanted, found, context: compare(float(found), float(wanted))


_OPERATORS: dict[str, Compare] = {
    "StringEquals": _equal,
    "StringEqualsIgnoreCase": _equal_ignoring_case,
    "StringLike": matches,
    "ArnEquals": _arn_like,
    "ArnLike": _arn_like,
    "Bool": lambda wanted, found, context: wanted.lower() == found.lower(),
    "NumericEquals": _number(float.__eq__),
    "NumericLessThan": _number(float.__lt__),
    "NumericLessThanEquals": _number(float.__le__),
    "NumericGreaterThan": _number(float.__gt__),
    "NumericGreaterThanEquals": _number(float.__ge__),
}
