"""Planted bugs: each is one small, named change to the real code, such as a hand in a hurry makes. A checker that has not
been seen to catch them is not to be trusted.

``hunt`` plants one after the other and runs seeds until a promise breaks. A bug that nobody catches is a hole in the checks.
"""

import logging
import multiprocessing
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import click

from control_plane import census as census_room
from control_plane import curfew as curfew_room
from control_plane import driver as driver_room
from control_plane import look as look_room
from control_plane import statuses
from control_plane import tick as tick_room
from control_plane.adapters import dynamodb, ec2, items, publish_ledger, s3
from control_plane.adapters.spend import DynamoSpend
from control_plane.core import accept, attempts, closing, decide, failures, gpus, launching, ledger, placement, replacing, terminating
from control_plane.core.actions import CallLaunch, Terminate, WriteStop, WriteTicket
from control_plane.core.events import LaunchRefused
from control_plane.core.failures import RefusalKind
from control_plane.core.records import Market
from control_plane.core.state import Job, JobState
from control_plane.handlers import curfew as curfew_handler
from control_plane.handlers import reconcile
from control_plane.ports import OutcomeUnknown, StaleVersion
from tests.simulation import mutants_gangs, mutants_kin  # noqa: F401 - planted by being read
from tests.simulation.checks import Violation
from tests.simulation.generator import random_scenario
from tests.simulation.named import ALL as SCENARIOS
from tests.simulation.planting import EVERY, Mutant, Patch, mutant, planted
from tests.simulation.scenario import Scenario
from tests.simulation.world import World

# --- launches --------------------------------------------------------------------------------------------------------


@mutant("CreateFleet is called without a client token")
def _no_client_token(patch: Patch) -> None:
    old = ec2.fleet_request
    patch.set(ec2, "fleet_request", lambda plan, tags: {key: value for key, value in old(plan, tags).items() if key != "ClientToken"})


@mutant("the client token does not change with the pools or the try")
def _old_token_in_new_zones(patch: Patch) -> None:
    patch.set(placement, "_client_token", lambda job_id, attempt, *rest: f"df-{job_id}-{attempt}")


@mutant("the launch template is not pinned to a version")
def _latest_template(patch: Patch) -> None:
    old = placement.plan_launch

    def plan_launch(job: Job, offers: Any, *rest: Any) -> Any:
        return old(job, replace(offers, template_version="$Latest"), *rest)

    patch.set(placement, "plan_launch", plan_launch)


@mutant("the launch is called before its plan is saved")
def _call_before_the_plan_is_saved(patch: Patch) -> None:
    old = driver_room.decide

    def hasty(job: Job, event: Any, now: Any) -> Any:
        decision = old(job, event, now)
        if job.plan is None and any(isinstance(action, CallLaunch) for action in decision.actions):
            return replace(decision, job=decision.job.model_copy(update={"plan": None, "state": job.state}))
        return decision

    patch.set(driver_room, "decide", hasty)


@mutant("a plan whose outcome is unknown is thrown away and planned anew")
def _new_plan_at_each_look(patch: Patch) -> None:
    old = decide._look
    patch.set(
        decide,
        "_look",
        lambda job, look, now: old(job.model_copy(update={"plan": None, "tries": job.tries + 1}) if job.plan is not None and not job.ended else job, look, now),
    )


@mutant("no answer is taken for a refusal")
def _unknown_outcome_is_a_refusal(patch: Patch) -> None:
    old = ec2.Ec2Fleet.launch

    def launch(self: Any, plan: Any, tags: Any) -> Any:
        try:
            return old(self, plan, tags)
        except OutcomeUnknown as error:
            return LaunchRefused(plan, RefusalKind.CAPACITY, str(error))

    patch.set(ec2.Ec2Fleet, "launch", launch)


@mutant("an instance that stands beside errors in the fleet's answer is overlooked")
def _instance_beside_errors_is_overlooked(patch: Patch) -> None:
    def launch(self: Any, plan: Any, tags: Any) -> Any:
        answer = self._ec2.create_fleet(**ec2.fleet_request(plan, tags))
        rows = answer.get("Errors", [])
        if rows:
            return ec2.refused(plan, [ec2._pool_error(plan, entry) for entry in rows])
        return ec2.LaunchSucceeded(plan, tuple(self._launched(plan, e, i) for e in answer["Instances"] for i in e["InstanceIds"]))

    patch.set(ec2.Ec2Fleet, "launch", launch)


@mutant("instances are tagged after their birth, if at all")
def _no_tags_at_birth(patch: Patch) -> None:
    old = ec2.fleet_request

    def request(plan: Any, tags: Any) -> Any:
        asked = old(plan, tags)
        return asked | {"TagSpecifications": [entry for entry in asked["TagSpecifications"] if entry["ResourceType"] != "instance"]}

    patch.set(ec2, "fleet_request", request)


@mutant("a replacement is planned while an instance serves")
def _replacement_beside_a_serving_instance(patch: Patch) -> None:
    old = replacing.replaced

    def eager(job: Job, look: Any, now: Any) -> Job:
        beside = [a for a in job.attempts if a.heartbeat is not None and a.heartbeat.step >= 20 and a.is_open]
        return old(job.model_copy(update={"attempts": tuple(a.model_copy(update={"warned_at": now}) if a in beside else a for a in job.attempts)}), look, now)

    patch.set(replacing, "replaced", eager)


@mutant("refusals are not waited out")
def _no_back_off(patch: Patch) -> None:
    patch.set(placement, "wait_s", lambda times: 0)


@mutant("a quota is taken for a lack of capacity")
def _quota_is_capacity(patch: Patch) -> None:
    patch.set(failures, "QUOTA", frozenset())
    patch.set(failures, "CAPACITY", failures.CAPACITY | {"MaxSpotInstanceCountExceeded", "VcpuLimitExceeded"})


@mutant("a throttle inside Errors[] is taken for a lack of capacity")
def _throttle_is_capacity(patch: Patch) -> None:
    patch.set(failures, "THROTTLE", frozenset())
    patch.set(failures, "CAPACITY", failures.CAPACITY | {"RequestLimitExceeded"})


@mutant("max_wait counts the time in the queue")
def _the_queue_counts_as_a_wait(patch: Patch) -> None:
    patch.set(replacing, "QUEUED", frozenset())
    patch.set(launching, "QUEUED", frozenset())


@mutant("max_attempts is not looked at")
def _attempts_without_end(patch: Patch) -> None:
    old = replacing.replaced

    def on(job: Job, look: Any, now: Any) -> Job:
        assert job.manifest is not None
        limits = job.manifest.limits.model_copy(update={"max_attempts": 90})
        changed = old(job.model_copy(update={"manifest": job.manifest.model_copy(update={"limits": limits})}), look, now)
        return changed.model_copy(update={"manifest": job.manifest})

    patch.set(replacing, "replaced", on)


# --- looks -----------------------------------------------------------------------------------------------------------


@mutant("one answer without the instance proves that it is gone")
def _one_empty_describe_is_proof(patch: Patch) -> None:
    patch.set(attempts, "MISSING_FOR", timedelta(0))


@mutant("only the first page of DescribeInstances is read")
def _first_page_only(patch: Patch) -> None:
    def instances(self: Any, job_id: str | None = None) -> Any:
        filters = [{"Name": f"tag:{ec2.tag_keys.PROJECT}", "Values": [self._project]}]
        if job_id is not None:
            filters.append({"Name": f"tag:{ec2.tag_keys.JOB}", "Values": [job_id]})
        page = self._ec2.describe_instances(Filters=filters)
        return tuple(ec2._sight(i) for r in page["Reservations"] for i in r["Instances"])

    patch.set(ec2.Ec2Fleet, "instances", instances)


@mutant("a failed read of the manifest cancels the job")
def _unreadable_manifest_cancels(patch: Patch) -> None:
    old = look_room._known
    patch.set(look_room, "_known", lambda what, read: found if (found := old(what, read)) is not None or what != "manifest" else False)


@mutant("instances of every project are ours")
def _foreign_instances_are_ours(patch: Patch) -> None:
    old_instances = ec2.Ec2Fleet.instances

    def instances(self: Any, job_id: str | None = None) -> Any:
        if job_id is not None:
            return old_instances(self, job_id)
        pages = self._ec2.get_paginator("describe_instances").paginate(Filters=[])
        return tuple(ec2._sight(i) for page in pages for r in page["Reservations"] for i in r["Instances"])

    patch.set(ec2.Ec2Fleet, "instances", instances)
    old = tick_room.find_strays
    patch.set(
        tick_room,
        "find_strays",
        lambda project, sights, *rest: old(project, tuple(replace(s, tags=s.tags | {"dropforge:project": project}) for s in sights), *rest),
    )


@mutant("what could not be read is taken for absent")
def _unreadable_is_absent(patch: Patch) -> None:
    def known(what: str, read: Callable[[], Any]) -> Any:
        try:
            return read()
        except Exception:
            return {"marker": (None,), "manifest": False}.get(what)

    patch.set(look_room, "_known", known)


@mutant("an attempt is concluded without a look for its marker")
def _concluded_before_the_marker_is_read(patch: Patch) -> None:
    old = attempts.concluded

    def concluded(job: Job, look: Any) -> Job:
        return old(job, replace(look, markers={a.instance_id: None for a in job.attempts}))

    patch.set(decide.attempts, "concluded", concluded)
    patch.set(decide, "_read_markers", _only_while_alive(decide._read_markers))


def _only_while_alive(old: Callable[..., Job]) -> Callable[..., Job]:
    """Markers of instances that are gone are not read any more."""
    return lambda job, look, now: old(
        job, replace(look, markers={k: v for k, v in look.markers.items() if (a := job.attempt_of(k)) is not None and a.gone_at is None}), now
    )


@mutant("the sweep looks into the home region only")
def _sweep_of_the_home_region(patch: Patch) -> None:
    old = tick_room._sweep
    patch.set(tick_room, "_sweep", lambda driver, each, seen_in, *rest: old(driver, each, seen_in[:1], *rest))


@mutant("the curfew looks into the home region only")
def _curfew_of_the_home_region(patch: Patch) -> None:
    old = curfew_handler.end_overdue
    patch.set(curfew_handler, "end_overdue", lambda fleets, project, now: old(fleets[:1], project, now))


@mutant("a job looks for its instances in the home region only")
def _look_in_the_home_region(patch: Patch) -> None:
    patch.set(look_room.Watcher, "_instances", lambda self, job: self.fleets.at("").instances(job.job_id))
    patch.set(tick_room, "_seen", lambda driver, result: [(one := driver.fleets.parts()[0], one.instances())])


@mutant("instances are ended by the home region's EC2, wherever they live")
def _terminate_in_the_home_region(patch: Patch) -> None:
    old = driver_room.Driver._perform
    patch.set(driver_room.Driver, "_perform", lambda self, job, action: old(self, job, replace(action, zone="") if isinstance(action, Terminate) else action))


@mutant("a plan keeps the home region's template and role, and all regions' pools")
def _one_call_for_all_regions(patch: Patch) -> None:
    patch.set(placement, "region_of", lambda zone: "us-east-1")


@mutant("the pools of a region that refused are asked again at once")
def _refused_region_again(patch: Patch) -> None:
    patch.set(launching, "all_pools_failed", lambda job, plan, now: job)
    patch.set(launching, "pools_failed", lambda job, event, now: job)


@mutant("a settled job's dollars are added before it is known to be settled")
def _spend_before_the_job(patch: Patch) -> None:
    old = DynamoSpend.settling

    def settling(self: Any, job: Job, now: Any) -> list[Any]:
        if writes := old(self, job, now):
            self._dynamodb.transact_write_items(TransactItems=[{"Put": put} for put in writes])
        return []

    patch.set(DynamoSpend, "settling", settling)


@mutant("the month's spend is written over what others added")
def _spend_unconditional(patch: Patch) -> None:
    old = DynamoSpend._put
    patch.set(DynamoSpend, "_put", lambda self, *some: old(self, *some) | {"ConditionExpression": "attribute_not_exists(nothing)"})


@mutant("the markers are read before the instances")
def _markers_before_instances(patch: Patch) -> None:
    old = look_room.Watcher.look

    def look(self: Any, job: Job, now: Any, instances: Any = None) -> Any:
        before = old(self, job, now, instances or ())
        seen = self._instances(job) if job.attempts or job.plan is not None else None
        return replace(before, instances=seen)

    patch.set(look_room.Watcher, "look", look)


@mutant("the files that a marker names are not looked at")
def _marker_unverified(patch: Patch) -> None:
    old = look_room.Watcher._marker

    def marker(self: Any, job: Job, attempt: Any) -> Any:
        real = self.objects
        trusting = type("Trusting", (), {"get": real.get, "head": lambda self, bucket, key: type("F", (), {"size": 7, "sha256": None})()})()
        return old(replace(self, objects=trusting), job, attempt)

    patch.set(look_room.Watcher, "_marker", marker)


@mutant("a marker of another job is believed")
def _foreign_marker_is_believed(patch: Patch) -> None:
    old = look_room.wire.load

    def load(kind: Any, body: bytes) -> Any:
        found = old(kind, body)
        return found.model_copy(update={"job_id": body_job.get("now", found.job_id)}) if kind is look_room.CompletionMarker else found

    body_job: dict[str, str] = {}
    old_marker = look_room.Watcher._marker

    def marker(self: Any, job: Job, attempt: Any) -> Any:
        body_job["now"] = job.job_id
        return old_marker(self, job, attempt)

    patch.set(look_room.wire, "load", load)
    patch.set(look_room.Watcher, "_marker", marker)


@mutant("a marker that nobody can read is waited out")
def _unreadable_marker_is_waited_out(patch: Patch) -> None:
    patch.set(attempts, "closed_by_refusal", lambda job, attempt, sight: job)


@mutant("the marker of a warned attempt is not read")
def _marker_of_a_warned_attempt_is_ignored(patch: Patch) -> None:
    old = decide._read_markers
    patch.set(
        decide,
        "_read_markers",
        lambda job, look, now: old(
            job, replace(look, markers={k: v for k, v in look.markers.items() if (a := job.attempt_of(k)) and a.warned_at is None}), now
        ),
    )


# --- ends ------------------------------------------------------------------------------------------------------------


@mutant("an ended job goes on reading markers")
def _ends_do_not_absorb(patch: Patch) -> None:
    old = decide._look

    def look(job: Job, seen: Any, now: Any) -> Any:
        if job.ended and job.state is not JobState.SUCCEEDED and any(s is not None and s.marker is not None for s in seen.markers.values()):
            return job.model_copy(update={"state": JobState.SUCCEEDED}), []
        return old(job, seen, now)

    patch.set(decide, "_look", look)
    patch.set(closing, "end", _leaving_attempts_open(closing.owe))
    patch.set(decide, "end", _leaving_attempts_open(closing.owe))
    patch.set(replacing, "end", _leaving_attempts_open(closing.owe))


def _leaving_attempts_open(owe: Callable[..., Job]) -> Callable[..., Job]:
    return lambda job, state, reason, now: owe(closing.moved(job, state, reason, now), closing.NoticeKind.END, now)


@mutant("the run time of a job starts anew with each attempt")
def _deadline_per_attempt(patch: Patch) -> None:
    def stop_at(job: Job, now: Any) -> Any:
        assert job.manifest is not None
        return now + timedelta(seconds=job.manifest.limits.max_runtime)

    patch.set(placement, "stop_at", stop_at)


@mutant("the budget counts the newest attempt only")
def _budget_per_attempt(patch: Patch) -> None:
    patch.set(ledger, "job_cost_usd", lambda job, now: sum(ledger.cost_usd(a, now) for a in job.attempts[-1:] if a.gone_at is None))


@mutant("the budget is not looked at")
def _no_budget(patch: Patch) -> None:
    patch.set(ledger, "projected_usd", lambda job, now: 0.0)


@mutant("a deleted manifest is not noticed")
def _cancel_is_ignored(patch: Patch) -> None:
    old = decide._ended_by_order
    patch.set(
        decide, "_ended_by_order", lambda job, look, now: old(job.model_copy(update={"cancel_asked_at": None}), replace(look, manifest_present=None), now)
    )


@mutant("a job is settled while an instance of it still lives")
def _settled_too_early(patch: Patch) -> None:
    old = closing.is_clear

    def is_clear(job: Job) -> bool:
        return old(job.model_copy(update={"attempts": ()}))

    patch.set(closing, "is_clear", is_clear)
    patch.set(decide, "_owed", _without_ends(decide._owed))


def _without_ends(old: Callable[..., Any]) -> Callable[..., Any]:
    return lambda job, look, now: [] if job.ended else old(job, look, now)


# --- instances -------------------------------------------------------------------------------------------------------


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


# --- GPUs ------------------------------------------------------------------------------------------------------------


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


# --- records ---------------------------------------------------------------------------------------------------------


@mutant("a job is saved whatever version is stored")
def _unconditional_put(patch: Patch) -> None:
    old = dynamodb.DynamoStore._put

    def put(self: Any, item: Any, condition: str, values: Any = None) -> Any:
        return old(self, item, "attribute_not_exists(nothing)") if condition == "version = :loaded" else old(self, item, condition, values)

    patch.set(dynamodb.DynamoStore, "_put", put)


@mutant("a driver that was outrun acts on what it decided all the same")
def _outrun_and_acting(patch: Patch) -> None:
    old = dynamodb.DynamoStore.save

    def save(self: Any, job: Job) -> Job:
        try:
            return old(self, job)
        except StaleVersion:
            return self.load(job.job_id) or job

    patch.set(dynamodb.DynamoStore, "save", save)


@mutant("a driver that was outrun decides again on what it saw before")
def _old_look_on_a_newer_job(patch: Patch) -> None:
    def save(self: Any, job: Job, event: Any) -> Any:
        for _ in range(8):
            decision = driver_room.decide(job, event, self.clock())
            if decision.job == job:
                return job, decision.actions
            try:
                return self.store.save(decision.job), decision.actions
            except StaleVersion:
                job = self.store.load(job.job_id) or job
            except driver_room.NoTurn as taken:
                event = replace(event, turn=str(taken))
        raise StaleVersion("outrun")

    patch.set(driver_room.Driver, "_save", save)


@mutant("each delivery of an event makes a job of its own")
def _a_job_for_each_delivery(patch: Patch) -> None:
    count = iter(range(10**9))
    old = accept.job_id_of
    patch.set(accept, "job_id_of", lambda name, ref: f"{old(name, ref)[:-3]}{next(count) % 1000:03d}")
    patch.set(dynamodb.DynamoStore, "create", _without_holding(dynamodb.DynamoStore.create, lambda job: True))


def _without_holding(old: Callable[..., Any], free: Callable[[Job], bool]) -> Callable[..., Any]:
    """Jobs that are ``free`` are created beside whoever has their name or key."""

    def create(self: Any, job: Job) -> Any:
        answer = old(self, job)
        if isinstance(answer, dynamodb.Held) and free(job):
            self._outrun_at([self._put(items.item_of(job), "attribute_not_exists(pk)")])
            return None
        return answer

    return create


@mutant("turns are taken without a condition, after a look")
def _turns_are_check_then_act(patch: Patch) -> None:
    old = dynamodb.DynamoStore._turn

    def turn(self: Any, job: Job) -> Any:
        return {**old(self, job), "ConditionExpression": "attribute_not_exists(nothing)", "ExpressionAttributeValues": {}}

    patch.set(dynamodb.DynamoStore, "_turn", turn)


@mutant("a turn is not given back")
def _turns_are_kept_for_ever(patch: Patch) -> None:
    old = dynamodb.DynamoStore._turn

    def turn(self: Any, job: Job) -> Any:
        return old(self, job) if job.occupies else old(self, job.model_copy(update={"plan": _some_plan(job)}))

    patch.set(dynamodb.DynamoStore, "_turn", turn)


def _some_plan(job: Job) -> Any:
    return job.plan or (job.attempts[-1].plan if job.attempts else object())


@mutant("the limit on jobs is not looked at")
def _no_limit_on_jobs(patch: Patch) -> None:
    old = dynamodb.DynamoStore.__init__
    patch.set(dynamodb.DynamoStore, "__init__", lambda self, client, table, most, now: old(self, client, table, 1000, now))


@mutant("statuses are written over whatever is there")
def _status_written_over(patch: Patch) -> None:
    def replace_object(self: Any, bucket: str, key: str, body: bytes, etag: str | None) -> str:
        self.put(bucket, key, body)
        return "whatever"

    patch.set(s3.S3Objects, "replace", replace_object)
    patch.set(statuses, "age_of", lambda body: None)


@mutant("the census finds nothing")
def _no_census(patch: Patch) -> None:
    patch.set(reconcile, "census", lambda *arguments, **named: (0, []))


@mutant("the census takes S3's clock for exact")
def _census_by_the_clock(patch: Patch) -> None:
    patch.set(census_room, "CLOCKS", timedelta(0))


@mutant("a refused manifest does not mind the active job that it was put over")
def _refused_as_if_alone(patch: Patch) -> None:
    patch.set(dynamodb.DynamoStore, "create", _without_holding(dynamodb.DynamoStore.create, lambda job: job.state is JobState.REJECTED))


# --- e-mails ---------------------------------------------------------------------------------------------------------


@mutant("an e-mail is published before it is claimed")
def _published_before_it_is_claimed(patch: Patch) -> None:
    def claim(job: Job, now: Any) -> Any:
        due = [n for n in job.notices if closing._is_due(job, n, now)]
        return job, [closing.Publish(n.notice_id) for n in due]

    patch.set(closing, "claim_notices", claim)
    patch.set(driver_room.Driver, "_publish", _publish_unclaimed)


def _publish_unclaimed(self: Any, job: Job, notice_id: str) -> Any:
    notice = next(n for n in job.notices if n.notice_id == notice_id)
    self.post.publish(self._letter(job, notice))
    return driver_room.NoticePublished(notice_id)


@mutant("an e-mail is marked as published when it is claimed")
def _marked_before_it_is_published(patch: Patch) -> None:
    old = closing.claim_notices

    def claim(job: Job, now: Any) -> Any:
        job, letters = old(job, now)
        marked = tuple(n.model_copy(update={"published_at": now}) if n.claimed_at == now else n for n in job.notices)
        return job.model_copy(update={"notices": marked}), letters

    patch.set(closing, "claim_notices", claim)


@mutant("a claim that nobody marked is published again, whatever the ledger says")
def _the_ledger_is_not_asked(patch: Patch) -> None:
    old = closing.reckoned
    patch.set(closing, "reckoned", lambda job, in_ledger, now: old(job, dict.fromkeys(in_ledger, False), now))


@mutant("the ledger notes nothing")
def _the_ledger_is_not_kept(patch: Patch) -> None:
    patch.set(publish_ledger.DynamoLedger, "note", lambda self, notice_id, message_id, at: 1)


@mutant("a claim that nobody marked is left alone")
def _never_published_again(patch: Patch) -> None:
    patch.set(closing, "CLAIM_LASTS", timedelta(days=30))


@mutant("a claim is given up while its publish may still be under way")
def _claims_are_short(patch: Patch) -> None:
    patch.set(closing, "CLAIM_LASTS", timedelta(seconds=1))


@mutant("a cancelled job ends without an e-mail")
def _cancelled_in_silence(patch: Patch) -> None:
    old = closing.owe

    def owe(job: Job, kind: Any, now: Any, **named: Any) -> Job:
        return job if job.state is JobState.CANCELLED else old(job, kind, now, **named)

    patch.set(closing, "owe", owe)


@mutant("a refused manifest ends without an e-mail")
def _rejected_in_silence(patch: Patch) -> None:
    old = accept.owe
    patch.set(accept, "owe", lambda job, kind, now: job if job.state is JobState.REJECTED else old(job, kind, now))


@mutant("the e-mail of an end is published before the end is saved")
def _told_before_it_is_true(patch: Patch) -> None:
    old = driver_room.Driver._save

    def save(self: Any, job: Job, event: Any) -> Any:
        decision = driver_room.decide(job, event, self.clock())
        for action in decision.actions:
            if isinstance(action, closing.Publish) and action.notice_id.endswith("#end"):
                self._performed(decision.job, action, [])
        return old(self, job, event)

    patch.set(driver_room.Driver, "_save", save)


def named(name: str) -> Mutant:
    """Raises KeyError for a name that no planted bug has."""
    return {one.name: one for one in EVERY}[name]


# --- the hunt --------------------------------------------------------------------------------------------------------


#: Timings in which a bug that no seed catches is tried in each named scenario.
NAMED_TIMINGS = 3


def first_catch(one: Mutant, seeds: int) -> tuple[int, str] | None:
    """The first seed that catches the bug, and how; None where none of them does. A crash of the code is a catch too.

    A seed that fails without the bug catches nothing.
    """
    for seed in range(seeds):
        with planted(one):
            found = _failure(seed)
        if found and not _failure(seed):
            return seed, found
    return None


def named_catch(one: Mutant) -> tuple[str, str] | None:
    """The first named scenario that catches the bug in one of some timings, and how: for what chance seldom brings about."""
    for name, scenario in SCENARIOS.items():
        for seed in range(NAMED_TIMINGS):
            with planted(one):
                found = _failure(seed, scenario)
            if found and not _failure(seed, scenario):
                return name, found
    return None


def _failure(seed: int, scenario: Scenario | None = None) -> str:
    try:
        World(scenario or random_scenario(seed), seed).run()
    except Violation as violation:
        return str(violation)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def _try(arguments: tuple[int, int]) -> tuple[int, tuple[int, str] | None, tuple[str, str] | None, float]:
    number, seeds = arguments
    logging.disable(logging.CRITICAL)
    started = time.monotonic()
    found = first_catch(EVERY[number], seeds)
    return number, found, named_catch(EVERY[number]) if found is None else None, time.monotonic() - started


def hunt(seeds: int, jobs: int, only: str) -> int:
    """Plant each bug. 1 if one escapes."""
    wanted = [(number, seeds) for number, one in enumerate(EVERY) if only in one.name]
    caught: list[int] = []
    by_name = 0
    with multiprocessing.get_context("fork").Pool(jobs) as pool:
        for number, found, scenario, took_s in pool.imap_unordered(_try, wanted):
            one = EVERY[number]
            if found is not None:
                caught.append(found[0])
            by_name += scenario is not None
            told = f"ESCAPED {seeds} seeds"
            if found is not None:
                told = f"seed {found[0]:>5}: {found[1][:110]}"
            elif scenario is not None:
                told += f", caught by the scenario {scenario[0]!r}: {scenario[1][:80]}"
            click.echo(f"{one.name:<45} {told}  [{took_s:.1f} s]\n{'':<45} ({one.what})")
    if caught:
        click.echo(f"first seeds: median {statistics.median(caught):.0f}, worst {max(caught)}")
    click.echo(f"caught {len(caught) + by_name} of {len(wanted)}" + (f", {by_name} of them by a named scenario only" if by_name else ""))
    return 0 if len(caught) + by_name == len(wanted) else 1
