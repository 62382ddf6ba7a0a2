"""The agent's smaller parts: metadata, marker, progress lines, and an agent that is ended anywhere and started again."""

import json
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from agent import __main__ as entry
from agent.imds import Imds, ImdsUnreachable
from agent.progress import ProgressReader
from agent.settings import from_environment
from agent.store import Store
from agent.world import AgentExit
from jobspec.heartbeat import Notice
from jobspec.marker import FailureCode, Outcome
from jobspec.runfile import Progress, ProgressKind
from tests.agent.cloud import FIRST, OUTPUTS, Cloud, now
from tests.agent.conftest import Launch
from tests.imds import FakeImds


def test_metadata_is_asked_for_with_one_token() -> None:
    with FakeImds(FIRST) as fake:
        imds = Imds(fake.endpoint, now)
        assert imds.instance_id() == FIRST
        assert imds.interruption() is None
        assert imds.rebalance() is None
        assert fake.tokens_given == 1
        assert not any("termination-time" in path for path in fake.asked)


def test_a_token_that_has_run_out_is_asked_for_anew() -> None:
    with FakeImds(FIRST) as fake:
        imds = Imds(fake.endpoint, now)
        imds.instance_id()
        fake.token = "another"
        assert imds.instance_id() == FIRST
        assert fake.tokens_given == 2


def test_a_notice_carries_the_time_that_ec2_names() -> None:
    with FakeImds(FIRST) as fake:
        fake.interruption = {"action": "terminate", "time": "2026-09-18T08:22:00Z"}
        assert Imds(fake.endpoint, now).interruption() == Notice(kind="interruption", at=datetime(2026, 9, 18, 8, 22, tzinfo=UTC))


@pytest.mark.parametrize("document", ["{}", "terminate", '{"time": "soon"}', "[]", '{"time": null}'])
def test_an_unreadable_notice_is_a_notice_all_the_same(document: str) -> None:
    at = datetime(2026, 9, 18, 8, 20, tzinfo=UTC)
    with FakeImds(FIRST) as fake:
        fake.interruption = document
        assert Imds(fake.endpoint, lambda: at).interruption() == Notice(kind="interruption", at=at + timedelta(minutes=2))


def test_a_metadata_service_that_fails_gives_no_notice_and_no_crash(caplog: pytest.LogCaptureFixture) -> None:
    with FakeImds(FIRST) as fake:
        imds = Imds(fake.endpoint, now)
        fake.broken = 500
        assert (imds.interruption(), imds.interruption()) == (None, None)
        assert len(caplog.records) == 1, "said once, not every second"
        with pytest.raises(ImdsUnreachable):
            imds.instance_id()
        fake.broken = None
        fake.interrupt(120)
        assert imds.interruption() is not None


def test_a_missing_fact_of_the_environment_is_named() -> None:
    with pytest.raises(KeyError, match="DROPFORGE_OUTPUTS_BUCKET"):
        from_environment({"DROPFORGE_DATA_BUCKET": "a"})


def test_a_document_is_written_once_and_the_first_one_stands(cloud: Cloud) -> None:
    store = Store(cloud.s3)
    assert store.write_once(OUTPUTS, "marker", b"first")
    assert not store.write_once(OUTPUTS, "marker", b"second")
    assert store.read(OUTPUTS, "marker") == b"first"


def test_a_racing_write_is_tried_again_and_another_error_is_raised(cloud: Cloud) -> None:
    answers = iter([409, 409, 200, 500])

    class Racing:
        def put_object(self, **_options: Any) -> None:
            status = next(answers)
            if status != 200:
                raise ClientError({"ResponseMetadata": {"HTTPStatusCode": status}}, "PutObject")  # type: ignore[typeddict-item]  # a part of it

    store = Store(Racing())
    assert store.write_once(OUTPUTS, "marker", b"body")
    with pytest.raises(ClientError):
        store.write_once(OUTPUTS, "marker", b"body")


def _line(kind: ProgressKind, **fields: Any) -> bytes:
    return Progress(kind=kind, at=now(), **fields).model_dump_json().encode() + b"\n"


def test_progress_is_read_as_it_grows_even_in_halves_of_lines(tmp_path: Path) -> None:
    path = tmp_path / "progress.jsonl"
    reader = ProgressReader(path)
    assert reader.read().first_step is None
    line = _line(ProgressKind.STEP, step=1, total_steps=9, loss=2.5)
    path.write_bytes(line[:20])
    assert reader.read().step == 0
    path.write_bytes(line)
    told = reader.read()
    assert (told.step, told.total_steps, told.loss, told.first_step) == (1, 9, 2.5, 0)


def test_lines_that_are_no_progress_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "progress.jsonl"
    path.write_bytes(b"Segmentation fault\n" + b"x" * 100_000 + b"\n" + b'{"kind": "step"}\n\n' + _line(ProgressKind.STEP, step=3))
    assert ProgressReader(path).read().step == 3


def test_the_first_step_is_where_this_instance_began(tmp_path: Path) -> None:
    path = tmp_path / "progress.jsonl"
    path.write_bytes(_line(ProgressKind.RESUMED, step=40) + _line(ProgressKind.STEP, step=41) + _line(ProgressKind.RESUMED, step=20))
    told = ProgressReader(path).read()
    assert (told.first_step, told.step) == (40, 20)


def test_a_failure_line_without_a_code_is_a_trainer_error(tmp_path: Path) -> None:
    path = tmp_path / "progress.jsonl"
    path.write_bytes(_line(ProgressKind.FAILED, message="it broke"))
    failure = ProgressReader(path).read().failure
    assert failure is not None
    assert (failure.code, failure.message) == (FailureCode.TRAINER_ERROR, "it broke")


class Cut(BaseException):
    """The agent's end by kill -9, for a test in one process."""


class CutStore(Store):
    """Ends the agent at its n-th call of S3, before or after the call took effect."""

    def __init__(self, s3: Any, at: int, *, after: bool) -> None:
        super().__init__(self)
        self._real, self._left, self._after = s3, at, after

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._real, name)

        def call(*args: Any, **options: Any) -> Any:
            # Calls of the transfer's own threads come in no order that a test could name.
            if threading.current_thread() is not threading.main_thread():
                return method(*args, **options)
            self._left -= 1
            if self._left == 0 and not self._after:
                raise Cut
            try:
                return method(*args, **options)
            finally:
                if self._left == 0:
                    raise Cut

        return call


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", [1, 3, 6, 8, 9, 10, 11, 12, 14, 16, 18, 19])
def test_an_agent_ended_at_any_call_goes_on_and_asks_for_no_second_trainer(cloud: Cloud, launch: Launch, at: int, after: bool) -> None:
    cloud.orders(step_s=0)
    cloud.ticket(max_steps=4, heartbeat_s=5)
    instance = launch()
    world = instance.world()
    cut = replace(world, store=CutStore(cloud.s3, at, after=after))
    with pytest.raises(Cut):
        entry.run(cut)
    assert entry.run(world) is AgentExit.FINISHED
    assert instance.host.starts == 1
    marker = cloud.marker()
    assert marker is not None
    assert marker.outcome is Outcome.COMPLETED


def test_an_agent_that_comes_back_after_handing_over_hands_over_again(cloud: Cloud, launch: Launch) -> None:
    cloud.ticket()
    instance = launch()
    instance.imds.interrupt(60)
    assert [instance.run(), instance.run()] == [AgentExit.HANDED_OVER] * 2
    assert cloud.marker() is None


def test_the_sequence_of_heartbeats_goes_on_after_a_restart(cloud: Cloud, launch: Launch) -> None:
    cloud.ticket(heartbeat_s=60)
    instance = launch()
    with pytest.raises(Cut):
        entry.run(replace(instance.world(), store=CutStore(cloud.s3, 14, after=True), sleep=lambda _s: None))
    before = cloud.heartbeat().seq
    assert before > 0
    assert instance.run() is AgentExit.FINISHED
    assert cloud.heartbeat().seq > before
    assert json.loads((instance.folders.run / "run.json").read_text())["job_id"] == cloud.heartbeat().job_id
