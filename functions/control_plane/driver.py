"""Load, look, decide, save if the version is unchanged, perform. The only place where decisions meet the world.

``drive(job_id)`` is always harmless: it does what the tick would do. A hint makes it know one thing more.
A save that another driver has outrun is thrown away with its actions, and everything is looked at and decided again from the
new state.
"""

import logging
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace

from control_plane.core import measures
from control_plane.core.actions import Action, CallLaunch, DriveChild, LookAgain, Publish, Terminate, WriteStatus, WriteStop, WriteTicket
from control_plane.core.closing import CLAIM_SERVES
from control_plane.core.decide import decide
from control_plane.core.events import (
    Answer,
    Event,
    FamilyLooked,
    Hint,
    InstanceSight,
    LastStatusWritten,
    Looked,
    ManifestDeleted,
    NoticePublished,
    NoticeRefused,
    StopWritten,
    TerminationAnswered,
    TicketWritten,
)
from control_plane.core.letters import letter_of
from control_plane.core.state import Job, Notice
from control_plane.look import Watcher
from control_plane.ports import Clock, Counted, Fleets, JobStore, Letter, NameTaken, NoTurn, Objects, Post, Refused, StaleVersion, Throttled
from control_plane.statuses import MAX_OUTRUN, Statuses
from control_plane.tickets import ticket_of
from jobspec import keys, tags, wire
from jobspec.ticket import StopOrder

logger = logging.getLogger(__name__)

#: Looks in one drive: a first one, and those that an answer asks for (a fall-back market, a spent token).
MAX_LOOKS = 5


class ActionsFailed(Exception):
    """Some calls failed; what they owe is on record. Raised so that the event is delivered again; the tick mends it too."""

    def __init__(self, job_id: str, job: Job | None, failures: list[str]) -> None:
        super().__init__(f"{job_id}: " + "; ".join(failures))
        self.job = job


class ClaimTooOld(Exception):
    """A publish that comes so late after its claim that another may have been claimed meanwhile: not made."""


@dataclass(frozen=True, slots=True)
class Rounded:
    """The job after a round. ``again``: something asked for another look. ``is_told``: no status is to be written for it any more."""

    job: Job
    again: bool
    is_told: bool


@dataclass(frozen=True, slots=True)
class Driver:
    """Drives one job at a time. Holds ports and stack facts, no state of its own."""

    store: JobStore
    fleets: Fleets
    objects: Objects
    post: Post
    watcher: Watcher
    statuses: Statuses
    clock: Clock
    counted: Counted
    project: str
    data_bucket: str
    outputs_bucket: str
    heartbeat_s: float

    def drive(self, job_id: str, hint: Hint | None = None, instances: tuple[InstanceSight, ...] | None = None) -> Job | None:
        """Bring the job as far as it goes now. None where no such job is known. Raises ActionsFailed.

        A job of a sweep that has just ended leaves its place to the next: its parent is driven, too.
        """
        before = self.store.load(job_id)
        job = self._driven(job_id, before, hint, instances)
        if job is not None and job.parent is not None and job.ended and before is not None and not before.ended:
            try:
                self.drive(job.parent.job_id)
            except Exception:
                logger.warning("parent not driven", extra={"job_id": job.parent.job_id}, exc_info=True)
        return job

    def begin(self, job: Job) -> Job | None:
        """Drive a job that was created a moment ago: it need not be read again. Raises ActionsFailed."""
        return self._driven(job.job_id, job, None, None)

    def _driven(self, job_id: str, job: Job | None, hint: Hint | None, instances: tuple[InstanceSight, ...] | None) -> Job | None:
        """The status is written once, at the end: after every round, and with every answer, it would be another."""
        if job is None:
            return None
        failures: list[str] = []
        is_told, error = True, None
        try:
            for done in self._rounds(job, hint, instances, failures):
                job, is_told = done.job, done.job.settled or (is_told and done.is_told)
        except Exception as raised:
            # What the rounds before this one have saved is told all the same.
            error = raised
        if not is_told:
            self._performed(job, WriteStatus(), failures)
        if error is not None:
            raise error
        if failures:
            raise ActionsFailed(job_id, job, failures)
        return job

    def _rounds(self, job: Job, hint: Hint | None, instances: tuple[InstanceSight, ...] | None, failures: list[str]) -> Iterator[Rounded]:
        if hint is not None:
            done = self._round(job, hint, failures)
            yield done
            job = done.job
        for _ in range(MAX_LOOKS):
            if job.settled:
                return
            look = self.watcher.family(job, self.clock()) if job.is_parent else self.watcher.look(job, self.clock(), instances)
            done = self._round(job, look, failures)
            yield done
            if not done.again:
                return
            job, instances = done.job, None

    def _round(self, job: Job, event: Event, failures: list[str]) -> Rounded:
        """Decide on the event, and on every answer that its actions bring."""
        waiting, again = deque([event]), False
        status: WriteStatus | None = None
        while waiting:
            job, actions = self._save(job, waiting.popleft())
            status = next((action for action in reversed(actions) if isinstance(action, WriteStatus)), status)
            calls = [action for action in actions if not isinstance(action, LookAgain | WriteStatus)]
            again = again or any(isinstance(action, LookAgain) for action in actions)
            waiting.extend(answer for action in calls if (answer := self._performed(job, action, failures)) is not None)
            if not waiting and status is not None and status.last:
                answer = self._performed(job, status, failures)
                waiting.extend([answer] if answer is not None else [])
                status = None
        return Rounded(job, again, is_told=status is None)

    def _save(self, job: Job, event: Event) -> tuple[Job, tuple[Action, ...]]:
        """Decide and save; outrun by another driver, decide again on what it saved. Its actions are performed only after."""
        for _ in range(MAX_OUTRUN):
            decision = decide(job, event, self.clock())
            if decision.job == job:
                return job, decision.actions
            try:
                saved = self.store.save(decision.job, decision.births)
            except StaleVersion:
                job = self.store.load(job.job_id) or job
                if isinstance(event, Looked | FamilyLooked):
                    # What was seen belongs to the version it was looked for: a newer one may know an instance gone whose marker
                    # appeared after this look had searched for it.
                    return job, (LookAgain(),)
                continue
            except NoTurn as taken:
                assert isinstance(event, Looked), "only a look plans a launch"
                event = replace(event, turn=str(taken))
                continue
            except NameTaken as taken:
                assert isinstance(event, FamilyLooked), "only a look at a parent's jobs creates more"
                event = replace(event, taken={**event.taken, taken.name: taken.holder})
                continue
            for name, count in measures.happened(job, saved).items():
                self.counted(name, count)
            if saved.state is not job.state:
                logger.info("state", extra={"job_id": job.job_id, "from": job.state, "to": saved.state, "reason": saved.reason, "event": type(event).__name__})
            return saved, decision.actions
        raise StaleVersion(f"{job.job_id}: outrun {MAX_OUTRUN} times in a row")

    def _performed(self, job: Job, action: Action, failures: list[str]) -> Answer | None:
        """The answer of one call. A call that fails is on record as owed; the others are still made."""
        try:
            answer = self._perform(job, action)
        except Exception as error:
            if isinstance(action, CallLaunch) and isinstance(error, Throttled):
                # EC2 asks for patience. The plan is on record and the tick makes the same call again: in a burst of jobs nothing has failed.
                self.counted("LaunchesThrottled", 1)
                logger.info("launch throttled", extra={"job_id": job.job_id})
                return None
            failures.append(f"{type(action).__name__}: {type(error).__name__}: {str(error)[:300]}")
            logger.warning("action failed", extra={"job_id": job.job_id, "action": type(action).__name__}, exc_info=True)
            return None
        if not isinstance(action, WriteStatus):
            logger.info("action", extra={"job_id": job.job_id, "action": repr(action)[:500], "answer": repr(answer)[:500]})
        return answer

    def _perform(self, job: Job, action: Action) -> Answer | None:
        match action:
            case CallLaunch(plan=plan):
                birth = tags.instance_tags(
                    project=self.project, job_id=job.job_id, attempt=plan.attempt, client_token=plan.client_token, deadline_at=plan.deadline_at
                )
                return self.fleets.at(plan.pools[0].zone).launch(plan, birth)
            case WriteTicket(instance_id=instance_id):
                ticket = ticket_of(
                    job,
                    instance_id,
                    data_bucket=self.data_bucket,
                    outputs_bucket=self.outputs_bucket,
                    heartbeat_s=self.heartbeat_s,
                    rules=self.watcher.rules,
                    now=self.clock(),
                )
                self.objects.put(self.data_bucket, keys.ticket_key(ticket.writer), wire.dump(ticket))
                return TicketWritten(instance_id)
            case WriteStop(instance_id=instance_id, reason=reason, terminate_at=terminate_at, hand_over=hand_over):
                attempt = job.attempt_of(instance_id)
                assert attempt is not None, "a stop order is written only for an instance on record"
                order = StopOrder(job_id=job.job_id, attempt=attempt.number, reason=reason, terminate_at=terminate_at, hand_over=hand_over)
                self.objects.put(self.data_bucket, keys.stop_key(attempt.writer_of(instance_id)), wire.dump(order))
                return StopWritten(instance_id)
            case Terminate(instance_id=instance_id, zone=zone):
                state = self.fleets.at(zone).terminate(instance_id)
                return TerminationAnswered(instance_id, state) if state is not None else None
            case Publish(notice_id=notice_id):
                return self._publish(job, notice_id)
            case WriteStatus(last=last):
                self.statuses.write(job, self.clock(), last=last)
                return LastStatusWritten() if last else None
            case DriveChild(job_id=child_id, cancel=cancel):
                # Not ``drive``: this is its parent, which looks by itself.
                self._driven(child_id, self.store.load(child_id), ManifestDeleted() if cancel else None, None)
                return None
            case LookAgain():
                return None

    def _publish(self, job: Job, notice_id: str) -> Answer:
        notice = next(n for n in job.notices if n.notice_id == notice_id)
        if notice.claimed_at is None or self.clock() - notice.claimed_at >= CLAIM_SERVES:
            raise ClaimTooOld(f"the claim of {notice_id} is of {notice.claimed_at}; the publish ledger decides what became of it")
        try:
            self.post.publish(self._letter(job, notice))
        except Refused:
            logger.warning("e-mail refused", extra={"job_id": job.job_id, "notice_id": notice_id}, exc_info=True)
            return NoticeRefused(notice_id)
        return NoticePublished(notice_id)

    def _letter(self, job: Job, notice: Notice) -> Letter:
        subject, body = letter_of(job, notice, self.statuses.stack, self.clock())
        attributes = {"project": self.project, "job": job.name, "kind": notice.kind.value, "state": job.state.value}
        return Letter(notice.notice_id, subject, body, attributes)
