"""A checkpoint's own manifest, ``checkpoint.json``: written last, locally and in S3; a folder without it is no checkpoint."""

from typing import Annotated, Literal

from pydantic import Field

from jobspec.base import Document, FileDigest, Sha256, Step, UtcTime


class Identity(Document):
    """What a checkpoint is a checkpoint *of*. Two runs with equal identities take the same steps.

    A resume under another identity is refused with the names of the fields that differ. ``world_size``, the number of GPUs, may
    change: a step is a step of the same rows then, only dropout is drawn anew (docs/training.md, "Several GPUs").
    """

    model_sha256: Sha256
    data_sha256: Sha256
    #: Canonical JSON values of every setting that changes the steps (learning rate, batch, seed, adapter, ...).
    settings: dict[str, str | int | float | bool | None]
    #: Versions of the libraries that do the arithmetic.
    libraries: dict[str, str]
    world_size: Annotated[int, Field(ge=1)] = 1

    def differences(self, other: "Identity") -> list[str]:
        """One line for each field that differs: ``settings.learning_rate: 0.0002 here, 0.001 in the checkpoint``."""
        lines = []
        for field in ("model_sha256", "data_sha256"):
            mine, theirs = getattr(self, field), getattr(other, field)
            if mine != theirs:
                lines.append(f"{field}: {mine} here, {theirs} in the checkpoint")
        for field in ("settings", "libraries"):
            mine, theirs = getattr(self, field), getattr(other, field)
            for key in sorted(mine.keys() | theirs.keys()):
                if mine.get(key) != theirs.get(key):
                    lines.append(f"{field}.{key}: {mine.get(key)!r} here, {theirs.get(key)!r} in the checkpoint")
        return lines


class CheckpointManifest(Document):
    """Everything the checkpoint holds. Files are relative to the checkpoint's folder; a missing one is an error."""

    version: Literal[1] = 1
    job_id: str
    step: Step
    total_steps: Step
    created_at: UtcTime
    identity: Identity
    files: tuple[FileDigest, ...]
