"""JobStore and HoldStore: the same on both sides."""

import pytest

from control_plane.adapters.errors import InstanceTaken
from control_plane.core.state import Job, JobState
from control_plane.ports import Held, Hold, HoldStore, JobStore, StaleVersion
from jobspec.status import ProblemLine
from tests.contract.samples import NOW, attempt, changed, instance_id, job, plan


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


def test_a_rejected_job_takes_neither_name_nor_key_and_nothing_holds_it_up(store: JobStore) -> None:
    store.create(job())
    assert store.create(job("demo-2", state=JobState.REJECTED, manifest=None)) is None
    assert store.find(name="demo") == "demo-1"
    assert store.find(bucket="data-bucket", key="jobs/demo.yaml") == "demo-1"
    assert store.create(job("lonely", name="lonely", key="jobs/lonely.yaml", state=JobState.REJECTED)) is None
    assert store.find(name="lonely") is None
    again = store.create(job("lonely", name="lonely", key="jobs/lonely.yaml", state=JobState.REJECTED))
    assert again is not None
    assert not isinstance(again, Held)
    assert again.job_id == "lonely"


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


def test_the_hold_is_set_replaced_and_lifted(holds: HoldStore) -> None:
    assert holds.current() is None
    holds.put(Hold(reason="the month's budget is spent", since=NOW))
    holds.put(Hold(reason="a person paused it", since=NOW, until=NOW))
    assert holds.current() == Hold(reason="a person paused it", since=NOW, until=NOW)
    holds.put(None)
    holds.put(None)
    assert holds.current() is None
