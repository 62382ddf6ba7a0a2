"""What CloudFormation refuses before it makes anything: answers that break a parameter's own constraints, or one of the template's rules.

An emulator takes whatever it is given; the local cloud asks here first, and so do the tests of the template. (CloudFormation guide,
"Parameters" and "Rules".)
"""

import re
from collections.abc import Mapping
from typing import Any

from dropforge.translation import Template


def refusals(template: Template, given: Mapping[str, str]) -> list[str]:
    """A sentence for each answer that would be refused; parameters that are not given have their defaults."""
    specs: dict[str, dict[str, Any]] = template.get("Parameters", {})
    said = [f"{name} is no parameter of this template." for name in sorted(given.keys() - specs.keys())]
    said += [f"{name} has no default and was not given." for name, spec in specs.items() if "Default" not in spec and name not in given]
    for name in specs.keys() & given.keys():
        if not _takes(specs[name], given[name]):
            said.append(specs[name].get("ConstraintDescription") or f"{name} must not be {given[name]!r}.")
    values = {name: str(spec.get("Default", "")) for name, spec in specs.items()} | dict(given)
    for rule in template.get("Rules", {}).values():
        if "RuleCondition" not in rule or _holds(rule["RuleCondition"], values):
            said += [each["AssertDescription"] for each in rule["Assertions"] if not _holds(each["Assert"], values)]
    return said


def _takes(spec: Mapping[str, Any], value: str) -> bool:
    if "AllowedValues" in spec and value not in map(str, spec["AllowedValues"]):
        return False
    if spec["Type"] == "Number":
        if not re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", value):
            return False
        return float(spec.get("MinValue", "-inf")) <= float(value) <= float(spec.get("MaxValue", "inf"))
    return re.fullmatch(spec.get("AllowedPattern", "(?s:.*)"), value) is not None


def _holds(condition: Mapping[str, Any], values: Mapping[str, str]) -> bool:
    """The functions that our rules use. Raises ValueError for another, for to guess would be to let something through."""
    ((function, inner),) = condition.items()
    match function:
        case "Fn::Equals":
            left, right = (values[side["Ref"]] if isinstance(side, dict) else str(side) for side in inner)
            return bool(left == right)
        case "Fn::Not":
            return not _holds(inner[0], values)
        case "Fn::And":
            return all(_holds(each, values) for each in inner)
        case "Fn::Or":
            return any(_holds(each, values) for each in inner)
    raise ValueError(f"a rule uses {function}, which is not known here")
