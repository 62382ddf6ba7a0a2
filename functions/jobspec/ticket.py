"""The ticket: what one instance is told to do. Written by the control plane only once that instance is on record.

An instance that is on nobody's record never gets one, does no work, and powers itself off: a doubled launch cannot train.
"""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from jobspec.base import Attempt, Document, InstanceId, JobId, JobName, Text, UtcTime, Writer
from jobspec.manifest import Manifest

BucketName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")]


class Handover(Document):
    """A predecessor that is interrupted, or to be relieved, and may still be saving: wait for its heartbeat to say so, but not past ``until``."""

    writer: Writer
    until: UtcTime


class Ticket(Document):
    version: Literal[1] = 1
    job_id: JobId
    name: JobName
    attempt: Attempt
    instance_id: InstanceId
    writer: Writer
    manifest: Manifest
    #: The bucket the manifest lies in: where locations without ``s3://`` are looked up.
    data_bucket: BucketName
    outputs_bucket: BucketName
    #: The agent asks for a last save in time for this, and the instance powers itself off at it.
    deadline_at: UtcTime
    #: Writers of the job's earlier attempts, newest first: the only places a checkpoint is taken from.
    earlier_writers: tuple[Writer, ...] = ()
    #: The predecessors that may still save: a job can be interrupted again while it waits for the one before.
    handovers: tuple[Handover, ...] = ()
    heartbeat_s: Annotated[float, Field(gt=0, le=3600)] = 30.0
    issued_at: UtcTime


class StopOrder(Document):
    """Asks an instance for a last save, its marker (outcome ``stopped``) and its end, before ``terminate_at``.

    With ``hand_over`` the job goes on elsewhere: no marker, and HANDED_OVER as the last word, as after an interruption.
    """

    version: Literal[1] = 1
    job_id: JobId
    attempt: Attempt
    reason: Text
    terminate_at: UtcTime
    hand_over: bool = False
