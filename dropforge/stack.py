"""Where a stack is: its buckets and resources, found through the usual AWS settings or the running local cloud."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import boto3
import click
from botocore.config import Config
from botocore.exceptions import ClientError

#: Requests of one client at once: a list of a thousand jobs reads a thousand small objects.
CONNECTIONS = 32
#: A person waits for the answer.
_PATIENCE = Config(connect_timeout=5, read_timeout=30, max_pool_connections=CONNECTIONS, retries={"mode": "standard", "total_max_attempts": 4})


@dataclass(frozen=True, slots=True)
class Stack:
    """A deployed stack's buckets, and the client that reaches them. ``read_buckets``: others that its jobs may read from."""

    name: str
    data_bucket: str
    outputs_bucket: str
    s3: Any
    read_buckets: tuple[str, ...] = ()

    @property
    def region(self) -> str:
        """The home region, which its buckets are in."""
        name: str = self.s3.meta.region_name
        return name


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource of a stack. ``physical_id`` is what its own service calls it (a name, an ARN or an address: it depends on the type)."""

    logical_id: str
    kind: str
    physical_id: str


class Deployment:
    """A deployed stack seen through its resources, whatever its outputs say. What AWS was asked once is not asked again."""

    def __init__(self, description: dict[str, Any], session: boto3.Session) -> None:
        self.name: str = description["StackName"]
        self.status: str = description["StackStatus"]
        self.status_reason: str = description.get("StackStatusReason", "")
        self.parameters: dict[str, str] = {item["ParameterKey"]: item.get("ParameterValue", "") for item in description.get("Parameters", [])}
        # arn:PARTITION:cloudformation:REGION:ACCOUNT:stack/NAME/UUID
        _, self.partition, _, self.region, self.account_id, _ = description["StackId"].split(":", 5)
        self._session = session
        self._clients: dict[tuple[str, str], Any] = {}

    @property
    def peers(self) -> tuple[str, ...]:
        """The other regions that its jobs may run in (docs/adr/0016)."""
        return tuple(filter(None, self.parameters.get("PeerRegions", "").split(",")))

    @property
    def regions(self) -> tuple[str, ...]:
        """The home region, and its peers."""
        return (self.region, *self.peers)

    def client(self, service: str, region: str | None = None) -> Any:
        """In the home region where none is named."""
        key = service, region or self.region
        if key not in self._clients:
            self._clients[key] = self._session.client(service, region_name=key[1], config=_PATIENCE)  # type: ignore[call-overload]  # the stubs know literal names only
        return self._clients[key]

    @cached_property
    def resources(self) -> tuple[Resource, ...]:
        """Everything in the stack that has been made and not deleted."""
        pages = self.client("cloudformation").get_paginator("list_stack_resources").paginate(StackName=self.name)
        return tuple(
            Resource(item["LogicalResourceId"], item["ResourceType"], item["PhysicalResourceId"])
            for page in pages
            for item in page["StackResourceSummaries"]
            if item.get("PhysicalResourceId") and item["ResourceStatus"] != "DELETE_COMPLETE"
        )

    def of_kind(self, kind: str) -> tuple[Resource, ...]:
        """Resources of a CloudFormation type, such as ``AWS::Lambda::Function``."""
        return tuple(resource for resource in self.resources if resource.kind == kind)

    def physical_id(self, logical_id: str) -> str:
        """Raises click.ClickException where the stack has no such resource: then it is another template's, or not whole."""
        for resource in self.resources:
            if resource.logical_id == logical_id:
                return resource.physical_id
        raise click.ClickException(
            f"Stack {self.name} ({self.status}) has no {logical_id}: it is not a Dropforge stack, or it is not whole. Name yours with --stack."
        )

    @cached_property
    def functions(self) -> dict[str, dict[str, Any]]:
        """The configuration of every function, by logical id (GetFunctionConfiguration). One that somebody deleted by hand is missing."""
        found: dict[str, dict[str, Any]] = {}
        for function in self.of_kind("AWS::Lambda::Function"):
            try:
                found[function.logical_id] = dict(self.client("lambda").get_function_configuration(FunctionName=function.physical_id))
            except ClientError as error:
                if error.response["Error"].get("Code") != "ResourceNotFoundException":
                    raise
        return found

    def setting(self, name: str) -> str | None:
        """What the stack tells its functions under this name; None where no function has it."""
        found = (function.get("Environment", {}).get("Variables", {}).get(name) for function in self.functions.values())
        return next((value for value in found if value), None)


def new_session() -> boto3.Session:
    """Account, region and endpoint by the usual AWS settings."""
    return boto3.Session()


def find_stack(name: str) -> Stack:
    """The stack of that name in the account and region that the AWS settings name. Raises ClickException with the next command."""
    session = new_session()
    description = _described(session, name)
    outputs = {item["OutputKey"]: item["OutputValue"] for item in description.get("Outputs", [])}
    read = next((item["ParameterValue"] for item in description.get("Parameters", []) if item["ParameterKey"] == "ReadBuckets"), "")
    try:
        buckets = outputs["DataBucketName"], outputs["OutputsBucketName"]
        return Stack(name, *buckets, session.client("s3", config=_PATIENCE), tuple(read.split(",")) if read else ())
    except KeyError as error:
        raise click.ClickException(f"Stack {name!r} has no output {error}: it is not a Dropforge stack. Name yours with --stack.") from None


def find_deployment(name: str) -> Deployment:
    """As ``find_stack``, with everything in it."""
    session = new_session()
    return Deployment(_described(session, name), session)


def _described(session: boto3.Session, name: str) -> dict[str, Any]:
    client = session.client("cloudformation", config=_PATIENCE)
    try:
        return dict(client.describe_stacks(StackName=name)["Stacks"][0])
    except ClientError as error:
        if error.response["Error"].get("Code") != "ValidationError":
            raise
        where = f"in {client.meta.region_name}, by the credentials in use"
        raise click.ClickException(
            f"There is no stack {name!r} {where}. Another region: AWS_DEFAULT_REGION or AWS_PROFILE. Another name: --stack. None yet: `sam deploy --guided`."
        ) from None
