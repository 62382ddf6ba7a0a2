"""What a person asks of the control plane, asked as anyone may ask: by objects put into the bucket, or deleted from it."""

import json
from datetime import UTC, datetime

import click
from botocore.exceptions import ClientError

from dropforge.jobs.find import ENDS, place_of, read_status
from dropforge.manifests.checked import checked
from dropforge.stack import Stack
from jobspec import keys
from jobspec.children import alone
from jobspec.manifest import Manifest
from jobspec.reading import past_deadline
from jobspec.status import Status
from jobspec.tree import read_tree


def key_for(file_name: str) -> str:
    """Where a manifest file of that name is put. Raises ClickException for a name that no rule would hear of."""
    key = f"{keys.MANIFEST_PREFIX}{file_name}"
    if not keys.is_manifest_key(key):
        raise click.ClickException(f"{file_name}: rename it to NAME.yaml, .yml or .json, of letters, digits, dot, hyphen and underscore.")
    return key


def put(stack: Stack, key: str, body: bytes) -> None:
    stack.s3.put_object(Bucket=stack.data_bucket, Key=key, Body=body)


def manifest_of(stack: Stack, status: Status) -> tuple[str, bytes]:
    """Key and text of what makes that job again: the very version that it ran; of a sweep's or a schedule's job, a manifest of its own.

    Raises ClickException where that version is gone for good.
    """
    key, body = _stored_manifest(stack, status)
    if status.parent is None:
        return key, body
    whole = checked(body, key, status.manifest)
    written = read_tree(body.decode("utf-8-sig")).value
    assert isinstance(written, dict), "a valid manifest is a mapping"
    own = alone(written, whole, status.name)
    if own is None:
        raise click.ClickException(f"{status.manifest} makes no job {status.name} any more. The whole: dropforge retry {status.parent}")
    return f"{keys.MANIFEST_PREFIX}{status.name}.json", json.dumps(own, indent=1).encode()


def _stored_manifest(stack: Stack, status: Status) -> tuple[str, bytes]:
    bucket, key = place_of(status.manifest)
    try:
        body: bytes = stack.s3.get_object(Bucket=bucket, Key=key, VersionId=status.manifest_version)["Body"].read()
    except ClientError as error:
        if error.response["Error"].get("Code") not in ("NoSuchKey", "NoSuchVersion", "404"):
            raise
        raise click.ClickException(f"Version {status.manifest_version} of {status.manifest} is gone. Put the manifest itself: dropforge submit FILE") from None
    return key, body


def refuse_beside_active(stack: Stack, manifest: Manifest, key: str) -> None:
    """Raises ClickException where a job of that name is not over: the stack would refuse the manifest, and who follows the name would follow that job."""
    try:
        found = read_status(stack, manifest.name)
    except ClientError:
        return  # who may put may not always look, and then the stack says it
    if found is None or found.state in ENDS:
        return
    if found.schedule is not None and manifest.schedule is not None and place_of(found.manifest) == (stack.data_bucket, key):
        return  # a schedule is changed by its manifest
    raise click.ClickException(
        f"Not sent, for it would be refused: {found.job_id} is active ({found.state}). Give this one another name; or end that one first: "
        f"dropforge cancel {found.name}"
    )


def refuse_past_deadline(manifest: Manifest, now: datetime) -> None:
    if manifest.limits.deadline is not None and past_deadline(manifest, now):
        raise click.ClickException(f"Its limits.deadline, {manifest.limits.deadline:%Y-%m-%d %H:%M} UTC, is past. Set a later one, then: dropforge submit FILE")


def now() -> datetime:
    return datetime.now(UTC)
