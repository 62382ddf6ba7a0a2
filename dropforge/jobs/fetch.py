"""The model, or the newest checkpoint, onto this machine: every file held to the size and sha256 that its instance recorded."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click

from dropforge.jobs.find import place_of, read_object, read_status
from dropforge.stack import Stack
from jobspec import keys, wire
from jobspec.base import FileDigest
from jobspec.checkpoint import CheckpointManifest
from jobspec.marker import CompletionMarker
from jobspec.status import Status, SweepStatus

_PIECE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Parcel:
    """Files to fetch: ``prefix`` in the outputs bucket, and each file's path below it, size and digest."""

    prefix: str
    files: tuple[FileDigest, ...]

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)


def model_of(stack: Stack, status: Status) -> Parcel:
    """What the completion marker lists below ``final/``; of a sweep, that of its best job. Raises ClickException where there is no model."""
    if status.sweep is not None and status.sweep.best is not None:
        status = _best_of(stack, status, status.sweep)
    if status.model is None:
        raise click.ClickException(
            f"{status.name} has no model: it is {status.state} ({status.reason})." + (" Its newest checkpoint: --checkpoint." if status.checkpoint else "")
        )
    _, prefix = place_of(status.model)
    run = prefix.removesuffix("final/")
    body = read_object(stack, stack.outputs_bucket, run + keys.MARKER_NAME)
    if body is None:
        raise click.ClickException(
            f"s3://{stack.outputs_bucket}/{run}{keys.MARKER_NAME} is gone, so nothing can be checked. `aws s3 cp --recursive {status.model} .`"
        )
    marker = wire.load(CompletionMarker, body)
    return Parcel(prefix, tuple(file.model_copy(update={"path": file.path.removeprefix("final/")}) for file in marker.files if file.path.startswith("final/")))


def _best_of(stack: Stack, status: Status, sweep: SweepStatus) -> Status:
    """The job that the sweep names, and no later one of its name: of that one the last status is kept as a receipt, by the month of its acceptance."""
    (best,) = (job for job in sweep.jobs if job.name == sweep.best)
    found = read_status(stack, best.name)
    if found is not None and found.job_id == best.job_id:
        return found
    assert best.job_id is not None, "the best job has run"
    for at in (status.updated_at, status.accepted_at):
        body = read_object(stack, stack.data_bucket, keys.receipt_key(at, best.job_id))
        if body is not None:
            return wire.load(Status, body)
    raise click.ClickException(
        f"{best.job_id}, the best of {status.name}, is on record no more; its files: aws s3 ls s3://{stack.outputs_bucket}/{keys.RUN_PREFIX}{best.job_id}/"
    )


def checkpoint_of(stack: Stack, status: Status) -> Parcel:
    """What the newest published checkpoint's own manifest lists. Raises ClickException where there is none."""
    if status.checkpoint is None:
        raise click.ClickException(f"{status.name} has published no checkpoint yet: it is {status.state} ({status.reason}).")
    _, key = place_of(status.checkpoint)
    body = read_object(stack, stack.outputs_bucket, key)
    if body is None:
        raise click.ClickException(f"{status.checkpoint} is gone: checkpoints of finished jobs expire. `dropforge download {status.name}` fetches the model.")
    return Parcel(key.removesuffix(keys.CHECKPOINT_MANIFEST_NAME), wire.load(CheckpointManifest, body).files)


def fetch(stack: Stack, parcel: Parcel, folder: Path, *, force: bool, progress: Callable[[int], None]) -> int:
    """Downloads into ``folder`` and verifies; what lies there whole already is kept. Returns how many files were fetched.

    Raises ClickException, and leaves the file out, where one differs from its record or another file is in its place.
    """
    fetched = 0
    for file in parcel.files:
        target = folder / file.path
        if target.exists():
            if _sha256(target) == file.sha256:
                progress(file.size)
                continue
            if not force:
                raise click.ClickException(f"{target} is there already and is another file. Download elsewhere (--to), or replace it (--force).")
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.part")
        stack.s3.download_file(stack.outputs_bucket, parcel.prefix + file.path, str(part), Callback=progress)
        if (found := _sha256(part)) != file.sha256:
            part.unlink()
            raise click.ClickException(
                f"s3://{stack.outputs_bucket}/{parcel.prefix}{file.path} is not the file that was recorded "
                f"(sha256 {found[:12]}..., recorded {file.sha256[:12]}...). It was not kept."
            )
        part.replace(target)
        fetched += 1
    return fetched


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()
