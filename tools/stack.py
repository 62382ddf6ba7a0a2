"""The template as CloudFormation would fill it in: parameters at their defaults, intrinsic functions as readable text.

``${DataBucket.Arn}`` resolves to ``<DataBucket.Arn>`` and a parameter to its default, so that a policy can be read and compared
as text. Only the functions that this template uses are known; any other raises.
"""

import copy
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

from tools.translate import translate

ROOT = Path(__file__).parents[1]
PSEUDO = {
    "AWS::Partition": "aws",
    "AWS::Region": "eu-west-1",
    "AWS::AccountId": "111122223333",
    "AWS::URLSuffix": "amazonaws.com",
    "AWS::StackName": "dropforge",
    "AWS::StackId": "arn:aws:cloudformation:eu-west-1:111122223333:stack/dropforge/00000000-0000-0000-0000-000000000000",
}


@cache
def _translated() -> dict[str, Any]:
    return translate(ROOT / "template.yaml")


class Stack:
    """One translated template, a copy of its own: what is changed in it is changed nowhere else."""

    def __init__(self, template: dict[str, Any] | None = None, parameters: dict[str, str] | None = None) -> None:
        self.template = template if template is not None else copy.deepcopy(_translated())
        defaults = {name: str(spec.get("Default", "")) for name, spec in self.template["Parameters"].items()}
        self.values = PSEUDO | defaults | (parameters or {})

    def of_type(self, kind: str) -> dict[str, dict[str, Any]]:
        """Resolved properties by logical id."""
        found = {name: self.properties(name) for name, resource in self.template["Resources"].items() if resource["Type"] == kind}
        if not found:
            raise KeyError(f"no {kind} in the template")
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
        raise UnknownIntrinsic(key)

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
        raise UnknownIntrinsic(key)


class UnknownIntrinsic(ValueError):
    """The template uses a function that this file does not know: teach it."""


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def statements(stack: Stack) -> list[tuple[str, dict[str, Any]]]:
    """Every statement of every identity policy, with the logical id it stands in."""
    found = [(name, s) for name, policy in stack.of_type("AWS::IAM::ManagedPolicy").items() for s in policy["PolicyDocument"]["Statement"]]
    for name, role in stack.of_type("AWS::IAM::Role").items():
        found += [(name, s) for policy in role.get("Policies", []) for s in policy["PolicyDocument"]["Statement"]]
    return found


#: ARNs, or ids, of resources that do not exist yet: shaped as AWS shapes them, with names such as CloudFormation makes.
_SHAPES = {
    "AWS::S3::Bucket": "arn:aws:s3:::{lower}",
    "AWS::DynamoDB::Table": "arn:aws:dynamodb:eu-west-1:111122223333:table/{name}",
    "AWS::SQS::Queue": "arn:aws:sqs:eu-west-1:111122223333:{name}",
    "AWS::SNS::Topic": "arn:aws:sns:eu-west-1:111122223333:{name}",
    "AWS::IAM::Role": "arn:aws:iam::111122223333:role/{name}",
    "AWS::IAM::ManagedPolicy": "arn:aws:iam::111122223333:policy/{name}",
    "AWS::Lambda::Function": "arn:aws:lambda:eu-west-1:111122223333:function:{name}",
    "AWS::Events::Rule": "arn:aws:events:eu-west-1:111122223333:rule/{name}",
    "AWS::ECR::Repository": "arn:aws:ecr:eu-west-1:111122223333:repository/{lower}",
    "AWS::Logs::LogGroup": "arn:aws:logs:eu-west-1:111122223333:log-group:{lower}:*",
}


def arns_for(stack: Stack, document: Any) -> Any:
    """The document with every ``<Name>`` and ``<Name.Arn>`` as an ARN, or an id, of the right form: what policy linters can read."""

    def shaped(found: re.Match[str]) -> str:
        resource = stack.template["Resources"].get(found[1])
        if resource is None:
            return found[0]
        name = f"{stack.values['AWS::StackName']}-{found[1]}-EXAMPLE"
        return _SHAPES.get(resource["Type"], found[1].lower()).format(name=name, lower=name.lower())

    return json.loads(re.sub(r"<(\w+)(?:\.\w+)?>", shaped, json.dumps(document)))
