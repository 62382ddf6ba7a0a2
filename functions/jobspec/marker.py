"""The completion marker, ``completion.json``: an attempt's one last word, written once with ``If-None-Match: *``.

An interrupted attempt writes none: it hands over (heartbeat phase ``handed_over``) and its job goes on elsewhere.
"""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, model_validator

from jobspec.base import Attempt, Document, FileDigest, Finite, InstanceId, JobId, Step, Text, UtcTime


class Outcome(StrEnum):
    COMPLETED = "completed"
    FAILED = "failed"
    STOPPED = "stopped"  # on a stop order or the instance's own timer, after a last save


class FailureCode(StrEnum):
    """Why an attempt failed: names the remedy. RETRYABLE ones may do better on another instance."""

    DATA_MISSING = "data_missing"
    DATA_EMPTY = "data_empty"
    DATA_INVALID = "data_invalid"
    MODEL_MISSING = "model_missing"
    MODEL_INVALID = "model_invalid"
    ACCESS_DENIED = "access_denied"
    IDENTITY_CHANGED = "identity_changed"
    OUT_OF_MEMORY = "out_of_memory"
    NOT_FINITE = "not_finite"
    TRAINER_ERROR = "trainer_error"
    TRAINER_KILLED = "trainer_killed"
    DISK_FULL = "disk_full"
    UPLOAD_FAILED = "upload_failed"
    NO_HEARTBEAT = "no_heartbeat"
    AGENT_ERROR = "agent_error"
    IMAGE_NOT_PULLED = "image_not_pulled"
    GPU_IDLE = "gpu_idle"  # the control plane's own: no agent says it


RETRYABLE = frozenset(
    {
        FailureCode.TRAINER_KILLED,
        FailureCode.DISK_FULL,
        FailureCode.UPLOAD_FAILED,
        FailureCode.NO_HEARTBEAT,
        FailureCode.AGENT_ERROR,
        FailureCode.IMAGE_NOT_PULLED,
    }
)


class Failure(Document):
    code: FailureCode
    #: One or two sentences for the user: what was wrong, where, what to do.
    message: Text


class Results(Document):
    """What the trainer measured. Losses are mean cross-entropy per supervised token (nats)."""

    steps: Step
    first_step: Step = 0
    train_loss: Finite | None = None
    eval_loss_before: Finite | None = None
    eval_loss_after: Finite | None = None
    tokens: Annotated[int, Field(ge=0)] = 0
    #: What the method counts besides its loss on the held-out rows, after training: reward, accuracy, margin.
    eval_metrics_after: Annotated[dict[str, Finite], Field(max_length=64)] = Field(default_factory=dict)


class CompletionMarker(Document):
    """``files`` are relative to the attempt's run prefix; COMPLETED needs at least one and its results."""

    version: Literal[1] = 1
    job_id: JobId
    attempt: Attempt
    instance_id: InstanceId
    outcome: Outcome
    at: UtcTime
    files: Annotated[tuple[FileDigest, ...], Field(max_length=1000)] = ()
    results: Results | None = None
    failure: Failure | None = None

    @model_validator(mode="after")
    def _outcome_has_its_proof(self) -> "CompletionMarker":
        if self.outcome is Outcome.COMPLETED and (not self.files or self.results is None):
            raise ValueError("a completed marker lists its files and its results")
        if (self.outcome is Outcome.FAILED) != (self.failure is not None):
            raise ValueError("a failed marker, and only a failed one, says what failed")
        return self
