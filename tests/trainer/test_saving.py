"""Saves beside the training: the state of one step, written while the next are taken; one at a time, never torn, never silent."""

import json
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from jobspec.runfile import RunFile
from jobspec.saves import LEAST_S, Costs, Uploaded
from jobspec.wire import dump
from tests.trainer.rig import START, do_run, failure, lines, make_run, results, resumable_copy, save_each_step, stop_after
from trainer.checkpoints import CheckpointStore, Draft, verify
from trainer.host import free_memory_bytes
from trainer.pacing import Pace

pytestmark = pytest.mark.torch
KEEP_ALL = {"interval": 1, "keep": 20}
PATIENCE_S = 60.0


def steps_saved(folder: Path) -> list[int]:
    return [line["step"] for line in lines(folder, "checkpoint")]


def same_bits(folder: Path, whole: Path) -> bool:
    same_curve = (folder / "final/metrics.jsonl").read_bytes() == (whole / "final/metrics.jsonl").read_bytes()
    return same_curve and results(folder)["weights_sha256"] == results(whole)["weights_sha256"]


@pytest.fixture
def slow_writer(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Draft], None]], None]:
    """Does something in the writer's thread before each save is written."""

    def install(before: Callable[[Draft], None]) -> None:
        publish = CheckpointStore.publish

        def slow(self: CheckpointStore, draft: Draft, write: Callable[[Path], None]) -> Path:
            def late(folder: Path) -> None:
                before(draft)
                write(folder)

            return publish(self, draft, late)

        monkeypatch.setattr(CheckpointStore, "publish", slow)

    return install


def wait_for(what: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < until
        time.sleep(0.002)


def test_a_run_that_saves_beside_its_training_ends_with_the_bits_of_one_that_waits(whole_run: Path, tiny_model: Path, tmp_path: Path) -> None:
    assert do_run(make_run(tmp_path, tiny_model, checkpoint=KEEP_ALL), clock=save_each_step(), beside=True) == 0
    assert same_bits(tmp_path, whole_run)
    assert steps_saved(tmp_path)[-1] == 10
    for step in steps_saved(tmp_path):
        verify(tmp_path / f"checkpoints/step-{step:08d}")


@pytest.mark.parametrize("adapter", ["lora", "full"])
def test_what_is_written_is_the_step_that_was_saved_though_the_training_has_gone_on(
    tiny_model: Path, tmp_path: Path, slow_writer: Callable[[Callable[[Draft], None]], None], adapter: str
) -> None:
    folder = tmp_path / "run"
    slow_writer(lambda draft: wait_for(lambda: lines(folder, "step")[-1]["step"] >= min(draft.step + 4, 10)))
    fields: dict[str, Any] = {} if adapter == "lora" else {"adapter": {"type": "full"}}
    assert do_run(make_run(folder, tiny_model, checkpoint=KEEP_ALL, **fields), clock=save_each_step(), beside=True) == 0
    first = steps_saved(folder)[0]
    assert do_run(resumable_copy(folder, tmp_path / "again", first)) == 0
    assert lines(tmp_path / "again", "resumed")[-1]["step"] == first
    assert same_bits(tmp_path / "again", folder)


def test_a_save_that_is_due_while_one_is_written_is_put_off_and_not_queued(
    tiny_model: Path, tmp_path: Path, slow_writer: Callable[[Callable[[Draft], None]], None]
) -> None:
    at_once: list[int] = []

    def before(draft: Draft) -> None:
        at_once.append(sum(thread.name.startswith("save of step") for thread in threading.enumerate()))
        wait_for(lambda: lines(tmp_path, "step")[-1]["step"] >= min(draft.step + 3, 10))

    slow_writer(before)
    assert do_run(make_run(tmp_path, tiny_model, checkpoint=KEEP_ALL), clock=save_each_step(), beside=True) == 0
    assert set(at_once) == {1}
    saved = steps_saved(tmp_path)
    assert all(later - earlier >= 3 for earlier, later in pairwise(saved[:-1]))  # the last step never waits for its turn
    assert saved[-1] == 10
    assert "put off for" in lines(tmp_path, "checkpoint")[1]["message"]


def test_a_stop_while_a_save_is_written_waits_for_it_and_saves_the_step_it_came_in(
    whole_run: Path, tiny_model: Path, tmp_path: Path, slow_writer: Callable[[Callable[[Draft], None]], None]
) -> None:
    first = threading.Event()

    def before(draft: Draft) -> None:
        if not first.is_set():
            first.set()
            wait_for((tmp_path / "stop").exists)
            time.sleep(0.3)  # the training reaches its next boundary, and finds this one at work

    slow_writer(before)
    path = make_run(tmp_path, tiny_model, checkpoint=KEEP_ALL)
    assert do_run(path, now=stop_after(tmp_path, "step", 4), clock=save_each_step(), beside=True) == 75
    saved = steps_saved(tmp_path)
    assert len(saved) == 2
    assert [line["kind"] for line in lines(tmp_path)][-3:] == ["checkpoint", "checkpoint", "interrupted"]
    for step in saved:
        verify(tmp_path / f"checkpoints/step-{step:08d}")
    (tmp_path / "stop").unlink()
    assert do_run(path, beside=True) == 0
    assert lines(tmp_path, "resumed")[-1]["step"] == saved[-1] == max(line["step"] for line in lines(tmp_path, "step") if line["step"] <= saved[-1])
    assert same_bits(tmp_path, whole_run)


@pytest.mark.parametrize("at", [1, 10])
def test_an_error_of_the_writer_is_the_run_s_named_failure(
    tiny_model: Path, tmp_path: Path, slow_writer: Callable[[Callable[[Draft], None]], None], at: int
) -> None:
    def full(draft: Draft) -> None:
        if draft.step >= at:
            raise OSError(28, "No space left on device")

    slow_writer(full)
    assert do_run(make_run(tmp_path, tiny_model, checkpoint=KEEP_ALL), clock=save_each_step(), beside=True) == 1
    code, message = failure(tmp_path)
    assert (code, "larger volume" in message) == ("disk_full", True)
    assert not (tmp_path / "final").exists()
    assert list((tmp_path / "checkpoints").glob(".staging-*")) == []
    for folder in (tmp_path / "checkpoints").iterdir():
        verify(folder)


def test_a_disk_that_cannot_hold_the_next_checkpoint_is_named_before_anything_is_written(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainer import saving

    usage = saving.shutil.disk_usage(tmp_path)

    def filling(folder: Path) -> Any:
        return usage._replace(free=1000 if lines(tmp_path, "checkpoint") else usage.free)

    monkeypatch.setattr("trainer.saving.shutil.disk_usage", filling)
    assert do_run(make_run(tmp_path, tiny_model, checkpoint=KEEP_ALL), clock=save_each_step()) == 1
    code, message = failure(tmp_path)
    assert code == "disk_full"
    assert "the next checkpoint needs" in message
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000001"]


@pytest.fixture
def stop_within(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, int], None]:
    """The stop file appears with the first micro-batch of a step, once."""
    from transformers import Trainer

    def install(folder: Path, step: int) -> None:
        whole, asked_before = Trainer.training_step, threading.Event()

        def asked(self: Any, *args: Any, **kwargs: Any) -> Any:
            if self.state.global_step == step - 1 and not asked_before.is_set():
                asked_before.set()
                (folder / "stop").touch()
            return whole(self, *args, **kwargs)

        monkeypatch.setattr(Trainer, "training_step", asked)

    return install


def twenty_seconds_a_look() -> Callable[[], float]:
    looks = iter(range(10**9))
    return lambda: next(looks) * 20.0


@pytest.mark.parametrize(("method", "fields"), [("sft", {}), ("sft", {"training": {"packing": True}}), ("dpo", {}), ("grpo", {})])
def test_a_step_that_would_take_too_long_is_abandoned_and_the_resume_takes_it_from_its_beginning(
    tiny_model: Path, tmp_path: Path, stop_within: Callable[[Path, int], None], method: str, fields: dict[str, Any]
) -> None:
    from tests.tiny_model import write_rows_for

    options: dict[str, Any] = {"checkpoint": {"interval": 10**6}, "method": method}
    training = {"max_steps": 7, "micro_batch_size": 2, **fields.get("training", {})}
    if method == "grpo":
        options["grpo"] = {"rewards": [{"name": "length", "max_characters": 12}], "num_generations": 4, "max_completion_length": 8}
    whole, folder = tmp_path / "whole", tmp_path / "run"
    for each in (whole, folder):
        write_rows_for(method, each / "data/train.jsonl", n=40)
        make_run(each, tiny_model, training=training, **options)
    assert do_run(whole / "run.json") == 0
    path = folder / "run.json"
    stop_within(folder, 5)
    assert do_run(path, clock=twenty_seconds_a_look(), beside=True) == 75
    assert "stopped within step 5, which would have taken" in lines(folder)[-1]["message"]
    assert steps_saved(folder) == [4]
    (folder / "stop").unlink()
    assert do_run(path, beside=True) == 0
    assert same_bits(folder, whole)


def test_a_stop_within_a_short_step_lets_it_end(tiny_model: Path, tmp_path: Path, stop_within: Callable[[Path, int], None]) -> None:
    path = make_run(tmp_path, tiny_model, training={"micro_batch_size": 2})
    stop_within(tmp_path, 5)
    assert do_run(path, beside=True) == 75
    assert steps_saved(tmp_path) == [5]


def test_a_stop_within_the_first_step_ends_the_run_with_nothing_to_save(tiny_model: Path, tmp_path: Path, stop_within: Callable[[Path, int], None]) -> None:
    path = make_run(tmp_path, tiny_model, training={"micro_batch_size": 2})
    stop_within(tmp_path, 1)
    assert do_run(path, clock=twenty_seconds_a_look(), beside=True) == 75
    assert "nothing to save yet" in lines(tmp_path)[-1]["message"]
    assert lines(tmp_path, "step") == []
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_without_memory_for_a_copy_the_training_waits_and_says_so(whole_run: Path) -> None:
    assert all("for there was no copy of it" in line["message"] for line in lines(whole_run, "checkpoint"))
    assert all(line["stall_s"] == line["seconds"] for line in lines(whole_run, "checkpoint"))


def test_each_save_tells_what_it_cost_and_when_the_next_comes_and_why(tiny_model: Path, tmp_path: Path) -> None:
    assert do_run(make_run(tmp_path, tiny_model, checkpoint={}), clock=save_each_step(), beside=True) == 0
    line = lines(tmp_path, "checkpoint")[0]
    assert line["next_s"] > LEAST_S
    assert "this instance lasts another" in line["message"]


def test_copies_share_what_the_originals_share_and_their_memory_is_used_again() -> None:
    import torch

    from trainer.saving import HostCopies

    weight = torch.arange(6.0).reshape(2, 3)
    state = {"head": weight, "embedding": weight, "groups": [{"lr": 0.1, "params": (0, 1)}], "step": torch.tensor(3.0)}
    copies = HostCopies()
    assert copies.missing_bytes(lambda: state) > 0
    copied = copies("state", state)
    weight += 1
    assert copied["head"] is copied["embedding"]
    assert torch.equal(copied["head"], weight - 1)
    assert copied["groups"] == state["groups"]
    again = copies("state", state)
    assert again["head"].data_ptr() == copied["head"].data_ptr()
    assert torch.equal(again["head"], weight)
    assert copies.missing_bytes(lambda: state) == 0


@pytest.mark.parametrize(("most", "free"), [("max\n", 8 * 2**20), ("6291456\n", 6 * 2**20 - 3 * 2**20 + 2**20), ("99999999999\n", 8 * 2**20)])
def test_free_memory_is_the_host_s_or_what_the_control_group_leaves(tmp_path: Path, most: str, free: int) -> None:
    (tmp_path / "meminfo").write_text("MemTotal:  16384 kB\nMemAvailable:   8192 kB\nHugePages_Total:       0\n")
    for name, text in (("memory.max", most), ("memory.current", str(3 * 2**20)), ("memory.stat", f"anon 5\ninactive_file {2**20}\n")):
        (tmp_path / name).write_text(text)
    assert free_memory_bytes(tmp_path / "meminfo", tmp_path) == free
    assert free_memory_bytes(tmp_path / "meminfo", tmp_path / "none") == 8 * 2**20


def test_the_pace_follows_the_upload_that_the_agent_measured_and_the_age_of_the_instance(tmp_path: Path) -> None:
    def pace(age_h: float) -> Pace:
        run = RunFile(job_id="job-1", model_reference="x", launched_at=START)
        return Pace(run, tmp_path, lambda: START + timedelta(hours=age_h), lambda: 0.0)

    costs = Costs(stall_s=1.0, write_s=2.0)
    young, old = pace(0).next(costs).seconds, pace(10).next(costs).seconds
    assert old > 3 * young
    (tmp_path / "published.json").write_bytes(dump(Uploaded(step=5, bytes=10, seconds=400.0)))
    assert pace(0).next(costs).seconds == 402.0
    assert not pace(0).due(401.0, costs)
    assert pace(0).due(402.0, costs)
    (tmp_path / "published.json").write_text(json.dumps({"step": "five"}))
    assert pace(0).next(costs).seconds == young
