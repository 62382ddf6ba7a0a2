"""CloudFormation and Systems Manager: what the stack needs and ministack lacks - budgets, rules of security groups, a public parameter."""

import hashlib
import json
from functools import partial
from typing import Any

from dropforge.local.plugin import seams

#: Public parameters of the Deep Learning AMIs; their value here is a made-up id of a made-up image.
DEEP_LEARNING_PREFIX = "/aws/service/deeplearning/ami/"


def install() -> None:
    seams.provisioners._RESOURCE_HANDLERS["AWS::Budgets::Budget"] = {"create": _create_budget, "delete": _delete_budget}
    for kind, field in (("Ingress", "IpPermissions"), ("Egress", "IpPermissionsEgress")):
        handlers = {"create": partial(_add_rule, field), "delete": partial(_remove_rule, field)}
        seams.provisioners._RESOURCE_HANDLERS[f"AWS::EC2::SecurityGroup{kind}"] = handlers
    seams.wrap("services.ssm", "_public_parameter", _with_deep_learning_images)


def _add_rule(field: str, logical_id: str, props: dict[str, Any], stack_name: str) -> tuple[str, dict[str, str]]:
    """A rule of a security group that stands apart from it. Recorded, not enforced: the instances are processes of one machine."""
    group = seams.ec2._security_groups.get(props["GroupId"])
    if group is None:
        raise ValueError(f"{logical_id}: security group {props['GroupId']} does not exist")
    group[field] += seams.provisioners._ec2_sg_permissions([props])
    return f"{props['GroupId']}|{logical_id}", {}


def _remove_rule(field: str, physical_id: str, props: dict[str, Any]) -> None:
    group = seams.ec2._security_groups.get(props.get("GroupId"))
    if group is not None:
        gone = seams.provisioners._ec2_sg_permissions([props])
        group[field] = [rule for rule in group[field] if rule not in gone]


def _create_budget(logical_id: str, props: dict[str, Any], stack_name: str) -> tuple[str, dict[str, str]]:
    budget = dict(props["Budget"])
    budget.setdefault("BudgetName", f"{stack_name}-{logical_id}")
    request = {"Budget": _as_api(budget), "NotificationsWithSubscribers": props.get("NotificationsWithSubscribers", [])}
    status, _, body = seams.budgets._create_budget(request)
    if status >= 400:
        raise ValueError(f"AWS::Budgets::Budget create failed: {json.loads(body).get('Message') or body!r}")
    return budget["BudgetName"], {}


def _delete_budget(physical_id: str, props: dict[str, Any]) -> None:
    seams.budgets._delete_budget({"BudgetName": physical_id})


def _as_api(budget: dict[str, Any]) -> dict[str, Any]:
    """The API's amounts are texts; a template's may be numbers."""
    limit = budget.get("BudgetLimit")
    return budget if limit is None else budget | {"BudgetLimit": {"Amount": str(limit["Amount"]), "Unit": limit["Unit"]}}


def _with_deep_learning_images(original: Any) -> Any:
    def public_parameter(name: str) -> Any:
        found = original(name)
        if found is None and str(name).startswith(DEEP_LEARNING_PREFIX):
            image_id = f"ami-{hashlib.sha256(name.encode()).hexdigest()[:17]}"
            arn = f"arn:aws:ssm:{seams.responses.get_region()}::parameter{name}"
            return {"Name": name, "Type": "String", "Value": image_id, "Version": 1, "LastModifiedDate": 1728518400, "ARN": arn, "DataType": "aws:ec2:image"}
        return found

    return public_parameter
