"""Planted bugs of jobs with several instances. Gangs are in six worlds of a hundred."""

from typing import Any

from control_plane import look as look_room
from control_plane import tickets
from control_plane.adapters import ec2
from control_plane.core import attempts, decide, launching, ledger, terminating
from control_plane.core.actions import WriteTicket
from control_plane.core.records import Attempt
from control_plane.core.state import Job
from tests.simulation.planting import Patch, mutant


@mutant("a part of a gang is taken for the whole")
def _a_part_is_a_gang(patch: Patch) -> None:
    patch.set(launching, "_too_few", lambda job, plan, started, now: (launching.started(job, plan, started, now), []))


@mutant("a fleet may start a part of a gang, and in several pools")
def _gangs_are_scattered(patch: Patch) -> None:
    old = ec2.fleet_request
    together = {"MinTargetCapacity", "SingleInstanceType", "SingleAvailabilityZone"}

    def request(plan: Any, tags: Any) -> Any:
        asked = old(plan, tags)
        return {key: {k: v for k, v in value.items() if k not in together} if key.endswith("Options") else value for key, value in asked.items()}

    patch.set(ec2, "fleet_request", request)


@mutant("the loss of one instance is not the loss of its gang")
def _a_gang_is_never_broken(patch: Patch) -> None:
    patch.set(attempts, "broken", lambda job, now: job)


@mutant("a gang is replaced only once all of it is gone, and nobody ends it")
def _a_broken_gang_is_left_alone(patch: Patch) -> None:
    patch.set(terminating, "_why_not_wait", lambda attempt, instance, broken_at, rules, now: "")


@mutant("what is left of a gang is ended at once, before its leader has saved")
def _a_leader_has_no_time_to_save(patch: Patch) -> None:
    patch.set(terminating, "_why_not_wait", lambda attempt, instance, broken_at, rules, now: "it is broken")


@mutant("every member of a gang is told that it leads")
def _everybody_leads(patch: Patch) -> None:
    old = tickets._gang_of

    def gang(attempt: Attempt, instance_id: str) -> Any:
        found = old(attempt, instance_id)
        return found.model_copy(update={"rank": 0}) if found is not None else None

    patch.set(tickets, "_gang_of", gang)


@mutant("only the leader of a gang gets its ticket")
def _one_ticket_for_all(patch: Patch) -> None:
    old = decide._owed

    def owed(job: Job, look: Any, now: Any) -> Any:
        leaders = {attempt.instance_id for attempt in job.attempts}
        return [action for action in old(job, look, now) if not isinstance(action, WriteTicket) or action.instance_id in leaders]

    patch.set(decide, "_owed", owed)


@mutant("only the leader of a gang is listened to")
def _silent_members_are_not_missed(patch: Patch) -> None:
    old = look_room.Watcher._heartbeat_read

    def read(self: Any, job: Job, attempt: Attempt, instance: Any) -> Any:
        if instance.instance_id != attempt.instance_id:
            raise LookupError("not read")
        return old(self, job, attempt, instance)

    patch.set(look_room.Watcher, "_heartbeat_read", read)


@mutant("only the leader of a gang is paid for")
def _members_cost_nothing(patch: Patch) -> None:
    old = ledger._paid_pieces
    patch.set(ledger, "_paid_pieces", lambda attempt, now: old(attempt.model_copy(update={"others": ()}), now))
    patch.set(ledger, "burn_usd_per_h", lambda job: sum(ledger.usd_per_h_now(a) for a in job.attempts if a.gone_at is None))


@mutant("a gang is over with its leader")
def _over_with_its_leader(patch: Patch) -> None:
    patch.set(Attempt, "over_at", property(lambda attempt: attempt.gone_at))
