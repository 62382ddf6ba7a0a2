"""How jobs are related, as it stands on record: the job that another one follows."""

from jobspec.base import Document, JobId
from jobspec.chain import Start


class Followed(Document):
    """The very job that ``after`` means, from when it was first found; ``succeeded``: what it made is known, and may be started from."""

    job_id: JobId
    succeeded: bool = False
    #: None for ``use: nothing``.
    start: Start | None = None
