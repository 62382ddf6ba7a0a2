"""What the instance role is refused, and what S3 is slow to take: named, visible, and without the loss of a save."""

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from agent.__main__ import OneLine
from agent.attempt import NOT_PUBLISHED
from agent.resume import Resumer
from agent.settings import Folders
from agent.store import Denied, Store
from agent.world import AgentExit
from jobspec.heartbeat import Phase
from jobspec.keys import checkpoint_prefix, ticket_key
from jobspec.marker import FailureCode, Outcome
from tests.agent.cloud import FIRST, JOB, SECOND, Cloud, Instance, until, writer
from tests.agent.conftest import Launch


def refusal(code: str = "AccessDenied", status: int = 403) -> ClientError:
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "PutObject")  # type: ignore[typeddict-item]  # a part of it


class Guarded:
    """An S3 client that does ``before(method, key)`` first, which may raise or wait."""

    def __init__(self, s3: Any, before: Callable[[str, str], None]) -> None:
        self._s3, self._before = s3, before

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._s3, name)

        def call(*args: Any, **options: Any) -> Any:
            self._before(name, str(options.get("Key", "")))
            return method(*args, **options)

        return call


def guard(instance: Instance, monkeypatch: pytest.MonkeyPatch, before: Callable[[str, str], None]) -> None:
    """The instance's agent gets a guarded client."""
    world = instance.world()
    guarded = replace(world, store=Store(Guarded(instance.cloud.client_of(instance.imds.instance_id), before)))
    monkeypatch.setattr(instance, "world", lambda: guarded)


def deny(when: Callable[[str, str], bool]) -> Callable[[str, str], None]:
    def before(method: str, key: str) -> None:
        if when(method, key):
            raise refusal()

    return before


def test_a_marker_that_s3_denies_is_a_named_end_told_in_the_heartbeat(cloud: Cloud, launch: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud.ticket()
    instance = launch()
    guard(instance, monkeypatch, deny(lambda method, key: method == "put_object" and key.endswith("completion.json")))
    assert instance.run() is AgentExit.DENIED
    beat = cloud.heartbeat()
    assert beat.message.startswith(f"{FailureCode.UPLOAD_FAILED}: the instance role may not write s3://")
    assert beat.phase is not Phase.FINISHED
    assert cloud.marker() is None
    assert instance.host.starts == 1


def test_a_marker_that_is_denied_for_a_moment_is_written_after_it(cloud: Cloud, launch: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud.ticket()
    instance = launch()
    times = iter([True, True, False])
    guard(instance, monkeypatch, deny(lambda method, key: method == "put_object" and key.endswith("completion.json") and next(times, False)))
    assert instance.run() is AgentExit.FINISHED
    marker = cloud.marker()
    assert marker is not None
    assert marker.outcome is Outcome.COMPLETED


@pytest.mark.parametrize("code", ["RequestTimeTooSkewed", "ExpiredToken"])
def test_a_refusal_of_the_clock_or_the_credentials_is_a_passing_fault(cloud: Cloud, launch: Launch, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    cloud.ticket()
    instance = launch()

    def before(method: str, key: str) -> None:
        if method == "head_object" and key == "data/rows.jsonl":
            raise refusal(code)

    guard(instance, monkeypatch, before)
    with pytest.raises(ClientError, match=code):
        instance.run()
    assert cloud.marker() is None
    assert "the agent died and starts again: ClientError" in cloud.heartbeat().message


def test_a_ticket_that_s3_denies_is_no_missing_ticket(cloud: Cloud, launch: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud.ticket()
    instance = launch()
    guard(instance, monkeypatch, deny(lambda _method, key: key == ticket_key(writer(FIRST))))
    assert instance.run() is AgentExit.DENIED
    assert cloud.keys() == []


@pytest.mark.parametrize("denied", ["checkpoint.json", "state.bin"])
def test_a_checkpoint_that_s3_denies_is_not_passed_over_for_the_beginning(
    cloud: Cloud, launch: Launch, monkeypatch: pytest.MonkeyPatch, denied: str, tmp_path: Path
) -> None:
    cloud.ticket()
    assert launch().run() is AgentExit.FINISHED
    assert cloud.whole_checkpoints()
    ticket = cloud.ticket(SECOND, attempt=2, earlier_writers=(writer(FIRST),))
    before = deny(lambda method, key: method in ("get_object", "download_file") and key.endswith(denied))

    class Positional(Guarded):
        def download_file(self, bucket: str, key: str, *args: Any, **options: Any) -> None:
            before("download_file", key)
            self._s3.download_file(bucket, key, *args, **options)

    resumer = Resumer(Store(Positional(cloud.s3, before)), ticket, Folders(tmp_path / "second"), lambda: None)
    with pytest.raises(Denied, match="may not read"):
        resumer.fetch()


def test_an_attempt_that_may_not_read_its_checkpoint_says_so_in_its_marker(cloud: Cloud, launch: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud.ticket()
    assert launch().run() is AgentExit.FINISHED
    cloud.ticket(SECOND, attempt=2, earlier_writers=(writer(FIRST),))
    second = launch(SECOND)
    guard(second, monkeypatch, deny(lambda method, key: method == "get_object" and key.endswith("checkpoint.json")))
    assert second.run() is AgentExit.FINISHED
    marker = cloud.marker(SECOND)
    assert marker is not None
    assert marker.failure is not None
    assert marker.failure.code is FailureCode.AGENT_ERROR
    assert "may not read" in marker.failure.message
    assert second.host.starts == 0


@pytest.mark.parametrize(
    ("manifest", "denied"),
    [
        ({"data": {"train": "s3://elsewhere/rows.jsonl"}}, "head_object"),
        ({"data": {"train": "s3://elsewhere/rows.jsonl"}}, "download_file"),
        ({"model": {"s3": "s3://elsewhere/tiny"}}, "get_paginator"),
    ],
)
def test_another_bucket_that_is_denied_is_a_failure_that_names_the_parameter_the_bucket_and_the_command(
    cloud: Cloud, launch: Launch, monkeypatch: pytest.MonkeyPatch, manifest: dict[str, Any], denied: str
) -> None:
    cloud.s3.create_bucket(Bucket="elsewhere")
    cloud.put("rows.jsonl", b'{"text": "a"}\n', "elsewhere")
    cloud.ticket(manifest=manifest)
    instance = launch()
    guard(instance, monkeypatch, deny(lambda method, _key: method == denied))
    assert instance.run() is AgentExit.FINISHED
    marker = cloud.marker()
    assert marker is not None
    assert marker.failure is not None
    assert marker.failure.code is FailureCode.ACCESS_DENIED
    assert "s3://elsewhere/" in marker.failure.message
    assert "parameter ReadBuckets must name elsewhere" in marker.failure.message
    assert "sam deploy --parameter-overrides ReadBuckets=...,elsewhere" in marker.failure.message
    assert instance.host.starts == 0


def test_a_place_of_the_stacks_own_that_is_denied_is_told_otherwise(cloud: Cloud, launch: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud.ticket(manifest={"data": {"train": "status/tiny.json"}})
    instance = launch()
    guard(instance, monkeypatch, deny(lambda _method, key: key == "status/tiny.json"))
    assert instance.run() is AgentExit.FINISHED
    marker = cloud.marker()
    assert marker is not None
    assert marker.failure is not None
    assert marker.failure.code is FailureCode.ACCESS_DENIED
    assert "ReadBuckets" not in marker.failure.message
    assert "status/, receipts/ and tickets/ are not for jobs" in marker.failure.message


def test_final_files_that_are_denied_are_a_failure_with_a_marker(cloud: Cloud, launch: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud.ticket()
    instance = launch()
    guard(instance, monkeypatch, deny(lambda method, key: method == "put_object" and "/final/" in key))
    assert instance.run() is AgentExit.FINISHED
    marker = cloud.marker()
    assert marker is not None
    assert marker.failure is not None
    assert marker.failure.code is FailureCode.UPLOAD_FAILED


def test_checkpoints_that_cannot_be_published_are_told_in_the_heartbeat_until_they_are(cloud: Cloud, launch: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud.orders(step_s=0.02, save_every=5)
    cloud.ticket(max_steps=2000)
    instance = launch()
    denied = threading.Event()
    denied.set()
    guard(instance, monkeypatch, deny(lambda method, key: denied.is_set() and method == "put_object" and "/checkpoints/" in key))
    instance.start()
    until(lambda: cloud.keys(f"runs/{JOB}") and cloud.heartbeat().message.startswith(NOT_PUBLISHED))
    assert "may not write" in cloud.heartbeat().message
    denied.clear()
    until(lambda: cloud.heartbeat().checkpoint is not None)
    assert cloud.heartbeat().message == ""
    cloud.order_stop()
    assert instance.join() is AgentExit.FINISHED


def test_a_heartbeat_that_s3_never_takes_does_not_keep_the_trainer_from_its_last_save(cloud: Cloud, launch: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud.orders(step_s=0.02, save_every=100_000)
    cloud.ticket(max_steps=100_000)
    instance = launch()
    hang, released = threading.Event(), threading.Event()

    def before(method: str, key: str) -> None:
        if hang.is_set() and method == "put_object" and key.endswith("heartbeat.json"):
            released.wait(20)

    guard(instance, monkeypatch, before)
    instance.start()
    until(lambda: (instance.folders.run / "progress.jsonl").exists() and cloud.heartbeat().step >= 3)
    hang.set()
    instance.imds.interrupt(60)
    try:
        until(lambda: any((instance.folders.run / "checkpoints").glob("step-*/checkpoint.json")))
        # Published, too: the uploads do not wait for the heartbeat either.
        until(cloud.whole_checkpoints)
    finally:
        released.set()
    assert instance.join() is AgentExit.HANDED_OVER
    assert cloud.heartbeat().phase is Phase.HANDED_OVER


def test_a_notice_whose_time_is_past_by_this_machines_clock_still_gets_its_last_save(cloud: Cloud, launch: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud.orders(step_s=0.02, save_every=100_000)
    cloud.ticket(max_steps=100_000)
    instance = launch()
    world = instance.world()
    patient = replace(world, settings=replace(world.settings, pace=replace(world.settings.pace, least_save_s=5.0)))
    monkeypatch.setattr(instance, "world", lambda: patient)
    instance.start()
    until(lambda: (instance.folders.run / "progress.jsonl").exists() and cloud.heartbeat().step >= 3)
    instance.imds.interrupt(-180)
    assert instance.join() is AgentExit.HANDED_OVER
    assert max(cloud.whole_checkpoints()) == cloud.heartbeat().step >= 3


def test_a_result_that_the_control_plane_would_refuse_fails_the_job_by_name(cloud: Cloud, launch: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud.ticket()
    instance = launch()
    serve = instance.host._serve

    def littering() -> int:
        status = serve()
        for number in range(1001):
            (instance.folders.run / "final" / f"shard-{number}").write_bytes(b"x")
        return status

    monkeypatch.setattr(instance.host, "_serve", littering)
    assert instance.run() is AgentExit.FINISHED
    marker = cloud.marker()
    assert marker is not None
    assert marker.failure is not None
    assert "1003 files" in marker.failure.message


def test_a_data_file_whose_keys_are_no_text_fails_by_name(cloud: Cloud, launch: Launch) -> None:
    cloud.put("data/rows.jsonl", b'{"\\ud800": 1, "a\\nb": 2}\n')
    cloud.ticket()
    assert launch().run() is AgentExit.FINISHED
    marker = cloud.marker()
    assert marker is not None
    assert marker.failure is not None
    assert marker.failure.code is FailureCode.DATA_INVALID


def test_links_out_of_a_checkpoint_or_the_result_are_not_followed(cloud: Cloud, launch: Launch, tmp_path: Path) -> None:
    from tests.agent.test_checkpoints import Bench, _write

    bench = Bench(cloud, tmp_path)
    outside = _write(tmp_path / "outside", 5)
    bench.local.mkdir(parents=True)
    (bench.local / "step-00000005").symlink_to(outside)
    inside = _write(bench.local, 7)
    (inside / "adapter").rename(tmp_path / "adapter")
    (inside / "adapter").symlink_to(tmp_path / "adapter")
    bench.uploader.turn()
    assert cloud.whole_checkpoints() == {}
    assert not any(key.startswith(checkpoint_prefix(JOB, writer(FIRST), 5)) for key in cloud.keys())


def test_a_log_line_that_quotes_a_stranger_stays_one_line() -> None:
    record = logging.LogRecord("agent", logging.ERROR, "f", 1, "failed: %s", ("x\n2026 INFO agent: marker written\r\x1b[2J\u202ey\ud800",), None)
    text = OneLine("%(levelname)s: %(message)s").format(record)
    assert text == "ERROR: failed: x\\n2026 INFO agent: marker written\\r\\x1b[2J\\u202ey\\ud800"
