"""The agent's heartbeat, ``heartbeat.json``: rewritten every few seconds, read by the tick and by replacements."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from jobspec.base import Attempt, Bytes, Document, Finite, InstanceId, JobId, Step, Text, UtcTime
from jobspec.stages import StageSeconds


class Phase(StrEnum):
    """What the instance is doing. HANDED_OVER and FINISHED are the last word of an agent."""

    STAGING = "staging"
    WAITING = "waiting"  # for an interrupted predecessor to publish its last checkpoint
    TRAINING = "training"
    SAVING = "saving"  # the last save, after a notice or a stop order
    UPLOADING = "uploading"  # the final files
    HANDED_OVER = "handed_over"  # interrupted; the last checkpoint is published
    FINISHED = "finished"  # the completion marker is written


class Notice(Document):
    """A warning that the agent saw in IMDS. ``at`` is the time EC2 names in it (UTC)."""

    kind: Literal["interruption", "rebalance"]
    at: UtcTime


class PublishedCheckpoint(Document):
    """The newest checkpoint that is whole in S3: its manifest's key, step and time of publication."""

    #: Of printable ASCII: it stands in the status object, which people read in terminals.
    key: Annotated[str, StringConstraints(pattern=r"^[!-~]+$", max_length=1024)]
    step: Step
    at: UtcTime


class Saving(Document):
    """How the periodic saves go: seconds without a step, until on the disk, until in S3, and from one to the next, as measured last."""

    stall_s: Annotated[float, Field(ge=0, le=10**8)]
    write_s: Annotated[float, Field(ge=0, le=10**8)]
    upload_s: Annotated[float, Field(ge=0, le=10**8)]
    interval_s: Annotated[float, Field(ge=0, le=10**8)]


class GpuUse(Document):
    """One GPU over the last ``window_s`` seconds of training; a GPU that the driver tells nothing of has none of these.

    ``percent`` is the mean share of time in which any kernel ran (NVML, ``nvmlUtilization_t.gpu``), ``memory_mib`` the most
    that was in use. The window grows with the training, up to ``limits.idle_gpu.window`` of the manifest.
    """

    index: Annotated[int, Field(ge=0, le=255)]
    percent: Annotated[float, Field(ge=0, le=100)]
    memory_mib: Annotated[float, Field(ge=0, le=10**9)]
    memory_total_mib: Annotated[float, Field(ge=0, le=10**9)]
    window_s: Annotated[float, Field(ge=0, le=10**8)]


class Heartbeat(Document):
    """``seq`` grows by one each time; a reader that sees the same ``seq`` twice knows that nothing new was written."""

    version: Literal[1] = 1
    job_id: JobId
    attempt: Attempt
    instance_id: InstanceId
    seq: Annotated[int, Field(ge=0)]
    at: UtcTime
    phase: Phase
    step: Step = 0
    total_steps: Step | None = None
    #: The step that this attempt started at: 0, or the step of the checkpoint it resumed from.
    first_step: Step | None = None
    loss: Finite | None = None
    tokens_per_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    #: As the training left them once it is over.
    gpus: Annotated[tuple[GpuUse, ...], Field(max_length=64)] = ()
    checkpoint: PublishedCheckpoint | None = None
    saving: Saving | None = None
    notice: Notice | None = None
    #: Seconds spent in each finished stage of the start (jobspec/stages.py has their names).
    stages_s: StageSeconds = Field(default_factory=dict)
    #: The end of this attempt's first step, by the instance's own clock.
    first_step_at: UtcTime | None = None
    #: What the agent has read of S3 and written there, for this attempt.
    read_bytes: Bytes = 0
    written_bytes: Bytes = 0
    message: Text = ""
