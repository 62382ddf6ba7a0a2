"""Planted bugs of looks: what is read of instances, markers and the world, and what is made of what could not be read."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

from control_plane import driver as driver_room
from control_plane import look as look_room
from control_plane import tick as tick_room
from control_plane.adapters import ec2
from control_plane.adapters.spend import DynamoSpend
from control_plane.core import attempts, decide, launching, placement
from control_plane.core.actions import Terminate
from control_plane.core.state import Job
from control_plane.handlers import curfew as curfew_handler
from tests.simulation.planting import Patch, mutant


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
