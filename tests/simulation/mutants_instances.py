"""Planted bugs of instances: who is ended, when, by whom; hand-overs, and tickets."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from control_plane import curfew as curfew_room
from control_plane import driver as driver_room
from control_plane import tick as tick_room
from control_plane.adapters import ec2
from control_plane.core import decide, gpus, launching, replacing, terminating
from control_plane.core.actions import WriteStop, WriteTicket
from control_plane.core.records import Market
from control_plane.core.state import Job
from tests.simulation.planting import Patch, mutant


@mutant("a warned instance is terminated at once")
def _terminated_at_the_warning(patch: Patch) -> None:
    old = terminating.why_terminate

    def why(job: Job, attempt: Any, one: Any, look: Any, now: Any) -> str:
        return "it was warned" if one.warned_at is not None else old(job, attempt, one, look, now)

    patch.set(terminating, "why_terminate", why)


@mutant("spot is asked for beside a spot instance that works")
def _two_spot_instances(patch: Patch) -> None:
    old = replacing.returned

    def returned(job: Job, look: Any, now: Any) -> Job:
        disguised = tuple(a.model_copy(update={"plan": a.plan.model_copy(update={"market": Market.ON_DEMAND})}) if a.serves else a for a in job.attempts)
        planned = old(job.model_copy(update={"attempts": disguised}), look, now)
        return job.model_copy(update={"plan": planned.plan})

    patch.set(replacing, "returned", returned)


@mutant("an instance that was relieved is never ended")
def _relieved_for_ever(patch: Patch) -> None:
    old = terminating.why_terminate

    def why(job: Job, attempt: Any, one: Any, look: Any, now: Any) -> str:
        return "" if attempt.relieved_at is not None and not job.ended else old(job, attempt, one, look, now)

    patch.set(terminating, "why_terminate", why)


@mutant("the instance that works is ended as soon as spot is got, not asked to hand over")
def _ended_for_its_replacement(patch: Patch) -> None:
    old = terminating.why_terminate

    def why(job: Job, attempt: Any, one: Any, look: Any, now: Any) -> str:
        newer = any(other.serves and other.number > attempt.number for other in job.attempts)
        return "spot is there" if attempt.serves and newer else old(job, attempt, one, look, now)

    patch.set(terminating, "why_terminate", why)


@mutant("a hand-over ordered is taken for the end of the job")
def _hand_over_ends_the_job(patch: Patch) -> None:
    old = decide._owed
    patch.set(decide, "_owed", lambda job, look, now: [replace(one, hand_over=False) if isinstance(one, WriteStop) else one for one in old(job, look, now)])


@mutant("a silent instance is never given up")
def _silence_is_patience(patch: Patch) -> None:
    old = terminating.why_terminate

    def why(job: Job, attempt: Any, one: Any, look: Any, now: Any) -> str:
        found = old(job, attempt, one, look, now)
        return "" if "heartbeat" in found else found

    patch.set(terminating, "why_terminate", why)


@mutant("a young instance without a heartbeat is given up after half a minute")
def _impatience_with_a_boot(patch: Patch) -> None:
    old = terminating.why_terminate

    def why(job: Job, attempt: Any, one: Any, look: Any, now: Any) -> str:
        late = one.heartbeat_seen_at is None and now - attempt.launched_at >= timedelta(seconds=30)
        return "no heartbeat since its launch" if late else old(job, attempt, one, look, now)

    patch.set(terminating, "why_terminate", why)


@mutant("a stopped instance is left standing")
def _stopped_is_fine(patch: Patch) -> None:
    old = terminating.why_terminate

    def why(job: Job, attempt: Any, one: Any, look: Any, now: Any) -> str:
        sights = tuple(s for s in look.instances or () if s.instance_id == one.instance_id and s.state in ("stopping", "stopped"))
        return "" if sights else old(job, attempt, one, look, now)

    patch.set(terminating, "why_terminate", why)


@mutant("a stopped instance under notice is left standing until its notice is over")
def _stopped_under_notice_is_fine(patch: Patch) -> None:
    old = terminating.why_terminate

    def why(job: Job, attempt: Any, one: Any, look: Any, now: Any) -> str:
        found = old(job, attempt, one, look, now)
        return found if one.warned_at is None or "stopped" not in found else old(job, attempt, one, replace(look, instances=()), now)

    patch.set(terminating, "why_terminate", why)


@mutant("nobody but the box itself minds the deadline")
def _deadline_is_the_boxs_own_affair(patch: Patch) -> None:
    patch.set(terminating, "DEADLINE_GRACE", timedelta(days=1))
    patch.set(tick_room, "find_strays", lambda *arguments: [])
    patch.set(curfew_room, "is_overdue", lambda project, sight, now: False)
    patch.set(decide, "_held_to_limits", lambda job, now: job)


@mutant("the curfew ends nothing")
def _no_curfew(patch: Patch) -> None:
    patch.set(curfew_room, "is_overdue", lambda project, sight, now: False)


@mutant("the sweep for strays ends nothing")
def _no_sweep(patch: Patch) -> None:
    patch.set(tick_room, "find_strays", lambda *arguments: [])


@mutant("all terminations of a while go into one call, which one bad id fails")
def _batch_terminate(patch: Patch) -> None:
    old_init = ec2.Ec2Fleet.__init__

    def init(self: Any, *arguments: Any, **named: Any) -> None:
        old_init(self, *arguments, **named)
        self._batch = []

    def terminate(self: Any, instance_id: str) -> str | None:
        self._batch = [*self._batch, instance_id][-20:]
        try:
            answer = self._ec2.terminate_instances(InstanceIds=list(dict.fromkeys(self._batch)))
        except ec2.ClientError:
            return None
        return str(answer["TerminatingInstances"][-1]["CurrentState"]["Name"])

    patch.set(ec2.Ec2Fleet, "__init__", init)
    patch.set(ec2.Ec2Fleet, "terminate", terminate)


@mutant("NotFound from TerminateInstances is taken for the end of the instance")
def _not_found_is_terminated(patch: Patch) -> None:
    old = ec2.Ec2Fleet.terminate
    patch.set(ec2.Ec2Fleet, "terminate", lambda self, instance_id: old(self, instance_id) or "terminated")


@mutant("a ticket is on record before it is written")
def _ticket_before_it_is_written(patch: Patch) -> None:
    old = launching.started

    def started(job: Job, plan: Any, instances: Any, now: Any) -> Job:
        changed = old(job, plan, instances, now)
        return changed.model_copy(update={"attempts": (*changed.attempts[:-1], changed.attempts[-1].model_copy(update={"ticket_at": now}))})

    patch.set(launching, "started", started)


@mutant("a ticket names no earlier writers")
def _no_earlier_writers(patch: Patch) -> None:
    old = driver_room.ticket_of
    patch.set(driver_room, "ticket_of", lambda *arguments, **named: old(*arguments, **named).model_copy(update={"earlier_writers": ()}))


@mutant("a ticket names the last writer only")
def _last_writer_only(patch: Patch) -> None:
    old = driver_room.ticket_of

    def ticket_of(*arguments: Any, **named: Any) -> Any:
        ticket = old(*arguments, **named)
        return ticket.model_copy(update={"earlier_writers": ticket.earlier_writers[:1]})

    patch.set(driver_room, "ticket_of", ticket_of)


@mutant("a replacement does not wait for the last save of its predecessor")
def _no_hand_over(patch: Patch) -> None:
    old = driver_room.ticket_of
    patch.set(driver_room, "ticket_of", lambda *arguments, **named: old(*arguments, **named).model_copy(update={"handovers": ()}))


@mutant("a replacement waits for its last predecessor only")
def _one_hand_over(patch: Patch) -> None:
    old = driver_room.ticket_of

    def ticket_of(*arguments: Any, **named: Any) -> Any:
        ticket = old(*arguments, **named)
        return ticket.model_copy(update={"handovers": ticket.handovers[:1]})

    patch.set(driver_room, "ticket_of", ticket_of)


@mutant("nobody asks for a last save before a stop")
def _no_last_save(patch: Patch) -> None:
    old = decide._owed
    patch.set(decide, "_owed", lambda job, look, now: [action for action in old(job, look, now) if not isinstance(action, WriteStop)])


@mutant("a ticket that was not written is not written again")
def _ticket_only_once(patch: Patch) -> None:
    old = decide._owed
    patch.set(decide, "_owed", lambda job, look, now: [action for action in old(job, look, now) if not isinstance(action, WriteTicket)])


@mutant("an idle GPU is judged before a whole window of training was measured")
def _idle_at_the_first_glance(patch: Patch) -> None:
    patch.set(gpus, "idle", lambda job, attempt: tuple(gpu for gpu in gpus.in_use(attempt) if gpu.percent < 5.0))


@mutant("one idle GPU of two stops the job")
def _one_idle_gpu_is_enough(patch: Patch) -> None:
    old = gpus.in_use
    patch.set(gpus, "in_use", lambda attempt: _idle_ones(attempt) or old(attempt))


def _idle_ones(attempt: Any) -> Any:
    return tuple(gpu for gpu in attempt.heartbeat.gpus if gpu.percent < 5.0) if attempt.heartbeat is not None and attempt.serves else ()


@mutant("a job whose GPUs are idle is only told of")
def _idle_for_ever(patch: Patch) -> None:
    patch.set(gpus, "held_to_use", lambda job, now, terminate_at: job)


@mutant("an attempt is counted by each driver that decides on it, saved or not")
def _counted_when_decided(patch: Patch) -> None:
    def save(self: Any, job: Job, event: Any) -> Any:
        for name, count in driver_room.measures.happened(job, driver_room.decide(job, event, self.clock()).job).items():
            self.counted(name, count)
        return old_save(replace(self, counted=lambda name, count: None), job, event)

    old_save = patch.set(driver_room.Driver, "_save", save)
