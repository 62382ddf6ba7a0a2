"""The ticket: what one instance is told to do. Written by the control plane only once that instance is on record.

An instance that is on nobody's record never gets one, does no work, and powers itself off: a doubled launch cannot train.
"""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from jobspec.base import Attempt, Document, InstanceId, JobId, JobName, Text, UtcTime, Writer
from jobspec.chain import Start
from jobspec.compute import MAX_NODES
from jobspec.manifest import Manifest
from jobspec.saves import Market

BucketName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")]


#: IPv4 in its one canonical form.
ADDRESS_PATTERN = r"^((25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])\.){3}(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])$"
Address = Annotated[str, StringConstraints(pattern=ADDRESS_PATTERN)]

#: TCP ports that the instances of a gang may use between themselves, and what template.yaml's security group lets through: the
#: rendezvous (torchrun's default) on the first, and for what NCCL and gloo open the rest, which ends where Linux's own range for
#: outgoing connections begins (net.ipv4.ip_local_port_range, 32768 to 60999).
FIRST_GANG_PORT, LAST_GANG_PORT = 29400, 32767


class Handover(Document):
    """A predecessor that is interrupted, or to be relieved, and may still be saving: wait for its heartbeat to say so, but not past ``until``."""

    writer: Writer
    until: UtcTime


class Gang(Document):
    """The instances that train one attempt together, each with its own ticket and writer, heartbeats and stop orders.

    Rank 0 leads: checkpoints, final files and the marker are its alone. What the others say at their end is their heartbeat's phase:
    FINISHED once their trainer has ended well, so that their going is no loss, else HANDED_OVER. A loss ends the gang: whoever is left is
    told to hand over (``StopOrder``). A leader whose trainer fails for the loss of another writes no marker; its last word is HANDED_OVER.
    ``members`` and ``addresses`` are in order of rank. Addresses are private ones, of one subnet: whom a member lets in, and nobody else.
    """

    size: Annotated[int, Field(ge=2, le=MAX_NODES)]
    rank: Annotated[int, Field(ge=0, lt=MAX_NODES)]
    leader_address: Address
    #: Where the leader listens for the rendezvous.
    port: Annotated[int, Field(ge=FIRST_GANG_PORT, le=LAST_GANG_PORT)] = FIRST_GANG_PORT
    members: tuple[Writer, ...]
    addresses: tuple[Address, ...]

    @model_validator(mode="after")
    def _is_whole(self) -> "Gang":
        if self.rank >= self.size:
            raise ValueError(f"rank {self.rank} is none of a gang of {self.size}")
        if not self.size == len(set(self.members)) == len(self.members) == len(set(self.addresses)) == len(self.addresses):
            raise ValueError(f"a gang of {self.size} has as many members, each with its own address")
        if self.leader_address != self.addresses[0]:
            raise ValueError("leader_address is not the address of rank 0")
        return self


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
    #: What another job made, to begin with (``after`` in the manifest).
    start: Start | None = None
    #: The agent asks for a last save in time for this, and the instance powers itself off at it.
    deadline_at: UtcTime
    #: Writers of the job's earlier attempts, newest first: the only places a checkpoint is taken from.
    earlier_writers: tuple[Writer, ...] = ()
    #: The predecessors that may still save: a job can be interrupted again while it waits for the one before.
    handovers: tuple[Handover, ...] = ()
    #: None for an instance that trains alone.
    gang: Gang | None = None
    heartbeat_s: Annotated[float, Field(gt=0, le=3600)] = 30.0
    #: What this instance is, and since when: how soon it is likely to be lost, and so how often to save.
    market: Market = "spot"
    launched_at: UtcTime | None = None
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
