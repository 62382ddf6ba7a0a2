"""JobStore, Turns, PublishLedger and HoldStore: the same on every side."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from control_plane.adapters.dynamodb import DynamoStore
from control_plane.adapters.errors import InstanceTaken
from control_plane.core.records import Instance
from control_plane.core.state import Job, JobState, Wait, WaitKind
from control_plane.ports import Held, HoldStore, JobStore, NoTurn, PublishLedger, StaleVersion
from jobspec.operator import Hold
from jobspec.status import ProblemLine
from tests.contract.samples import NOW, attempt, changed, instance_id, job, manifest, plan


def test_a_created_job_is_loaded_as_it_was(store: JobStore) -> None:
    rich = job(plan=plan(), attempts=(attempt(1),), problems=(ProblemLine(path="model.hub", line=3, message="wrong"),))
    assert store.create(rich) is None
    assert store.load("demo-1") == rich


def test_an_unknown_job_and_unknown_pointers_are_none(store: JobStore) -> None:
    assert store.load("nobody") is None
    assert store.find(instance_id=instance_id(1)) is None
    assert store.find(bucket="data-bucket", key="jobs/demo.yaml") is None
    assert store.find(name="demo") is None


def test_creating_the_same_id_again_answers_with_the_stored_job_and_changes_nothing(store: JobStore) -> None:
    store.create(job())
    progressed = store.save(changed(job(), state=JobState.PLANNED))
    assert store.create(job()) == progressed
    assert store.load("demo-1") == progressed


@pytest.mark.parametrize(("what", "second"), [("name", job("demo-2", key="jobs/other.yaml")), ("key", job("demo-2", name="other"))])
def test_a_name_or_key_of_an_active_job_holds_up_a_second_one(store: JobStore, what: str, second: Job) -> None:
    first = job()
    store.create(first)
    assert store.create(second) == Held(first, what)
    assert store.load("demo-2") is None


def test_a_create_that_is_held_up_takes_nothing(store: JobStore) -> None:
    store.create(job())
    assert isinstance(store.create(job("demo-2", name="other")), Held)
    assert store.find(name="other") is None
    assert store.find(bucket="data-bucket", key="jobs/demo.yaml") == "demo-1"
    assert store.create(job("demo-3", name="other", key="jobs/other.yaml")) is None


def test_the_same_key_in_another_bucket_is_another_manifest(store: JobStore) -> None:
    store.create(job())
    elsewhere = job("demo-2", name="other")
    ref = changed(elsewhere).manifest_ref.model_copy(update={"bucket": "other-bucket"})
    assert store.create(changed(elsewhere, manifest_ref=ref)) is None
    assert store.find(bucket="other-bucket", key="jobs/demo.yaml") == "demo-2"
    assert store.find(bucket="data-bucket", key="jobs/demo.yaml") == "demo-1"


def test_after_its_end_a_job_gives_up_its_name_and_key_to_the_next(store: JobStore) -> None:
    store.create(job())
    ended = store.save(changed(job(), state=JobState.FAILED))
    assert store.find(name="demo") == "demo-1"
    assert store.create(job("demo-2")) is None
    assert store.find(name="demo") == "demo-2"
    assert store.find(bucket="data-bucket", key="jobs/demo.yaml") == "demo-2"
    store.save(changed(ended, settled=True))
    assert store.find(name="demo") == "demo-2"


def test_the_name_that_one_successor_took_is_held_against_the_other(store: JobStore) -> None:
    store.create(job())
    store.save(changed(job(), state=JobState.SUCCEEDED))
    second = job("demo-2")
    assert store.create(second) is None
    assert store.create(job("demo-3")) == Held(second, "name")


def test_a_job_refused_beside_an_active_one_takes_neither_name_nor_key_and_nothing_holds_it_up(store: JobStore) -> None:
    store.create(job())
    beside = job("demo-2", state=JobState.REJECTED, manifest=None, refused_beside="demo-1")
    assert store.create(beside) is None
    assert store.find(name="demo") == "demo-1"
    assert store.find(bucket="data-bucket", key="jobs/demo.yaml") == "demo-1"
    again = store.create(beside)
    assert again is not None
    assert not isinstance(again, Held)
    assert again.job_id == "demo-2"


def test_a_refused_manifest_that_stands_alone_takes_its_name_and_key_and_cannot_overlook_an_active_job(store: JobStore) -> None:
    assert store.create(job("lonely", name="lonely", key="jobs/lonely.yaml", state=JobState.REJECTED, manifest=None)) is None
    assert store.find(name="lonely") == "lonely"
    assert store.create(job("next", name="lonely", key="jobs/lonely.yaml")) is None, "what was refused holds nobody up"
    late = store.create(job("late", name="lonely", key="jobs/lonely.yaml", state=JobState.REJECTED, manifest=None))
    assert isinstance(late, Held)
    assert late.by.job_id == "next"


def test_each_save_makes_the_next_version(store: JobStore) -> None:
    store.create(job())
    first = store.save(changed(job(), reason="one"))
    second = store.save(changed(first, reason="two"))
    assert (first.version, second.version) == (1, 2)
    assert store.load("demo-1") == second


def test_of_two_savers_from_one_version_exactly_one_is_stale(store: JobStore) -> None:
    store.create(job())
    winner = store.save(changed(job(), reason="winner"))
    with pytest.raises(StaleVersion):
        store.save(changed(job(), reason="loser"))
    assert store.load("demo-1") == winner


def test_a_version_from_the_future_is_stale_too(store: JobStore) -> None:
    store.create(job())
    with pytest.raises(StaleVersion):
        store.save(changed(job(), version=1))


def test_a_job_that_was_never_created_cannot_be_saved(store: JobStore) -> None:
    with pytest.raises(StaleVersion):
        store.save(job())
    assert store.load("demo-1") is None


def test_a_new_instance_is_found_from_the_save_on_that_names_it(store: JobStore) -> None:
    store.create(job())
    one = store.save(changed(job(), attempts=(attempt(1),)))
    assert store.find(instance_id=instance_id(1)) == "demo-1"
    assert store.find(instance_id=instance_id(2)) is None
    store.save(changed(one, attempts=(attempt(1), attempt(2))))
    assert store.find(instance_id=instance_id(1)) == "demo-1"
    assert store.find(instance_id=instance_id(2)) == "demo-1"


def test_every_instance_of_a_gang_is_found_from_the_save_on_that_names_it(store: JobStore) -> None:
    store.create(job())
    gang = attempt(1, plan(nodes=3), others=(Instance(instance_id=instance_id(0xA)), Instance(instance_id=instance_id(0xB))))
    saved = store.save(changed(job(), attempts=(gang,)))
    assert [store.find(instance_id=instance_id(n)) for n in (1, 0xA, 0xB)] == ["demo-1"] * 3
    assert store.load("demo-1") == saved


def test_a_stale_save_leaves_no_instance_behind(store: JobStore) -> None:
    store.create(job())
    store.save(changed(job(), reason="winner"))
    with pytest.raises(StaleVersion):
        store.save(changed(job(), attempts=(attempt(1),)))
    assert store.find(instance_id=instance_id(1)) is None


def test_an_instance_on_another_jobs_record_cannot_be_named(store: JobStore) -> None:
    store.create(job())
    store.save(changed(job(), attempts=(attempt(1),)))
    other = job("other-1", name="other", key="jobs/other.yaml")
    store.create(other)
    with pytest.raises(InstanceTaken, match=instance_id(1)):
        store.save(changed(other, attempts=(attempt(2), attempt(1)), reason="mine"))
    assert store.find(instance_id=instance_id(1)) == "demo-1"
    assert store.find(instance_id=instance_id(2)) is None
    assert store.load("other-1") == other


def test_unsettled_lists_every_job_with_work_left_and_no_other(store: JobStore) -> None:
    assert list(store.unsettled()) == []
    for n in range(3):
        store.create(job(f"demo-{n}", name=f"demo-{n}", key=f"jobs/{n}.yaml"))
    store.create(job("bad", state=JobState.REJECTED, manifest=None))
    ended = store.save(changed(job("demo-1", name="demo-1", key="jobs/1.yaml"), state=JobState.FAILED))
    assert sorted(store.unsettled()) == ["bad", "demo-0", "demo-1", "demo-2"]
    store.save(changed(ended, settled=True))
    assert sorted(store.unsettled()) == ["bad", "demo-0", "demo-2"]


def test_a_loaded_job_is_nobody_elses_copy(store: JobStore) -> None:
    store.create(job())
    first, second = store.load("demo-1"), store.load("demo-1")
    assert first == second
    assert first is not second


def test_the_hold_is_set_and_replaced(holds: HoldStore) -> None:
    assert holds.current() is None
    holds.put(Hold(reason="the month's budget is spent", since=NOW))
    holds.put(Hold(reason="a person paused it", since=NOW, until=NOW))
    assert holds.current() == Hold(reason="a person paused it", since=NOW, until=NOW)


def queued(name: str, minutes: float = 0, **changes: Any) -> Job:
    """A job that came so many minutes after the first."""
    return job(name, name=name, key=f"jobs/{name}.yaml", accepted_at=NOW + timedelta(minutes=minutes), **changes)


def test_a_job_takes_a_turn_with_its_plan_and_gives_it_back_without(store_for: Callable[[int], DynamoStore]) -> None:
    store = store_for(1)
    one, two = queued("one"), queued("two", 1)
    store.create(one)
    store.create(two)
    assert store.refusal(one) is None
    launching = store.save(changed(one, plan=plan()))
    assert store.refusal(two) == "1 jobs run, as many as may (MaxConcurrentJobs)"
    with pytest.raises(NoTurn):
        store.save(changed(two, plan=plan()))
    assert store.load("two") == two
    running = store.save(changed(launching, state=JobState.RUNNING, plan=None, attempts=(attempt(1),)))
    with pytest.raises(NoTurn):
        store.save(changed(two, plan=plan()))
    gone = changed(attempt(1), gone_at=NOW)
    store.save(changed(running, attempts=(gone,)))
    assert store.refusal(two) is None
    assert store.save(changed(two, plan=plan())).version == 1


def test_a_save_that_is_refused_a_turn_leaves_the_instance_unnamed(store_for: Callable[[int], DynamoStore]) -> None:
    store = store_for(1)
    for one in (queued("one"), queued("two")):
        store.create(one)
    store.save(changed(queued("one"), attempts=(attempt(1),)))
    with pytest.raises(NoTurn):
        store.save(changed(queued("two"), attempts=(attempt(2),)))
    assert store.find(instance_id=instance_id(2)) is None


def test_who_keeps_a_turn_needs_none_for_the_next_instance(store_for: Callable[[int], DynamoStore]) -> None:
    store = store_for(1)
    store.create(queued("one"))
    running = store.save(changed(queued("one"), attempts=(attempt(1),)))
    both = store.save(changed(running, plan=plan(attempt=2)))
    assert store.save(changed(both, plan=None, attempts=(attempt(1), attempt(2)))).version == 3


def test_an_old_version_is_stale_and_not_out_of_turns(store_for: Callable[[int], DynamoStore]) -> None:
    """The job gave its turn back since, and another has it: whoever still holds the old version was outrun, no more."""
    store = store_for(1)
    for one in (queued("one"), queued("two")):
        store.create(one)
    running = store.save(changed(queued("one"), attempts=(attempt(1),)))
    store.save(changed(running, attempts=(changed(attempt(1), gone_at=NOW),)))
    store.save(changed(queued("two"), plan=plan()))
    with pytest.raises(StaleVersion):
        store.save(changed(running, reason="late"))


def test_a_lower_limit_takes_no_turn_away_and_gives_none(store_for: Callable[[int], DynamoStore]) -> None:
    store = store_for(3)
    for n in range(3):
        store.create(queued(f"n{n}"))
    held = [store.save(changed(queued(f"n{n}"), plan=plan())) for n in range(2)]
    lowered = store_for(1)
    assert lowered.refusal(queued("n2")) is not None
    assert lowered.save(changed(held[0], reason="goes on")).version == 2
    lowered.save(changed(held[1], plan=None))
    assert lowered.refusal(queued("n2")) is not None


def test_the_line_is_in_the_order_of_arrival_with_priority_as_a_head_start(store_for: Callable[[int], DynamoStore]) -> None:
    store = store_for(2)
    urgent = manifest("urgent").model_copy(update={"priority": "high"})
    low = manifest("low").model_copy(update={"priority": "low"})
    line = [queued("urgent", 300, manifest=urgent), queued("one", 0), queued("two", 1), queued("late", 359), queued("low", 0, manifest=low)]
    for one in reversed(line):
        store.create(one)
    assert list(store.unsettled()) == [one.job_id for one in line]
    assert [store.refusal(one) for one in line] == [None, None] + ["others wait longer or with priority"] * 3


def test_who_runs_or_has_ended_is_driven_before_those_who_wait(store_for: Callable[[int], DynamoStore]) -> None:
    """Only they give turns back; and a job that waits for something else than a turn stands in nobody's way."""
    store = store_for(2)
    for name in ("a-waits", "b-runs", "c-ended", "d-starved"):
        store.create(queued(name))
    store.save(changed(queued("b-runs"), attempts=(attempt(1),)))
    store.save(changed(queued("c-ended"), state=JobState.FAILED))
    wait = Wait(kind=WaitKind.CAPACITY, reason="none", since=NOW, until=NOW)
    store.save(changed(queued("d-starved"), state=JobState.WAITING, wait=wait))
    assert list(store.unsettled()) == ["b-runs", "c-ended", "d-starved", "a-waits"]
    assert store.refusal(queued("a-waits")) is None


def test_a_line_longer_than_a_page_is_read_whole(store: JobStore) -> None:
    names = [f"n{n}" for n in range(8)]
    for n, name in enumerate(names):
        store.create(queued(name, n))
    assert list(store.unsettled()) == names


def test_the_publish_ledger_counts_publishes_and_not_deliveries(ledger: PublishLedger) -> None:
    assert not ledger.knows("demo-1#end")
    assert ledger.note("demo-1#end", "message-1", NOW) == 1
    assert ledger.note("demo-1#end", "message-1", NOW) == 1
    assert ledger.note("demo-1#end", "message-2", NOW) == 2
    assert ledger.note("demo-2#end", "message-3", NOW) == 1
    assert ledger.knows("demo-1#end")
    assert not ledger.knows("demo-1#quota")
