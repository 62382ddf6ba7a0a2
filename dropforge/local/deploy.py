"""The template into the cloud, as ``sam deploy`` does it: translated, packaged, created or updated, its failures told.

The package is the source of ``CodeUri`` alone; dependencies come from ``.venv-lambda``, as they come from layers or a build
elsewhere.
"""

import hashlib
import io
import json
import re
import time
import zipfile
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import ClientError

from dropforge.local.state import CloudState, LocalCloudError
from dropforge.parameters import refusals
from dropforge.translation import NotTranslatable, Template, read, translated

PEER_TEMPLATE = Path(__file__).resolve().parents[2] / "region.yaml"
ARTIFACT_BUCKET = "dropforge-local-artifacts"
DEPLOYED_WITHIN_S = 120
#: CreateStack, StackName (CloudFormation API reference).
STACK_NAME = re.compile(r"[a-zA-Z][-a-zA-Z0-9]{0,127}")
LOOK_EVERY_S = 0.2
#: CloudFormation quotes whole templates in its messages; what is wrong comes last.
MESSAGE_CHARACTERS = 600
#: The least of an image manifest.
EMPTY_IMAGES = {tag: json.dumps({"schemaVersion": 2, "layers": [], "annotations": {"tag": tag}}) for tag in ("latest", "latest-agent")}
#: A package is the same bytes for the same sources, so that an unchanged function is not updated.
_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)


def session_of(cloud: CloudState) -> boto3.Session:
    """A boto3 session with the cloud's throw-away administrator; clients still need ``endpoint_url``."""
    return boto3.Session(aws_access_key_id=cloud.access_key_id, aws_secret_access_key=cloud.secret_access_key, region_name=cloud.region)


def client_of(cloud: CloudState, service: str, region: str | None = None) -> Any:
    """A client in the home region, or in another one of the same cloud."""
    return session_of(cloud).client(service, region_name=region, endpoint_url=cloud.endpoint)  # type: ignore[call-overload]  # the stubs know literal names only


def deploy(cloud: CloudState, template: Path, parameters: dict[str, str]) -> dict[str, str]:
    """Create or update the stack; returns its outputs. Raises LocalCloudError with CloudFormation's own reasons."""
    return _deploy(cloud, template, parameters, cloud.stack, cloud.region)


def check(template: Path, parameters: dict[str, str], stack: str) -> None:
    """Raises LocalCloudError for what CloudFormation would refuse at once: the stack's name, an answer."""
    if not STACK_NAME.fullmatch(stack):
        raise LocalCloudError(f"--stack {stack!r}: a stack's name has letters, digits and hyphens, begins with a letter, and has 128 characters at most.")
    wrong = refusals(_read(template), parameters)
    if wrong:
        raise LocalCloudError(" ".join(wrong))


def deploy_peer(cloud: CloudState, home: dict[str, str], region: str) -> dict[str, str]:
    """The stack of another region, told what the home stack's output ``PeerParameters`` says, as docs/deployment.md does it."""
    parameters = dict(pair.split("=", 1) for pair in home["PeerParameters"].split())
    return _deploy(cloud, PEER_TEMPLATE, parameters, f"{cloud.stack}-region", region)


def _deploy(cloud: CloudState, template: Path, parameters: dict[str, str], stack: str, region: str) -> dict[str, str]:
    check(template, parameters, stack)
    try:
        plain = translated(_packaged(cloud, template), region)
    except NotTranslatable as refused:
        raise LocalCloudError(f"The SAM transform refused {template}: {refused}") from None
    address = _upload(cloud, json.dumps(plain).encode(), "template.json")
    formation = client_of(cloud, "cloudformation", region)
    request = {
        "StackName": stack,
        # By address: in the request itself 51,200 bytes are the limit, and a translated template is larger.
        "TemplateURL": address,
        "Parameters": [{"ParameterKey": key, "ParameterValue": value} for key, value in sorted(parameters.items())],
        "Capabilities": ["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM"],
    }
    try:
        if _exists(formation, stack):
            formation.update_stack(**request)
        else:
            formation.create_stack(**request)
    except ClientError as refused:
        if "No updates are to be performed" not in str(refused):
            raise LocalCloudError(f"CloudFormation refused {template}: {refused.response['Error']['Message'][-MESSAGE_CHARACTERS:]}") from None
    return _outputs(formation, stack)


def push_image(cloud: CloudState, outputs: dict[str, str]) -> None:
    """An image without layers as ``latest`` of the stack's repository, if it has one and nothing is there yet.

    What instances run here is this checkout (dropforge/local/shims/docker); whoever asks the registry finds an image all the same.
    """
    repository = outputs.get("RepositoryUri", "").partition("/")[2]
    ecr = client_of(cloud, "ecr")
    if repository and not ecr.list_images(repositoryName=repository)["imageIds"]:
        for tag, manifest in EMPTY_IMAGES.items():
            ecr.put_image(repositoryName=repository, imageTag=tag, imageManifest=manifest)


def declared_parameters(template: Path) -> set[str]:
    """The names of the template's parameters."""
    return set(_read(template).get("Parameters", {}))


def _read(template: Path) -> Template:
    try:
        return read(template)
    except NotTranslatable as problem:
        raise LocalCloudError(str(problem)) from None
    except OSError as problem:
        raise LocalCloudError(f"There is no readable template at {template} ({problem.strerror}). Run from the repository, or name one.") from None


def _packaged(cloud: CloudState, template: Path) -> Template:
    """The template with every local CodeUri uploaded and replaced by its S3 address."""
    document = _read(template)
    client_of(cloud, "s3").create_bucket(Bucket=ARTIFACT_BUCKET)
    places = [document.get("Globals", {}).get("Function", {})] + [
        resource.get("Properties", {}) for resource in document["Resources"].values() if resource.get("Type") == "AWS::Serverless::Function"
    ]
    for place in places:
        uri = place.get("CodeUri")
        if isinstance(uri, str) and not uri.startswith("s3://"):
            address = _upload(cloud, package(template.parent / uri), "code.zip")
            place["CodeUri"] = f"s3://{ARTIFACT_BUCKET}/{address.rsplit('/', 1)[-1]}"
    return document


def _upload(cloud: CloudState, body: bytes, suffix: str) -> str:
    """The https-style address of the bytes in the artifact bucket, named by their digest."""
    key = f"{hashlib.sha256(body).hexdigest()}-{suffix}"
    client_of(cloud, "s3").put_object(Bucket=ARTIFACT_BUCKET, Key=key, Body=body)
    return f"{cloud.endpoint}/{ARTIFACT_BUCKET}/{key}"


def package(folder: Path) -> bytes:
    """The folder's sources as a zip; equal sources give equal bytes."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                entry = zipfile.ZipInfo(str(path.relative_to(folder)), _ZIP_EPOCH)
                entry.external_attr = 0o644 << 16
                archive.writestr(entry, path.read_bytes())
    return packed.getvalue()


def _exists(formation: Any, stack: str) -> bool:
    try:
        formation.describe_stacks(StackName=stack)
    except ClientError:
        return False
    return True


def _outputs(formation: Any, stack: str) -> dict[str, str]:
    until = time.monotonic() + DEPLOYED_WITHIN_S
    while time.monotonic() < until:
        found = formation.describe_stacks(StackName=stack)["Stacks"][0]
        status = found["StackStatus"]
        if status in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
            return {output["OutputKey"]: output["OutputValue"] for output in found.get("Outputs", [])}
        if not status.endswith("IN_PROGRESS"):
            raise LocalCloudError(f"The stack {stack} is {status}. {_failures(formation, stack)}")
        time.sleep(LOOK_EVERY_S)
    raise LocalCloudError(f"The stack {stack} was not ready after {DEPLOYED_WITHIN_S} s. `dropforge local logs` shows what the emulator did.")


def _failures(formation: Any, stack: str) -> str:
    events = formation.describe_stack_events(StackName=stack)["StackEvents"]
    failed = [
        f"{event['LogicalResourceId']} ({event['ResourceType']}): {event.get('ResourceStatusReason', 'no reason given')}"
        for event in reversed(events)
        if event["ResourceStatus"].endswith("FAILED")
    ]
    return " ".join(failed) or "CloudFormation gave no reason."
