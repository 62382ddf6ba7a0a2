"""Stories of one attempt, in this process: the ways it ends, and what lies in S3 then."""

import threading
import time
from datetime import timedelta

import pytest

from agent.world import AgentExit
from jobspec.heartbeat import Phase
from jobspec.keys import marker_key, ticket_key
from jobspec.marker import FailureCode, Outcome
from jobspec.stages import STAGES
from jobspec.ticket import Handover
from tests.agent.cloud import FIRST, JOB, OUTPUTS, SECOND, Cloud, now, until, writer
from tests.agent.conftest import Launch


def test_a_job_is_staged_trained_uploaded_and_marked_complete(cloud: Cloud, launch: Launch) -> None:
    cloud.ticket()
    began = now()
    assert launch().run() is AgentExit.FINISHED
    marker = cloud.marker()
    assert marker is not None
    assert marker.outcome is Outcome.COMPLETED
    assert marker.results is not None
    assert marker.results.steps == 20
    for file in marker.files:
        head = cloud.s3.head_object(Bucket=OUTPUTS, Key=f"runs/{JOB}/{writer(FIRST)}/{file.path}")
        assert (head["ContentLength"], head["Metadata"]["sha256"]) == (file.size, file.sha256)
    assert {file.path for file in marker.files} == {"final/adapter_model.safetensors", "final/results.json"}
    beat = cloud.heartbeat()
    assert (beat.phase, beat.step, beat.total_steps, beat.first_step) == (Phase.FINISHED, 20, 20, 0)
    assert {"stage_data", "stage_model", "trainer", "prepare", "import", "load", "measure", "first_step"} <= beat.stages_s.keys() <= STAGES.keys()
    assert beat.first_step_at is not None
    assert began < beat.first_step_at < now()
    assert beat.saving is not None
    assert (beat.saving.stall_s, beat.saving.interval_s) == (0.25, 90)
    assert f"runs/{JOB}/{writer(FIRST)}/logs/progress.jsonl" in cloud.keys()


def test_only_files_that_are_no_code_are_staged_of_a_model(cloud: Cloud, launch: Launch) -> None:
    cloud.ticket()
    instance = launch()
    instance.run()
    assert {path.name for path in (instance.folders.run / "model").iterdir()} == {"config.json", "tokenizer.json", "model.safetensors"}


def test_an_interrupted_attempt_publishes_its_last_step_whole_and_hands_over(cloud: Cloud, launch: Launch) -> None:
    cloud.orders(step_s=0.02, save_every=1000)
    cloud.ticket(max_steps=1_000_000)
    instance = launch()
    instance.start()
    until(lambda: (instance.folders.run / "progress.jsonl").exists() and cloud.heartbeat().step >= 5)
    instance.imds.interrupt(30)
    assert instance.join() is AgentExit.HANDED_OVER
    beat = cloud.heartbeat()
    assert beat.phase is Phase.HANDED_OVER
    assert beat.notice is not None
    assert beat.checkpoint is not None
    assert beat.checkpoint.step == beat.step >= 5
    assert set(cloud.whole_checkpoints()) == {beat.step}
    assert cloud.marker() is None


def test_the_replacement_waits_for_the_hand_over_and_starts_at_exactly_that_step(cloud: Cloud, launch: Launch) -> None:
    cloud.orders(save_every=1000, hold_at=8)
    cloud.ticket(max_steps=60)
    first = launch()
    first.start()
    until(lambda: (first.folders.run / "progress.jsonl").exists() and cloud.heartbeat().step == 8)
    cloud.replacement(until_s=120, max_steps=60)
    second = launch(SECOND)
    second.start()
    until(lambda: cloud.heartbeat(SECOND).phase is Phase.WAITING if cloud.keys(f"runs/{JOB}/{writer(SECOND)}/") else False)
    assert second.host.starts == 0
    first.imds.interrupt(60)
    assert first.join() is AgentExit.HANDED_OVER
    assert second.join() is AgentExit.FINISHED
    assert cloud.heartbeat(SECOND).first_step == cloud.heartbeat(FIRST).step == 8
    marker = cloud.marker(SECOND)
    assert marker is not None
    assert marker.results is not None
    assert marker.results.first_step == 8


def test_a_predecessor_that_never_hands_over_costs_one_bounded_wait(cloud: Cloud, launch: Launch) -> None:
    cloud.replacement(until_s=0.5)
    started = time.monotonic()
    assert launch(SECOND).run() is AgentExit.FINISHED
    assert time.monotonic() - started >= 0.5
    assert cloud.heartbeat(SECOND).first_step == 0


@pytest.mark.parametrize("waits_s", [(0.5, -1.0), (-1.0, 0.5)])
def test_every_predecessor_that_may_still_save_is_waited_for(cloud: Cloud, launch: Launch, waits_s: tuple[float, float]) -> None:
    """The one before may have been interrupted while it waited itself, and have nothing to hand over."""
    third = "i-0000000000000000c"
    handovers = tuple(Handover(writer=writer(one), until=now() + timedelta(seconds=s)) for one, s in zip((SECOND, FIRST), waits_s, strict=True))
    cloud.ticket(third, attempt=3, earlier_writers=(writer(SECOND), writer(FIRST)), handovers=handovers)
    started = time.monotonic()
    assert launch(third).run() is AgentExit.FINISHED
    assert time.monotonic() - started >= 0.5


def test_a_notice_during_staging_hands_over_without_a_trainer(cloud: Cloud, launch: Launch) -> None:
    cloud.ticket()
    instance = launch()
    instance.imds.interrupt(60)
    assert instance.run() is AgentExit.HANDED_OVER
    assert instance.host.starts == 0


def test_a_rebalance_recommendation_is_told_and_changes_nothing_else(cloud: Cloud, launch: Launch) -> None:
    cloud.ticket()
    instance = launch()
    instance.imds.rebalance_at = now()
    assert instance.run() is AgentExit.FINISHED
    notice = cloud.heartbeat().notice
    assert notice is not None
    assert notice.kind == "rebalance"


def test_a_stop_order_brings_a_last_save_and_a_stopped_marker(cloud: Cloud, launch: Launch) -> None:
    cloud.orders(step_s=0.02, save_every=1000)
    cloud.ticket(max_steps=1_000_000)
    instance = launch()
    instance.start()
    until(lambda: (instance.folders.run / "progress.jsonl").exists() and cloud.heartbeat().step >= 3)
    cloud.order_stop("the budget is spent")
    assert instance.join() is AgentExit.FINISHED
    marker = cloud.marker()
    assert marker is not None
    assert marker.outcome is Outcome.STOPPED
    assert max(cloud.whole_checkpoints()) == cloud.heartbeat().step
    assert cloud.heartbeat().message == "the budget is spent"


def test_an_order_to_hand_over_brings_a_last_save_and_no_marker(cloud: Cloud, launch: Launch) -> None:
    cloud.orders(step_s=0.02, save_every=1000)
    cloud.ticket(max_steps=1_000_000)
    instance = launch()
    instance.start()
    until(lambda: (instance.folders.run / "progress.jsonl").exists() and cloud.heartbeat().step >= 3)
    cloud.order_stop("a cheaper instance takes over", hand_over=True)
    assert instance.join() is AgentExit.HANDED_OVER
    assert cloud.marker() is None
    assert max(cloud.whole_checkpoints()) == cloud.heartbeat().step
    assert cloud.heartbeat().phase is Phase.HANDED_OVER


def test_a_stop_order_for_another_attempt_is_not_heeded(cloud: Cloud, launch: Launch) -> None:
    cloud.ticket()
    cloud.order_stop(attempt=7)
    assert launch().run() is AgentExit.FINISHED
    marker = cloud.marker()
    assert marker is not None
    assert marker.outcome is Outcome.COMPLETED


def test_the_deadline_is_met_with_a_last_save_before_it(cloud: Cloud, launch: Launch) -> None:
    cloud.orders(step_s=0.02, save_every=1000)
    ticket = cloud.ticket(max_steps=1_000_000, deadline_at=now() + timedelta(seconds=3))
    assert launch().run() is AgentExit.FINISHED
    marker = cloud.marker()
    assert marker is not None
    assert marker.outcome is Outcome.STOPPED
    assert marker.at < ticket.deadline_at
    assert max(cloud.whole_checkpoints()) == cloud.heartbeat().step > 0


def test_a_trainer_that_heeds_no_stop_is_ended_and_its_last_finished_save_counts(cloud: Cloud, launch: Launch) -> None:
    cloud.orders(step_s=0.02, save_every=10, deaf=True)
    cloud.ticket(max_steps=1_000_000)
    instance = launch()
    instance.start()
    until(cloud.whole_checkpoints)
    instance.imds.interrupt(3)
    assert instance.join() is AgentExit.HANDED_OVER
    until(lambda: instance.host.process is not None and instance.host.process.poll() is not None)
    assert max(cloud.whole_checkpoints()) >= 10


def test_a_failed_trainer_names_its_reason_in_the_marker(cloud: Cloud, launch: Launch) -> None:
    cloud.orders(fail_at=3)
    cloud.ticket()
    assert launch().run() is AgentExit.FINISHED
    marker = cloud.marker()
    assert marker is not None
    assert marker.failure is not None
    assert (marker.failure.code, marker.failure.message) == (FailureCode.OUT_OF_MEMORY, "the GPU's memory is full")


def test_a_trainer_that_dies_at_the_same_step_is_given_up_after_three_restarts(cloud: Cloud, launch: Launch) -> None:
    cloud.orders(die_at=3, save_every=2)
    cloud.ticket()
    instance = launch()
    assert instance.run() is AgentExit.FINISHED
    marker = cloud.marker()
    assert marker is not None
    assert marker.failure is not None
    assert marker.failure.code is FailureCode.TRAINER_KILLED
    # The first start came to step 3, which is a step forward; then three in place.
    assert instance.host.starts == 4


def test_a_trainer_ended_from_outside_goes_on_from_its_newest_save(cloud: Cloud, launch: Launch) -> None:
    cloud.orders(hold_at=8)
    cloud.ticket(max_steps=40)
    instance = launch()
    instance.start()
    until(lambda: any((instance.folders.run / "checkpoints").glob("step-*")))
    instance.host.kill_trainer()
    (instance.folders.run / "go").touch()
    assert instance.join() is AgentExit.FINISHED
    marker = cloud.marker()
    assert marker is not None
    assert marker.results is not None
    assert marker.results.first_step == 5
    assert cloud.heartbeat().first_step == 0


def test_a_trainer_that_stopped_though_nobody_asked_is_started_again(cloud: Cloud, launch: Launch) -> None:
    cloud.orders(hold_at=8)
    cloud.ticket(max_steps=30)
    instance = launch()
    instance.start()
    until(lambda: (instance.folders.run / "progress.jsonl").exists() and cloud.heartbeat().step == 8)
    (instance.folders.run / "stop").touch()
    assert instance.join() is AgentExit.FINISHED
    assert instance.host.starts == 2
    marker = cloud.marker()
    assert marker is not None
    assert marker.outcome is Outcome.COMPLETED


def test_a_completed_trainer_without_a_result_is_a_failure(cloud: Cloud, launch: Launch) -> None:
    cloud.orders(no_result=True)
    cloud.ticket()
    launch().run()
    marker = cloud.marker()
    assert marker is not None
    assert marker.failure is not None
    assert "results.json" in marker.failure.message


def test_a_marker_that_is_there_stands_and_the_agent_does_no_work(cloud: Cloud, launch: Launch) -> None:
    cloud.ticket()
    instance = launch()
    key = marker_key(JOB, writer(FIRST))
    assert instance.run() is AgentExit.FINISHED
    before = cloud.read(key)
    assert instance.run() is AgentExit.FINISHED
    assert instance.host.starts == 1
    assert cloud.read(key) == before


def test_an_instance_without_a_ticket_gives_up_and_does_no_work(cloud: Cloud, launch: Launch) -> None:
    instance = launch()
    assert instance.run() is AgentExit.NO_TICKET
    assert instance.host.starts == 0
    assert cloud.keys() == []


def test_a_ticket_for_another_writer_is_not_taken(cloud: Cloud, launch: Launch) -> None:
    ticket = cloud.ticket(SECOND)
    cloud.put(ticket_key(writer(FIRST)), ticket.model_dump_json().encode())
    assert launch(FIRST).run() is AgentExit.NO_TICKET


def test_a_ticket_that_comes_late_is_taken(cloud: Cloud, launch: Launch) -> None:
    instance = launch()
    threading.Timer(0.1, cloud.ticket).start()
    assert instance.run() is AgentExit.FINISHED


@pytest.mark.parametrize("keep", [2, 3])
def test_only_the_newest_checkpoints_are_kept_in_s3(cloud: Cloud, launch: Launch, keep: int) -> None:
    cloud.orders(step_s=0.03, save_every=4)
    cloud.ticket(max_steps=28, manifest={"checkpoint": {"keep": keep}})
    assert launch().run() is AgentExit.FINISHED
    assert 1 < len(cloud.whole_checkpoints()) <= keep
