"""Planted bugs of records: versions, turns, statuses, manifests that no event told of."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

from control_plane import census as census_room
from control_plane import driver as driver_room
from control_plane import statuses
from control_plane.adapters import dynamodb, items, s3
from control_plane.core import accept
from control_plane.core.state import Job, JobState
from control_plane.handlers import reconcile
from control_plane.ports import StaleVersion
from tests.simulation.planting import Patch, mutant


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
