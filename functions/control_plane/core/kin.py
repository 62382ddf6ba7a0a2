"""How jobs are related, as it stands on record: the job that another follows, the parent of a sweep's job, a parent's children."""

from jobspec.base import Document, Finite, JobId, JobName, Text
from jobspec.chain import Start
from jobspec.status import State
from jobspec.sweep import Choice


class Followed(Document):
    """The very job that ``after`` means, from when it was first found; ``succeeded``: what it made is known, and may be started from."""

    job_id: JobId
    succeeded: bool = False
    #: None for ``use: nothing``.
    start: Start | None = None


class Parent(Document):
    """The sweep or the schedule that the job is of. ``mails``: it sends e-mails of its own."""

    job_id: JobId
    name: JobName
    mails: bool


class Child(Document):
    """A line of a parent's ledger, written in the very transaction that creates the job: what is not here was never created."""

    number: int
    name: JobName
    job_id: JobId
    choice: Choice
    #: Its own limits.budget_usd: what it may yet cost.
    limit_usd: float
    state: State = "ACCEPTED"
    reason: Text = ""
    cost_usd: float = 0.0
    #: Of the sweep's metric.
    value: Finite | None = None
    #: It waits for an EC2 quota, which only a person can mend.
    needs_quota: bool = False
    #: It has ended, and no instance of it is left: nothing of this line changes any more.
    is_final: bool = False

    @property
    def ended(self) -> bool:
        return self.state in ("SUCCEEDED", "REJECTED", "FAILED", "CANCELLED", "STOPPED_DEADLINE", "STOPPED_BUDGET")
