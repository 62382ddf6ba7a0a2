"""What ministack's policy evaluation lacks and the stack's roles lean on.

* Policy variables: ``${aws:userid}`` and the like in resources and conditions (IAM guide, "Policy variables"); a
  statement whose variable has no value matches nothing. ``${*}`` and its kin (literal characters) match nothing either.
* EC2: each resource of a call is checked with its own keys - request tags, resource tags, instance type, market, launch
  template, create action - as the Service Authorization Reference lists them; a fleet also needs RunInstances, CreateTags
  and ``iam:PassRole``. Where AWS's pages leave open whether the create action of a fleet's instances reads CreateFleet or
  RunInstances, a policy has to allow both.
* S3: the keys of conditional writes (S3 guide, "Enforce conditional writes").
* DynamoDB: ``dynamodb:LeadingKeys`` of calls on one item (DynamoDB guide, "Using IAM policy conditions"). Other calls carry
  none here, so a statement that demands it refuses them.
"""

import contextvars
import dataclasses
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from dropforge.local.plugin import seams
from dropforge.local.plugin.launching import RequestRefused, template_of
from dropforge.local.plugin.query import nest, tags_of

#: CloudWatch Logs looks for these at the stream's ARN, below the group's (Service Authorization Reference), ministack at the group's.
_ON_STREAMS = frozenset({"logs:CreateLogStream", "logs:PutLogEvents"})
_VARIABLE = re.compile(r"\$\{([A-Za-z0-9:/_.-]+)(?:, *'([^']*)')?\}")
_NO_VALUE = "\0"

Check = tuple[str, str, dict[str, Any]]
_request: contextvars.ContextVar[dict[str, Any] | None] = contextvars.ContextVar("dropforge_ec2_request", default=None)


def install() -> None:
    """Wrap the evaluator: variables in every statement, resource-level checks for the EC2 actions modelled here."""
    seams.wrap("core.iam_evaluator", "_first_match", _with_variables)
    seams.wrap("core.iam_actions", "request_tag_context", _noting_request)
    seams.wrap("core.iam_actions", "s3_service_context", _with_conditional_writes)
    seams.wrap("core.iam_actions", "dynamodb_service_context", _with_leading_keys)
    seams.wrap("core.iam_evaluator", "enforce", _checking_each_resource)
    seams.wrap("core.iam_evaluator", "_principal_keys", _with_instance_keys)
    # Loopback stands for TLS here: a policy that demands aws:SecureTransport must not refuse everything.
    seams.wrap("app", "pin_request_origin", lambda original: lambda source_ip, secure: original(source_ip, True))


def _with_variables(original: Any) -> Any:
    def first_match(context: Any, statements: list[Any], effect: str) -> Any:
        values = _values(context)
        return original(context, [_substituted(statement, values) for statement in statements], effect)

    return first_match


def _values(context: Any) -> dict[str, str]:
    keys = {**context.principal_keys, **context.service_context}
    values = {str(key).lower(): str(value) for key, value in keys.items() if isinstance(value, str)}
    return values | {"aws:principalaccount": context.principal_account}


def _substituted(statement: Any, values: dict[str, str]) -> Any:
    return dataclasses.replace(
        statement,
        resources=[substitute(text, values) for text in statement.resources],
        not_resources=[substitute(text, values) for text in statement.not_resources],
        conditions=_in_conditions(statement.conditions, values),
    )


def _in_conditions(node: Any, values: dict[str, str]) -> Any:
    if isinstance(node, dict):
        return {key: _in_conditions(value, values) for key, value in node.items()}
    if isinstance(node, list):
        return [_in_conditions(value, values) for value in node]
    return substitute(node, values) if isinstance(node, str) else node


def substitute(text: str, values: dict[str, str]) -> str:
    """``${key}`` and ``${key, 'default'}`` by their values; without a value, a character that no real name holds."""
    if "${" not in text:
        return text
    return _VARIABLE.sub(lambda found: values.get(found[1].lower(), found[2] if found[2] is not None else _NO_VALUE), text)


def _noting_request(original: Any) -> Any:
    def request_tag_context(service: str, iam_action: str, body: bytes, params: dict[str, Any]) -> dict[str, Any]:
        _request.set(nest(params) if service == "ec2" else None)
        context: dict[str, Any] = original(service, iam_action, body, params)
        return context | (_event_sources(body) if iam_action == "events:PutEvents" else {})

    return request_tag_context


def _event_sources(body: bytes) -> dict[str, Any]:
    """``events:source`` (EventBridge guide, "Using condition keys"); sources that differ match no single value."""
    entries = json.loads(body or b"{}").get("Entries", [])
    sources = sorted({str(entry.get("Source", "")) for entry in entries})
    return {"events:source": sources[0] if len(sources) == 1 else sources}


def _with_conditional_writes(original: Any) -> Any:
    """``s3:if-none-match`` and ``s3:if-match``, and whether the call creates an object (a part or an upload's start does not)."""

    def s3_service_context(iam_action: str, query: dict[str, Any] | None, path: str = "", headers: dict[str, str] | None = None) -> dict[str, Any]:
        context: dict[str, Any] = original(iam_action, query, path, headers)
        if iam_action == "s3:PutObject":
            context |= {f"s3:{name}": (headers or {})[name] for name in ("if-none-match", "if-match") if name in (headers or {})}
            context["s3:ObjectCreationOperation"] = str(not {"partNumber", "uploads"} & (query or {}).keys()).lower()
        return context

    return s3_service_context


def _with_leading_keys(original: Any) -> Any:
    def dynamodb_service_context(body: bytes) -> dict[str, Any]:
        context: dict[str, Any] = original(body)
        if not context:
            return context  # not a request; its own answer says so
        request = json.loads(body or b"{}")
        table = seams.dynamodb._tables.get(str(request.get("TableName", "")).rpartition("/")[2])
        key = (request.get("Key") or request.get("Item") or {}).get(table["pk_name"]) if table else None
        return context | ({"dynamodb:LeadingKeys": [str(value) for value in key.values()]} if isinstance(key, dict) else {})

    return dynamodb_service_context


def _with_instance_keys(original: Any) -> Any:
    """Credentials that came through IMDS say so, and from which instance (EC2 guide, "Instance metadata condition keys")."""

    def principal_keys(credential: Any) -> dict[str, Any]:
        keys: dict[str, Any] = original(credential)
        instance_id = credential.principal_arn.rpartition("/")[2]
        if credential.principal_type == "AssumedRole" and instance_id.startswith("i-"):
            arn = f"arn:aws:ec2:{seams.responses.get_region()}:{credential.account_id}:instance/{instance_id}"
            keys |= {"ec2:roledelivery": "2.0", "ec2:sourceinstancearn": arn}
        return keys

    return principal_keys


def _checking_each_resource(original: Any) -> Any:
    def enforce(key: str, action: str, service: str, region: str, resource_arn: str = "*", service_context: dict[str, Any] | None = None) -> Any:
        request = _request.get()
        if action in _ON_STREAMS:
            resource_arn += ":log-stream:any"
        name = action.partition(":")[2]
        if service != "ec2" or request is None or name not in _CHECKS:
            return original(key, action, service, region, resource_arn, service_context)
        try:
            checks = list(_CHECKS[name](request, f"arn:aws:ec2:{region}:{seams.responses.get_account_id()}"))
        except RequestRefused:
            checks = [(action, "*", {})]  # the request names nothing that exists: its own answer says so
        for checked, arn, context in checks:
            denied = original(key, checked, checked.partition(":")[0], region, arn, context)
            if denied is not None:
                return denied
        return None

    return enforce


def _create_fleet(request: dict[str, Any], prefix: str) -> Iterator[Check]:
    market = str(request.get("TargetCapacitySpecification", {}).get("DefaultTargetCapacityType") or "on-demand")
    tags = tags_of(request.get("TagSpecification", []), "instance")
    yield "ec2:CreateFleet", f"{prefix}:fleet/*", _request_tags(tags_of(request.get("TagSpecification", []), "fleet"))
    for config in request.get("LaunchTemplateConfigs", []):
        specification = config.get("LaunchTemplateSpecification", {})
        template = template_of(specification)
        arn = f"{prefix}:launch-template/{specification.get('LaunchTemplateId', '*')}"
        yield "ec2:CreateFleet", arn, _resource_tags(str(specification.get("LaunchTemplateId", "")))
        for override in config.get("Overrides", [{}]):
            yield from _launch_checks(template | override, arn, market, tags, prefix)
    for action in ("CreateFleet", "RunInstances"):
        yield from _create_tags_checks(tags, action, prefix)


def _run_instances(request: dict[str, Any], prefix: str) -> Iterator[Check]:
    specification = request.get("LaunchTemplate", {})
    template = template_of(specification) if specification else {}
    market = "spot" if request.get("InstanceMarketOptions", {}).get("MarketType") == "spot" else "on-demand"
    tags = tags_of(request.get("TagSpecification", []), "instance")
    arn = f"{prefix}:launch-template/{specification['LaunchTemplateId']}" if "LaunchTemplateId" in specification else None
    yield from _launch_checks(template | request, arn, market, tags, prefix)
    yield from _create_tags_checks(tags, "RunInstances", prefix)


def _launch_checks(data: dict[str, Any], template_arn: str | None, market: str, tags: dict[str, str], prefix: str) -> Iterator[Check]:
    region_prefix = prefix.rpartition(":")[0]
    common = {"ec2:LaunchTemplate": template_arn, "ec2:IsLaunchTemplateResource": "true"} if template_arn else {}
    options = data.get("MetadataOptions", {})
    instance = {
        "ec2:InstanceType": str(data.get("InstanceType", "")),
        "ec2:InstanceMarketType": market,
        "ec2:MetadataHttpEndpoint": str(options.get("HttpEndpoint", "enabled")),
        "ec2:MetadataHttpPutResponseHopLimit": str(options.get("HttpPutResponseHopLimit", 1)),
        "ec2:MetadataHttpTokens": str(options.get("HttpTokens", "optional")),
    }
    yield "ec2:RunInstances", f"{prefix}:instance/*", common | instance | _request_tags(tags)
    if template_arn:
        yield "ec2:RunInstances", template_arn, common | _resource_tags(template_arn.rpartition("/")[2])
    subnet_id = str(data.get("SubnetId") or seams.ec2._DEFAULT_SUBNET_ID)
    vpc_id = (seams.ec2._subnets.get(subnet_id) or {}).get("VpcId", "")
    # The call names the subnet, not the template: it is no resource of the template.
    in_vpc = {key: value for key, value in common.items() if key == "ec2:LaunchTemplate"} | {"ec2:Vpc": f"{prefix}:vpc/{vpc_id}"}
    yield "ec2:RunInstances", f"{prefix}:subnet/{subnet_id}", in_vpc | _resource_tags(subnet_id)
    yield "ec2:RunInstances", f"{region_prefix}::image/{data.get('ImageId', '*')}", common
    for kind in ("network-interface", "volume", *(["spot-instances-request"] if market == "spot" else [])):
        yield "ec2:RunInstances", f"{prefix}:{kind}/*", common
    for group in data.get("SecurityGroupIds", data.get("SecurityGroupId", [])):
        yield "ec2:RunInstances", f"{prefix}:security-group/{group}", common | _resource_tags(str(group))
    yield from _pass_role_checks(data.get("IamInstanceProfile") or {})


def _pass_role_checks(profile: dict[str, Any]) -> Iterator[Check]:
    if not profile:
        return
    record = seams.iam._lookup_instance_profile(name=profile.get("Name", ""), arn=profile.get("Arn", ""))
    for role in record["Roles"] if record else []:
        yield "iam:PassRole", seams.iam._roles[role]["Arn"], {"iam:PassedToService": "ec2.amazonaws.com"}


def _create_tags_checks(tags: dict[str, str], create_action: str, prefix: str) -> Iterator[Check]:
    if tags:
        yield "ec2:CreateTags", f"{prefix}:instance/*", _request_tags(tags) | {"ec2:CreateAction": create_action}


def _on_instances(action: str) -> Callable[[dict[str, Any], str], Iterator[Check]]:
    def checks(request: dict[str, Any], prefix: str) -> Iterator[Check]:
        for instance_id in request.get("InstanceId", []):
            yield action, f"{prefix}:instance/{instance_id}", _resource_tags(str(instance_id))

    return checks


def _create_tags(request: dict[str, Any], prefix: str) -> Iterator[Check]:
    tags = {tag["Key"]: tag.get("Value") or "" for tag in request.get("Tag", [])}
    for resource_id in request.get("ResourceId", []):
        kind = "instance" if str(resource_id).startswith("i-") else "*"
        yield "ec2:CreateTags", f"{prefix}:{kind}/{resource_id}", _request_tags(tags) | _resource_tags(str(resource_id))


def _request_tags(tags: dict[str, str]) -> dict[str, Any]:
    context: dict[str, Any] = {f"aws:RequestTag/{key}": value for key, value in tags.items()}
    return context | ({"aws:TagKeys": list(tags)} if tags else {})


def _resource_tags(resource_id: str) -> dict[str, Any]:
    context: dict[str, Any] = {}
    for tag in seams.ec2._tags.get(resource_id, []):
        context[f"aws:ResourceTag/{tag['Key']}"] = context[f"ec2:ResourceTag/{tag['Key']}"] = tag["Value"]
    return context


_CHECKS: dict[str, Callable[[dict[str, Any], str], Iterator[Check]]] = {
    "CreateFleet": _create_fleet,
    "RunInstances": _run_instances,
    "CreateTags": _create_tags,
    "TerminateInstances": _on_instances("ec2:TerminateInstances"),
    "StopInstances": _on_instances("ec2:StopInstances"),
    "StartInstances": _on_instances("ec2:StartInstances"),
    "RebootInstances": _on_instances("ec2:RebootInstances"),
}
