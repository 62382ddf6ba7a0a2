"""What the ranks of several instances agree on before they train: that all have the same run before them, and the leader's checkpoint.

Only the leader writes checkpoints, so after a start anew only its disk has the newest. It sends it to the others, which verify it whole.
"""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from jobspec.checkpoint import CheckpointManifest, Identity
from jobspec.keys import CHECKPOINT_MANIFEST_NAME
from jobspec.marker import FailureCode
from jobspec.wire import dump, load
from trainer.checkpoints import STAGING_PREFIX, Choice, DamagedCheckpoint, verify
from trainer.digests import file_sha256
from trainer.durable import write_durably
from trainer.failures import TrainerFailure


def agreed(group: Any, identity: Identity, choice: Choice, folder: Path, *, writes: bool) -> Choice:
    """The leader's choice, its files below ``folder`` here too (brought by the rank that ``writes``). Raises TrainerFailure where the runs differ."""
    theirs: Identity = group.of_first(identity)
    if differences := identity.differences(theirs):
        raise TrainerFailure(FailureCode.IDENTITY_CHANGED, f"this instance and the leader have other runs before them. Different: {'; '.join(differences)}.")
    first: Choice = group.of_first(choice)
    if first.folder is None:
        return first
    here = folder / first.folder.name
    digest = group.of_first(_digest(here))
    if group.any(_digest(here) != digest):
        _bring(group, here, writes=writes and not group.first)
    return replace(first, folder=here)


def _digest(folder: Path) -> str:
    path = folder / CHECKPOINT_MANIFEST_NAME
    return file_sha256(path) if path.is_file() else ""


def _bring(group: Any, here: Path, *, writes: bool) -> None:
    manifest = load(CheckpointManifest, group.of_first(_manifest_body(here)))
    staging = here.with_name(f"{STAGING_PREFIX}brought-{group.rank}")
    if writes:
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
    for file in manifest.files:
        group.copy(here / file.path, file.size, staging / file.path if writes else None)
    if writes:
        write_durably(staging / CHECKPOINT_MANIFEST_NAME, dump(manifest))
        try:
            verify(staging)
        except DamagedCheckpoint as damage:
            raise TrainerFailure(FailureCode.TRAINER_ERROR, f"the leader's checkpoint did not arrive whole: {damage}") from None
        shutil.rmtree(here, ignore_errors=True)
        staging.rename(here)
    group.any(False)  # nobody reads before all is there


def _manifest_body(here: Path) -> bytes:
    path = here / CHECKPOINT_MANIFEST_NAME
    return path.read_bytes() if path.is_file() else b""
