"""The job store and the hold in memory. Everything stored is JSON text, so nothing that the real store could not keep passes."""

from collections.abc import Iterator

from control_plane.adapters.errors import InstanceTaken
from control_plane.core.state import Job, JobState
from control_plane.ports import Held, Hold, StaleVersion


class MemoryStore:
    """A JobStore. ``writes`` counts the writes that succeeded."""

    def __init__(self) -> None:
        self._jobs: dict[str, str] = {}
        self._by_name: dict[str, str] = {}
        self._by_key: dict[tuple[str, str], str] = {}
        self._by_instance: dict[str, str] = {}
        self.writes = 0

    def load(self, job_id: str) -> Job | None:
        body = self._jobs.get(job_id)
        return None if body is None else Job.model_validate_json(body)

    def create(self, job: Job) -> Job | Held | None:
        existing = self.load(job.job_id)
        if existing is not None:
            return existing
        if job.state is not JobState.REJECTED:
            key = (job.manifest_ref.bucket, job.manifest_ref.key)
            for what, holder_id in (("name", self._by_name.get(job.name)), ("key", self._by_key.get(key))):
                holder = self.load(holder_id) if holder_id else None
                if holder is not None and not holder.ended:
                    return Held(holder, what)
            self._by_name[job.name] = job.job_id
            self._by_key[key] = job.job_id
        self._write(job)
        return None

    def save(self, job: Job) -> Job:
        stored = self.load(job.job_id)
        if stored is None or stored.version != job.version:
            raise StaleVersion(f"job {job.job_id}: version {job.version} was loaded, {stored.version if stored else 'none'} is stored")
        taken = [a.instance_id for a in job.attempts if self._by_instance.get(a.instance_id, job.job_id) != job.job_id]
        if taken:
            raise InstanceTaken(job.job_id, taken)
        self._write(job.model_copy(update={"version": job.version + 1}))
        return job.model_copy(update={"version": job.version + 1})

    def find(self, *, instance_id: str = "", bucket: str = "", key: str = "", name: str = "") -> str | None:
        if instance_id:
            return self._by_instance.get(instance_id)
        if name:
            return self._by_name.get(name)
        return self._by_key.get((bucket, key))

    def unsettled(self) -> Iterator[str]:
        for job_id in sorted(self._jobs):
            job = self.load(job_id)
            if job is not None and not job.settled:
                yield job_id

    def all_jobs(self) -> list[Job]:
        """Every job ever stored, by id: for assertions."""
        return [Job.model_validate_json(self._jobs[job_id]) for job_id in sorted(self._jobs)]

    def _write(self, job: Job) -> None:
        self._jobs[job.job_id] = job.model_dump_json()
        self._by_instance.update({a.instance_id: job.job_id for a in job.attempts})
        self.writes += 1


class MemoryHolds:
    """A HoldStore."""

    def __init__(self) -> None:
        self._body: str | None = None

    def current(self) -> Hold | None:
        return None if self._body is None else Hold.model_validate_json(self._body)

    def put(self, hold: Hold | None) -> None:
        self._body = None if hold is None else hold.model_dump_json()
