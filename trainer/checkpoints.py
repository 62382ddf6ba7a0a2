"""Checkpoints on disk: written aside, digested, published by one rename; verified whole before one is used.

A checkpoint lists what it holds in ``checkpoint.json``, written last. Whatever is missing, short or changed makes it no
checkpoint: it is passed over for the one before, never repaired by a default. (transformers itself resumes without a
word when optimizer.pt, scheduler.pt or rng_state.pth is missing, and starts those afresh.)
An older checkpoint is deleted only after a newer one is published; a passed-over one as well, for it may be evidence.
"""

import re
import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import Field

from jobspec.base import Document, FileDigest, Finite
from jobspec.checkpoint import CheckpointManifest, Identity
from jobspec.keys import CHECKPOINT_MANIFEST_NAME, checkpoint_folder
from jobspec.marker import FailureCode
from jobspec.wire import UnreadableDocument, dump, load
from trainer.digests import files_sha256
from trainer.durable import sealed, sync_folder, write_durably
from trainer.failures import TrainerFailure
from trainer.stop import StopSignal

STAGING_PREFIX = ".staging-"
CARRIED_NAME = "carried.json"
#: Without any of these a resumed run would take other steps than the uninterrupted one.
REQUIRED = ("adapter_model.safetensors", "adapter_config.json", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json", CARRIED_NAME)
#: Instead of the adapter's two, where every weight is trained.
REQUIRED_FULL = ("model.safetensors", "config.json", *REQUIRED[2:])
#: The best adapter so far, once there was an evaluation and the best is asked for.
BEST_NAME = "best.safetensors"
#: The gradient scaler's state: only a float16 run has one.
SCALER_NAME = "scaler.pt"
_STEP_FOLDER = re.compile(r"step-(\d{8,})")


class DamagedCheckpoint(Exception):
    """Why a folder is not a whole checkpoint."""


class Measurement(Document):
    """Held-out rows, measured: the method's own loss, and what else the method counts (reward, accuracy, margin)."""

    loss: Finite | None = None
    metrics: dict[str, Finite] = Field(default_factory=dict)


class Evaluations(Document):
    """What the evaluations during training have found so far. ``score``: lower is better (a loss, or a reward's negative)."""

    step: int = 0
    best_step: int = 0
    best_score: Finite | None = None
    #: Evaluations in a row without improvement.
    worse: int = 0
    stopped_early: bool = False
    #: The best adapter lies beside, in BEST_NAME.
    best_kept: bool = False


class Carried(Document):
    """What a run learned before its first step, or decided from its hardware, and must not do again on a resume."""

    dtype: str
    adapter: Literal["lora", "qlora", "full"] = "lora"
    #: How a GPU's share of the global batch is split; None where the run began before this was recorded: as the run file says.
    micro_batch_size: int | None = None
    before: Measurement = Measurement()
    sample_before: str = ""
    evaluations: Evaluations = Evaluations()


@dataclass(frozen=True, slots=True)
class Choice:
    """Where to start: the newest whole checkpoint, or the beginning; and what was passed over, with reasons."""

    folder: Path | None
    step: int
    carried: Carried | None
    passed_over: tuple[str, ...]
    #: GPUs that the checkpoint was made with.
    ranks: int = 1


@dataclass(frozen=True, slots=True)
class Draft:
    """A checkpoint in the making: its staging folder, and what its manifest will say."""

    folder: Path
    job_id: str
    step: int
    total_steps: int
    created_at: datetime
    identity: Identity


def verify(folder: Path, stop: StopSignal | None = None) -> CheckpointManifest:
    """The manifest of a whole checkpoint: every listed file has its size and sha256. Raises DamagedCheckpoint."""
    try:
        manifest = load(CheckpointManifest, (folder / CHECKPOINT_MANIFEST_NAME).read_bytes())
        carried = load(Carried, (folder / CARRIED_NAME).read_bytes())
    except FileNotFoundError as error:
        raise DamagedCheckpoint(f"{Path(error.filename).name} is missing") from None
    except (OSError, UnreadableDocument) as error:
        raise DamagedCheckpoint(f"unreadable: {error}") from None
    named = _STEP_FOLDER.fullmatch(folder.name)
    if named and int(named[1]) != manifest.step:
        raise DamagedCheckpoint(f"the folder's name and its manifest (step {manifest.step}) disagree")
    if unlisted := sorted(_needed(carried, manifest.identity.world_size) - {file.path for file in manifest.files}):
        raise DamagedCheckpoint(f"{', '.join(unlisted)} is not listed in {CHECKPOINT_MANIFEST_NAME}")
    for file in manifest.files:
        _verify_size(folder / file.path, file)
    for file, found in zip(manifest.files, files_sha256([folder / file.path for file in manifest.files], stop), strict=True):
        if found != file.sha256:
            raise DamagedCheckpoint(f"{file.path} is not what was written (sha256 differs)")
    return manifest


def _needed(carried: Carried, ranks: int) -> set[str]:
    """Names of the files that a run like this one cannot be resumed without."""
    needed = {*(REQUIRED_FULL if carried.adapter == "full" else REQUIRED)}
    if ranks > 1:
        needed = needed - {random_state_name(0, 1)} | {random_state_name(rank, ranks) for rank in range(ranks)}
    if carried.dtype == "float16":
        needed.add(SCALER_NAME)
    if carried.evaluations.best_kept:
        needed.add(BEST_NAME)
    return needed


def random_state_name(rank: int, ranks: int) -> str:
    """Of one process alone, or of a rank, as transformers names it."""
    return "rng_state.pth" if ranks == 1 else f"rng_state_{rank}.pth"


def _verify_size(path: Path, file: FileDigest) -> None:
    if path.is_symlink() or not path.is_file():
        raise DamagedCheckpoint(f"{file.path} is missing")
    size = path.stat().st_size
    if size != file.size:
        raise DamagedCheckpoint(f"{file.path} has {size} bytes where {file.size} were written")


@dataclass(slots=True)
class CheckpointStore:
    """The folder of a run's checkpoints: ``folder/step-00000120/``. ``keep`` newest whole ones are kept."""

    folder: Path
    keep: int
    now: Callable[[], datetime]
    #: Names of the passed-over ones: they do not count among those that are kept.
    distrusted: set[str] = field(default_factory=set)

    def open(self) -> None:
        """Make the folder, and remove what a writer that was ended in the middle left behind."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for left in self.folder.glob(f"{STAGING_PREFIX}*"):
            shutil.rmtree(left)

    def step_folders(self) -> list[Path]:
        """Every published folder, newest step first. Steps decide, never file times: a download resets those."""
        named = [(int(found[1]), path) for path in self.folder.iterdir() if path.is_dir() and (found := _STEP_FOLDER.fullmatch(path.name))]
        return [path for _, path in sorted(named, reverse=True)]

    def choose(self, identity: Identity, stop: StopSignal) -> Choice:
        """The newest whole checkpoint. Raises TrainerFailure (identity_changed) where it is of another run."""
        passed_over: list[str] = []
        for folder in self.step_folders():
            try:
                manifest = verify(folder, stop)
            except DamagedCheckpoint as damage:
                passed_over.append(f"{folder.name}: {damage}")
                self.distrusted.add(folder.name)
                continue
            if differences := identity.differences(manifest.identity):
                raise TrainerFailure(FailureCode.IDENTITY_CHANGED, _changed(folder.name, differences))
            carried = load(Carried, (folder / CARRIED_NAME).read_bytes())
            return Choice(folder, manifest.step, carried, tuple(passed_over), manifest.identity.world_size)
        return Choice(None, 0, None, tuple(passed_over))

    def draft(self, *, job_id: str, step: int, total_steps: int, identity: Identity) -> Draft:
        """A new staging folder for the checkpoint of ``step``; as old as this call, whenever it is published."""
        staging = self.folder / f"{STAGING_PREFIX}{uuid.uuid4().hex}"
        staging.mkdir()
        return Draft(staging, job_id, step, total_steps, self.now(), identity)

    def publish(self, draft: Draft, write: Callable[[Path], None]) -> Path:
        """Let ``write`` fill (the rest of) the draft's folder, then publish it as the checkpoint of its step and delete older ones.

        Whatever ``write`` raises, the staging folder is removed and every published checkpoint is left as it was.
        """
        staging, target = draft.folder, self.folder / checkpoint_folder(draft.step)
        try:
            write(staging)
            manifest = CheckpointManifest(
                job_id=draft.job_id,
                step=draft.step,
                total_steps=draft.total_steps,
                created_at=draft.created_at,
                identity=draft.identity,
                files=tuple(sealed(staging)),
            )
            write_durably(staging / CHECKPOINT_MANIFEST_NAME, dump(manifest))
            sync_folder(staging)
            if target.exists():  # a passed-over one of the same step
                target.rename(self.folder / f"{STAGING_PREFIX}replaced-{uuid.uuid4().hex}")
            staging.rename(target)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
        sync_folder(self.folder)
        self.distrusted.discard(target.name)
        self._prune()
        return target

    def _prune(self) -> None:
        trusted = [folder for folder in self.step_folders() if folder.name not in self.distrusted]
        kept = {folder.name for folder in trusted[: self.keep]}
        for folder in self.folder.iterdir():
            if folder.name.startswith(STAGING_PREFIX) or (_STEP_FOLDER.fullmatch(folder.name) and folder.name not in kept):
                shutil.rmtree(folder)
        self.distrusted &= kept


def _changed(name: str, differences: list[str]) -> str:
    shown = "; ".join(differences[:12]) + (f"; and {len(differences) - 12} more" if len(differences) > 12 else "")
    return (
        f"the newest whole checkpoint, {name}, is of another run, so it is neither continued nor thrown away. Different: {shown}. "
        "Put back what was changed, or submit the changed manifest as a new job."
    )
