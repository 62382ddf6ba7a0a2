"""What the emulator's policy evaluation lacks and the stack's roles lean on.

* Statements are matched by ``dropforge.local.iam``, the project's one evaluator; which layers of policies there are, and whose, stays
  ministack's business.
* EC2: each resource of a call is checked with its own keys, and a launch also needs CreateTags and ``iam:PassRole``
  (``dropforge.local.iam.launches``).
* S3: the keys of conditional writes (S3 guide, "Enforce conditional writes").
* DynamoDB: ``dynamodb:LeadingKeys`` of calls on one item (DynamoDB guide, "Using IAM policy conditions"). Other calls carry
  none here, so a statement that demands it refuses them.
"""

import contextvars
import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from dropforge.local.iam.launches import requests
from dropforge.local.iam.policies import Request, Statement
from dropforge.local.plugin import seams
from dropforge.local.plugin.asked import RequestRefused, template_of
from dropforge.local.plugin.query import nest

#: CloudWatch Logs looks for these at the stream's ARN, below the group's (Service Authorization Reference), ministack at the group's.
_ON_STREAMS = frozenset({"logs:CreateLogStream", "logs:PutLogEvents"})
_request: contextvars.ContextVar[dict[str, Any] | None] = contextvars.ContextVar("dropforge_ec2_request", default=None)


def install() -> None:
    """Wrap the evaluator: our matching of every statement, resource-level checks for EC2's calls."""
    seams.wrap("core.iam_evaluator", "_first_match", _by_the_one_evaluator)
    seams.wrap("core.iam_actions", "request_tag_context", _noting_request)
    seams.wrap("core.iam_actions", "s3_service_context", _with_conditional_writes)
    seams.wrap("core.iam_actions", "dynamodb_service_context", _with_leading_keys)
    seams.wrap("core.iam_evaluator", "enforce", _checking_each_resource)
    seams.wrap("core.iam_evaluator", "_principal_keys", _with_instance_keys)
    # Loopback stands for TLS here: a policy that demands aws:SecureTransport must not refuse everything.
    seams.wrap("app", "pin_request_origin", lambda original: lambda source_ip, secure: original(source_ip, True))


def _by_the_one_evaluator(original: Any) -> Any:
    def first_match(context: Any, statements: list[Any], effect: str) -> Any:
        return next((parsed for parsed in statements if parsed.effect == effect and _speaks_of(parsed, context)), None)

    return first_match


def _speaks_of(parsed: Any, context: Any) -> bool:
    """Raises NotKnown for a policy that the evaluator does not know: the emulator then answers with a fault, not with a guess."""
    # A trust policy names no resource.
    resources = tuple(parsed.resources) or (() if parsed.not_resources else ("*",))
    actions, but_actions, but_resources = tuple(parsed.actions), tuple(parsed.not_actions), tuple(parsed.not_resources)
    statement = Statement("", parsed.sid, parsed.effect == "Allow", actions, but_actions, resources, but_resources, parsed.conditions, None)
    keys = {key: value for key in statement.reads() if (value := _key(key, context)) is not None}
    return statement.speaks_of(Request(context.action, context.resource_arn, keys))


def _key(name: str, context: Any) -> str | tuple[str, ...] | None:
    value = seams.iam_evaluator._resolve_condition_key(name, context)
    if value is None:
        return None
    return tuple(str(one) for one in value) if isinstance(value, list | tuple) else str(value)


def _noting_request(original: Any) -> Any:
    def request_tag_context(service: str, iam_action: str, body: bytes, params: dict[str, Any]) -> dict[str, Any]:
        _request.set(nest(params) if service == "ec2" else None)
        context: dict[str, Any] = original(service, iam_action, body, params)
        return context | (_event_sources(body) if iam_action == "events:PutEvents" else {})

    return request_tag_context


def _event_sources(body: bytes) -> dict[str, Any]:
    """``events:source`` may hold several values (Service Authorization Reference)."""
    return {"events:source": sorted({str(entry.get("Source", "")) for entry in json.loads(body or b"{}").get("Entries", [])})}


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
        if service != "ec2" or request is None:
            return original(key, action, service, region, resource_arn, service_context)
        facts = _Emulated(f"arn:aws:ec2:{region}:{seams.responses.get_account_id()}")
        checks = requests(action.partition(":")[2], _as_boto3_has_it(request), facts)
        if checks is None:
            return original(key, action, service, region, resource_arn, service_context)
        try:
            asked = list(checks)
        except RequestRefused:
            asked = [Request(action, "*")]  # the request names nothing that exists: its own answer says so
        for one in asked:
            context = {name: list(value) if isinstance(value, tuple) else value for name, value in one.context.items()}
            denied = original(key, one.action, one.action.partition(":")[0], region, one.resource, context)
            if denied is not None:
                return denied
        return None

    return enforce


#: Names of the query protocol that boto3 has in the plural.
_PLURAL = {
    **{name: f"{name}s" for name in ("TagSpecification", "Tag", "InstanceId", "SecurityGroupId", "BlockDeviceMapping")},
    "ResourceId": "Resources",
}


def _as_boto3_has_it(request: Any) -> Any:
    if isinstance(request, dict):
        return {_PLURAL.get(key, key): _as_boto3_has_it(value) for key, value in request.items()}
    return [_as_boto3_has_it(value) for value in request] if isinstance(request, list) else request


@dataclasses.dataclass(frozen=True)
class _Emulated:
    """What the emulator knows (``dropforge.local.iam.launches.Facts``)."""

    prefix: str

    def template(self, specification: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"SubnetId": seams.ec2._DEFAULT_SUBNET_ID, **template_of(dict(specification))}

    def tags(self, resource_id: str) -> dict[str, str]:
        return {tag["Key"]: tag["Value"] for tag in seams.ec2._tags.get(resource_id, [])}

    def vpc(self, subnet_id: str) -> str:
        return str((seams.ec2._subnets.get(subnet_id) or {}).get("VpcId", ""))

    def roles(self, profile: Mapping[str, str]) -> list[str]:
        record = seams.iam._lookup_instance_profile(name=profile.get("Name", ""), arn=profile.get("Arn", "")) if profile else None
        return [seams.iam._roles[role]["Arn"] for role in record["Roles"]] if record else []
