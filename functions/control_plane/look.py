"""One look at a job's world, for ``decide``: instances first, then heartbeats and markers, so that the gone have had their say.

What cannot be read becomes "not known" and decides nothing; it is never taken for "not there".
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import TypeVar

from control_plane.core import placement, sweeps
from control_plane.core.events import Before, FamilyLooked, InstanceSight, Looked, MarkerSight, Rules
from control_plane.core.ledger import price_is_due
from control_plane.core.records import Attempt, Instance, PriceChange
from control_plane.core.state import Job, JobState
from control_plane.ports import Fleets, HoldStore, JobStore, Objects, PublishLedger, Turns
from jobspec import keys, wire
from jobspec.heartbeat import Heartbeat
from jobspec.marker import CompletionMarker, Outcome
from jobspec.operator import Hold

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Watcher:
    """Reads the world of one job at a time."""

    fleets: Fleets
    objects: Objects
    holds: HoldStore
    turns: Turns
    jobs: JobStore
    ledger: PublishLedger
    outputs_bucket: str
    rules: Rules

    def look(self, job: Job, now: datetime, instances: tuple[InstanceSight, ...] | None = None) -> Looked:
        """A whole look. ``instances``: what one call for all jobs has already shown of this one's."""
        if instances is None and (job.attempts or job.plan is not None):
            instances = _known("instances", lambda: self._instances(job))
        heartbeats, markers = self._heartbeats(job), self._markers(job)
        prices = self._prices(job, now)
        # Whether launches are held, and whose turn it is, is asked for who may want one.
        done = _is_done(markers)
        served = job.ended or job.plan is not None or job.awaits_another or done or _is_served(job, instances or (), heartbeats, markers)
        turn = None if served or job.occupies else _known("turn", lambda: (self.turns.refusal(job),))
        no_turn = turn is not None and turn[0] is not None
        hold = None if served else _known("hold", partial(self._hold, now, self.holds.lately if no_turn else self.holds.current))
        return Looked(
            instances=instances,
            heartbeats=heartbeats,
            markers=markers,
            # Of a job that is done, nothing can be cancelled any more.
            manifest_present=None if done else self._manifest_present(job),
            withdrawn=not done and self._withdrawn(job),
            # Without knowing whether launches are held, or whose turn it is, none is offered.
            offers=_known("offers", self.fleets.offers) if hold is not None and (turn is not None or job.occupies) else None,
            hold=hold[0] if hold is not None else None,
            turn=turn[0] if turn is not None else None,
            in_ledger=self._in_ledger(job),
            prices=prices,
            before=_known("the job before", partial(self._before, job)) if job.awaits_another and not job.ended else None,
            rules=self.rules,
        )

    # Two answers, "there is none" and "could not be read": so what is read comes in a tuple, and what could not be is left out.

    def _heartbeats(self, job: Job) -> dict[str, Heartbeat | None]:
        """Of every instance of the open attempts, by its id."""
        each = [(attempt, instance) for attempt in job.open_attempts() for instance in attempt.instances]
        reads = {instance.instance_id: _known("heartbeat", partial(self._heartbeat_read, job, attempt, instance)) for attempt, instance in each}
        return {instance_id: read[0] for instance_id, read in reads.items() if read is not None}

    def _markers(self, job: Job) -> dict[str, MarkerSight | None]:
        """Of the open attempts, by the id of the instance that may write one."""
        reads = {attempt.instance_id: _known("marker", partial(self._marker_read, job, attempt)) for attempt in job.open_attempts()}
        return {instance_id: read[0] for instance_id, read in reads.items() if read is not None}

    def _prices(self, job: Job, now: datetime) -> dict[str, tuple[PriceChange, ...]]:
        """The changes of spot prices since they were last read, of the attempts where they are due."""
        due = [attempt for attempt in job.attempts if price_is_due(attempt, now)]
        reads = {attempt.instance_id: _known("prices", partial(self._price_changes, attempt)) for attempt in due}
        return {instance_id: read for instance_id, read in reads.items() if read is not None}

    def _price_changes(self, attempt: Attempt) -> tuple[PriceChange, ...]:
        return self.fleets.at(attempt.zone).price_changes(attempt.instance_type, attempt.zone, attempt.priced_at or attempt.launched_at)

    def family(self, job: Job, now: datetime) -> FamilyLooked:
        """A whole look at a parent's jobs, and at what a person has said of those that may be created by it."""
        open_ids = [child.job_id for child in job.children if not child.is_final]
        found = {job_id: child for job_id in open_ids if (child := _known("job", partial(self.jobs.load, job_id))) is not None}
        look = FamilyLooked(children=found, manifest_present=self._manifest_present(job), withdrawn=self._withdrawn(job), in_ledger=self._in_ledger(job))
        upcoming = sweeps.next_up(job, look, now).items()
        said = {number: said for number, job_id in upcoming if (said := _known("cancel object", partial(self._is_cancelled, job, job_id))) is not None}
        return replace(look, next_up=said)

    def _manifest_present(self, job: Job) -> bool | None:
        return None if job.ended else _known("manifest", lambda: self.objects.head(job.manifest_ref.bucket, job.manifest_ref.key) is not None)

    def _withdrawn(self, job: Job) -> bool:
        """Asked only of a job that shares its manifest with others: any other's is deleted."""
        if job.ended or job.parent is None:
            return False
        return _known("cancel object", lambda: self._is_cancelled(job, job.job_id)) or False

    def _is_cancelled(self, job: Job, job_id: str) -> bool:
        """``job_id``: the job's own, or that of a job of it."""
        return self.objects.head(job.manifest_ref.bucket, keys.cancel_key(job_id)) is not None

    def _in_ledger(self, job: Job) -> dict[str, bool]:
        in_doubt = [n.notice_id for n in job.notices if n.claimed_at is not None and n.published_at is None]
        return {notice_id: seen for notice_id in in_doubt if (seen := _known("publish ledger", partial(self.ledger.knows, notice_id))) is not None}

    def _before(self, job: Job) -> Before:
        """The job that ``after`` names: found by its name until it is on record, by its id from then on."""
        assert job.manifest is not None
        assert job.manifest.after is not None
        job_id = job.follows.job_id if job.follows is not None else self.jobs.find(name=job.manifest.after.job)
        found = self.jobs.load(job_id) if job_id is not None else None
        if found is None or found.state is not JobState.SUCCEEDED:
            return Before(found)
        winner = sweeps.best(found) if found.is_sweep else None
        return Before(found, self.jobs.load(winner.job_id) if winner is not None else found)

    def _instances(self, job: Job) -> tuple[InstanceSight, ...]:
        """Of the regions where the job has, or may have, an instance: one that does not answer holds up no other region's jobs."""
        zones = [attempt.zone for attempt in job.attempts if attempt.over_at is None] + ([job.plan.pools[0].zone] if job.plan is not None else [])
        fleets = {id(fleet): fleet for fleet in map(self.fleets.at, zones)} or {0: self.fleets.at("")}
        return tuple(sight for fleet in fleets.values() for sight in fleet.instances(job.job_id))

    def _hold(self, now: datetime, read: Callable[[], Hold | None]) -> tuple[str | None]:
        hold = read()
        return (hold.reason if hold is not None and hold.holds_at(now) else None,)

    def _heartbeat_read(self, job: Job, attempt: Attempt, instance: Instance) -> tuple[Heartbeat | None]:
        return (self._heartbeat(job, attempt, instance),)

    def _heartbeat(self, job: Job, attempt: Attempt, instance: Instance) -> Heartbeat | None:
        key = keys.heartbeat_key(job.job_id, attempt.writer_of(instance.instance_id))
        found = self.objects.get(self.outputs_bucket, key, max_bytes=wire.MAX_DOCUMENT_BYTES)
        if found is None:
            return None
        try:
            heartbeat = wire.load(Heartbeat, found.body)
        except wire.UnreadableDocument as error:
            logger.warning("heartbeat refused", extra={"key": key, "problem": str(error)})
            return None
        ours = (heartbeat.job_id, heartbeat.attempt, heartbeat.instance_id) == (job.job_id, attempt.number, instance.instance_id)
        return heartbeat if ours else None

    def _marker_read(self, job: Job, attempt: Attempt) -> tuple[MarkerSight | None]:
        return (self._marker(job, attempt),)

    def _marker(self, job: Job, attempt: Attempt) -> MarkerSight | None:
        """The attempt's marker, held against the attempt and, file by file, against the bucket."""
        prefix = keys.run_prefix(job.job_id, attempt.writer)
        found = self.objects.get(self.outputs_bucket, keys.marker_key(job.job_id, attempt.writer), max_bytes=wire.MAX_DOCUMENT_BYTES)
        if found is None:
            return None
        try:
            marker = wire.load(CompletionMarker, found.body)
        except wire.UnreadableDocument as error:
            return MarkerSight(None, str(error), is_refused=True)
        if (marker.job_id, marker.attempt, marker.instance_id) != (job.job_id, attempt.number, attempt.instance_id):
            return MarkerSight(None, f"it speaks of {marker.job_id} attempt {marker.attempt} on {marker.instance_id}", is_refused=True)
        if marker.outcome is Outcome.COMPLETED:
            for file in marker.files:
                facts = self.objects.head(self.outputs_bucket, prefix + file.path)
                if facts is None or facts.size != file.size or facts.sha256 not in (None, file.sha256):
                    return MarkerSight(None, f"{file.path} is missing or is not what the marker says")
        return MarkerSight(marker)


def _is_done(markers: dict[str, MarkerSight | None]) -> bool:
    """A verified marker says so. Such a job costs until its instance is told to end: nothing is asked for on the way there that only others need."""
    return any(sight is not None and sight.marker is not None and sight.marker.outcome is Outcome.COMPLETED for sight in markers.values())


def _is_served(job: Job, instances: tuple[InstanceSight, ...], heartbeats: dict[str, Heartbeat | None], markers: dict[str, MarkerSight | None]) -> bool:
    """An instance is at work and nothing that was just read ends or warns it: no look like this one plans another."""
    alive = {sight.instance_id for sight in instances if sight.state in ("pending", "running")}
    return any(
        attempt.serves
        and not placement.may_return(job, attempt)
        and markers.get(attempt.instance_id) is None
        and all(one.instance_id in alive and ((beat := heartbeats.get(one.instance_id)) is None or beat.notice is None) for one in attempt.instances)
        for attempt in job.attempts
    )


def _known(what: str, read: Callable[[], T]) -> T | None:
    """The reading, or None with a warning where it failed: the next look reads it again."""
    try:
        return read()
    except Exception:
        logger.warning("could not read", extra={"what": what}, exc_info=True)
        return None
