"""A manifest's key was touched: look at what lies there *now*, and accept, refuse or cancel accordingly.

The event is only a hint. S3 may deliver it twice, late, or after the next one's; the object itself is always right.
"""

from dataclasses import dataclass
from datetime import datetime

from control_plane.core import accept, measures
from control_plane.core.events import ChildWithdrawn, Ignored, ManifestDeleted, Rescheduled
from control_plane.core.state import Job, ManifestRef
from control_plane.driver import Driver
from control_plane.ports import Held, StoredObject
from jobspec import keys
from jobspec.children import sweep_of
from jobspec.reading import MAX_MANIFEST_BYTES, Refusal, read_manifest
from jobspec.status import ProblemLine


@dataclass(frozen=True, slots=True)
class Submission:
    """The way from a manifest to its job. ``read_buckets``: what jobs may read from beside the project's own buckets."""

    driver: Driver
    read_buckets: tuple[str, ...]

    def look_at(self, bucket: str, key: str) -> Job | Ignored:
        """Take up whatever the key holds now. Raises only for passing faults."""
        if key.endswith("/"):
            return Ignored("a folder placeholder, not a manifest")
        if (job_id := keys.cancelled_by(key)) is not None:
            return self._withdrawn(bucket, key, job_id)
        found = self.driver.objects.get(bucket, key, max_bytes=MAX_MANIFEST_BYTES + 1)
        if found is None:
            return self._deleted(bucket, key)
        return self._taken_up(self._job_for(ManifestRef(bucket=bucket, key=key, version_id=found.version_id), found, self.driver.clock()))

    def _taken_up(self, job: Job) -> Job:
        """Create and drive the job; or drive the one that this version of the manifest made, or changed, before."""
        held = self.driver.store.create(job)
        if isinstance(held, Job):
            return self.driver.drive(held.job_id) or held
        if isinstance(held, Held) and _is_of_schedule(job, held.by):
            # A schedule is changed by its manifest.
            assert job.manifest is not None
            return self.driver.drive(held.by.job_id, Rescheduled(job.manifest, job.manifest_ref)) or held.by
        if isinstance(held, Held):
            job = self._refused_beside(job, held)
            held = self.driver.store.create(job)
        if held is None:
            for name, count in measures.happened(None, job).items():
                self.driver.counted(name, count)
            return self.driver.begin(job) or job
        return self.driver.drive(job.job_id) or job

    def _deleted(self, bucket: str, key: str) -> Job | Ignored:
        job_id = self.driver.store.find(bucket=bucket, key=key)
        if job_id is None:
            return Ignored("the manifest is gone, and no job came of it")
        return self.driver.drive(job_id, ManifestDeleted()) or Ignored("the manifest's job is not known")

    def _withdrawn(self, bucket: str, key: str, job_id: str) -> Job | Ignored:
        """One job of a sweep or a schedule, at work or not started yet."""
        # The look itself reads whether it lies there; of a job that has no record only its sweep can know.
        job = self.driver.drive(job_id)
        if job is None and (sweep_id := sweep_of(job_id)) is not None and self.driver.objects.head(bucket, key) is not None:
            job = self.driver.drive(sweep_id, ChildWithdrawn(job_id))
        return job or Ignored("it would cancel a job that is not known")

    def _job_for(self, ref: ManifestRef, found: StoredObject, now: datetime) -> Job:
        """The job that this version of the manifest is: accepted or rejected."""
        if not keys.is_manifest_key(ref.key):
            problem = ProblemLine(
                path="key",
                message="is not a manifest's key",
                found=ref.key[:200],
                allowed="jobs/NAME.yaml, .yml or .json, of letters, digits, dot, hyphen, underscore",
            )
            return accept.rejected(keys.name_from_key(ref.key), ref, (problem,), now)
        answer = read_manifest(found.body, key=ref.key)
        if isinstance(answer, Refusal):
            return accept.rejected(answer.name or keys.name_from_key(ref.key), ref, answer.problems, now)
        offers = self.driver.fleets.offers()
        problems = accept.late_problems(answer, offers, self.driver.fleets.names, now)
        if problems:
            return accept.rejected(answer.name, ref, problems, now)
        # Imported here: only a new manifest needs it, and a function's start is waited for.
        from control_plane.feasibility import Feasibility

        own = (self.driver.data_bucket, self.driver.outputs_bucket)
        verdict = Feasibility(self.driver.objects, own, offers.region, self.read_buckets).judge(answer, now)
        return accept.rejected(answer.name, ref, verdict.problems, now) if verdict.problems else accept.accepted(answer, ref, now, verdict.remark)

    def _refused_beside(self, job: Job, held: Held) -> Job:
        problem = ProblemLine(
            path=held.what,
            message=f"is that of job {held.by.job_id}, which is active ({held.by.state}) and goes on untouched",
            found=job.name if held.what == "name" else job.manifest_ref.key,
            allowed="another name, or this one after that job's end; deleting its manifest cancels it",
        )
        return accept.rejected(job.name, job.manifest_ref, (*job.problems, problem), self.driver.clock(), beside=held.by.job_id)


def _is_of_schedule(job: Job, active: Job) -> bool:
    """The manifest is a new version of the active schedule's own."""
    return job.is_schedule and active.is_schedule and (active.name, active.manifest_ref.key) == (job.name, job.manifest_ref.key)
