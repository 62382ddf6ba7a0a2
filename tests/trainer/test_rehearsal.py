"""The worst case first: the micro-batch is halved until the longest rows fit, and the run itself is not touched by it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobspec.runfile import RunFile
from tests.tiny_model import write_rows_for
from tests.trainer.rig import do_run, failure, lines, make_run, results, stop_after

pytestmark = pytest.mark.torch


@pytest.fixture
def rehearsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU."""
    from trainer import rehearsal

    monkeypatch.setattr(rehearsal, "needed", lambda: True)


@pytest.fixture
def small_memory(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[tuple[int, int]]]:
    """Memory for so many rows at once. Gives a list that every forward pass adds its batch's shape to."""

    def set_rows(most: int) -> list[tuple[int, int]]:
        import torch
        from transformers import LlamaModel

        forward, seen = LlamaModel.forward, []

        def limited(self: Any, input_ids: Any = None, **more: Any) -> Any:
            seen.append(tuple(input_ids.shape))
            if torch.is_grad_enabled() and len(input_ids) > most:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            return forward(self, input_ids=input_ids, **more)

        monkeypatch.setattr(LlamaModel, "forward", limited)
        return seen

    return set_rows


def test_a_rehearsed_run_ends_with_the_bits_of_one_that_was_not(rehearsed: None, whole_run: Path, tiny_model: Path, tmp_path: Path) -> None:
    assert do_run(make_run(tmp_path / "run", tiny_model)) == 0
    assert results(tmp_path / "run") == results(whole_run)


def test_the_micro_batch_is_halved_until_it_fits_and_a_resume_keeps_it(
    rehearsed: None, small_memory: Callable[[int], list[tuple[int, int]]], tiny_model: Path, tmp_path: Path
) -> None:
    folder, halved = tmp_path / "run", tmp_path / "halved"
    settings = {"max_steps": 3, "global_batch_size": 8, "micro_batch_size": 8}
    seen = small_memory(2)
    path = make_run(folder, tiny_model, training=settings)
    assert do_run(path, now=stop_after(folder, "step", 1)) == 75
    warnings = [line["message"] for line in lines(folder, "warning")]
    assert [message.split(" of the longest")[0] for message in warnings] == ["a micro-batch of 8", "a micro-batch of 4"]
    assert "packed on 4 x 2 lines" in lines(folder, "started")[-1]["message"]
    widest = max(width for _, width in seen)
    assert seen[0] == (8, widest)  # the longest rows came first
    (folder / "stop").unlink()
    seen.clear()
    assert do_run(path) == 0
    assert len(lines(folder, "warning")) == 2  # nothing was tried again
    assert "packed on 4 x 2 lines" in lines(folder, "started")[-1]["message"]
    assert do_run(make_run(halved, tiny_model, training={**settings, "micro_batch_size": 2})) == 0
    assert results(folder)["weights_sha256"] == results(halved)["weights_sha256"]


@pytest.mark.parametrize(
    ("method", "least", "adapter", "words"),
    [
        (
            "sft",
            1,
            {"r": 4},
            ["training.gradient_checkpointing: true", "adapter.type qlora", "training.max_length (now 1024)", "instance type with more GPU memory"],
        ),
        ("kto", 2, {"type": "full"}, ["adapter.type lora or qlora", "training.max_length"]),
    ],
)
def test_rows_that_do_not_fit_at_all_end_the_run_with_what_to_change(
    rehearsed: None,
    small_memory: Callable[[int], list[tuple[int, int]]],
    tiny_model: Path,
    tmp_path: Path,
    method: str,
    least: int,
    adapter: dict[str, Any],
    words: list[str],
) -> None:
    small_memory(0)
    write_rows_for(method, tmp_path / "run/data/train.jsonl")
    assert do_run(make_run(tmp_path / "run", tiny_model, method=method, adapter=adapter)) == 1
    code, message = failure(tmp_path / "run")
    assert code == "out_of_memory"
    assert f"not even with a micro-batch of {least}" in message
    for word in words:
        assert word in message
    assert lines(tmp_path / "run", "step") == []


def test_grpo_rehearses_the_longest_answers(rehearsed: None, small_memory: Callable[[int], list[tuple[int, int]]], tiny_model: Path, tmp_path: Path) -> None:
    seen = small_memory(2)
    write_rows_for("grpo", tmp_path / "run/data/train.jsonl", n=6)
    grpo = {"rewards": [{"name": "length"}], "num_generations": 2, "max_completion_length": 20}
    path = make_run(tmp_path / "run", tiny_model, method="grpo", grpo=grpo, eval_fraction=0, training={"max_steps": 1, "global_batch_size": 4})
    assert do_run(path) == 0, lines(tmp_path / "run")[-1]
    assert "2 x 2 rows a step" in lines(tmp_path / "run", "started")[-1]["message"]
    prompt = seen[0][1]
    assert (4, prompt + 20) in seen  # the whole answers, in one batch of 4, did not fit


def test_a_stop_while_rehearsing_is_honoured(rehearsed: None, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from trainer import rehearsal

    folder, build = tmp_path / "run", rehearsal.build_trainer

    def and_stop(*what: Any) -> Any:
        (folder / "stop").touch()
        return build(*what)

    monkeypatch.setattr(rehearsal, "build_trainer", and_stop)
    assert do_run(make_run(folder, tiny_model)) == 75
    assert "rehearsing the longest rows" in lines(folder)[-1]["message"]


@pytest.mark.parametrize(
    ("training", "method", "sizes"),
    [
        ({"global_batch_size": 16, "micro_batch_size": 8}, "sft", [8, 4, 2, 1]),
        ({"global_batch_size": 12, "micro_batch_size": 6}, "sft", [6, 3, 1]),
        ({"global_batch_size": 7, "micro_batch_size": 7}, "sft", [7, 1]),
        ({"global_batch_size": 12, "micro_batch_size": 6}, "kto", [6, 3]),
        ({"global_batch_size": 4, "micro_batch_size": 4}, "kto", [4, 2]),
    ],
)
def test_each_smaller_micro_batch_divides_the_global_batch(training: dict[str, Any], method: str, sizes: list[int]) -> None:
    from trainer.sharding import micro_batches_of

    run = RunFile.model_validate({"job_id": "job-1", "model_reference": "x", "method": method, "training": training})
    assert list(micro_batches_of(run)) == sizes


def test_a_batch_is_as_wide_as_its_prompt_and_the_longest_of_what_follows() -> None:
    from trainer.rehearsal import padded_length

    assert padded_length({"prompt_ids": [1] * 10, "chosen_ids": [1] * 5, "rejected_ids": [1] * 30, "prompt": "x" * 999}) == 40
    assert padded_length({"input_ids": [1] * 7, "labels": [1] * 7}) == 7
    assert padded_length({"prompt": json.dumps("x" * 50)}) == 52
