"""Planted bugs of launches: the plan, the call, its answer, and what is waited for."""

from dataclasses import replace
from typing import Any

from control_plane import driver as driver_room
from control_plane.adapters import ec2
from control_plane.core import decide, failures, launching, placement, replacing
from control_plane.core.actions import CallLaunch
from control_plane.core.events import LaunchRefused
from control_plane.core.failures import RefusalKind
from control_plane.core.state import Job
from control_plane.ports import OutcomeUnknown
from tests.simulation.planting import Patch, mutant


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
