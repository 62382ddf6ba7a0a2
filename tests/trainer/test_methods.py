"""Every method with a tiny model: ended in the middle and resumed to the same bits, and a final folder that loads."""

import json
from pathlib import Path
from typing import Any

import pytest

from jobspec.methods import options_of
from jobspec.runfile import RunFile
from jobspec.wire import load
from tests.tiny_model import write_rows_for
from tests.trainer.rig import ProcessEnded, die_after, do_run, failure, lines, make_run, results, save_each_step, stop_after
from trainer.identity import identity_of
from trainer.stop import StopSignal

pytestmark = pytest.mark.torch

GRPO = {"rewards": [{"name": "contains", "column": "answer"}, {"name": "length", "max_characters": 12}], "num_generations": 2}
OPTIONS: dict[str, dict[str, Any]] = {
    "sft": {},
    "dpo": {},
    "kto": {},
    "orpo": {},
    "reward": {},
    "grpo": {"grpo": {**GRPO, "max_completion_length": 8}},
}
#: 4 rows a step and 8 to train on (grpo: 2 prompts of 4): two steps an epoch. The resumes begin in the middle of the second.
TRAINING = {"max_steps": 5, "global_batch_size": 4, "micro_batch_size": 2, "learning_rate": 0.01, "max_length": 96}


def method_run(folder: Path, model: Path, method: str, adapter: dict[str, Any] | None = None, **fields: Any) -> Path:
    write_rows_for(method, folder / "data/train.jsonl", n=5 if method == "grpo" else 9)
    training = {**TRAINING, **fields.pop("training", {})}
    adapter = adapter or {"r": 4, "alpha": 8, "dropout": 0.1}
    return make_run(
        folder, model, method=method, adapter=adapter, training=training, **{**OPTIONS[method], "checkpoint": {"interval": 600, "keep": 20}, **fields}
    )


def same_as(folder: Path, whole: Path, resumed_at: int) -> None:
    """Both runs ended with the same weights, results and curve, though ``folder``'s was resumed at a step."""
    assert lines(folder, "resumed")[-1]["step"] == resumed_at
    ours, uninterrupted = results(folder), results(whole)
    assert (ours.pop("first_step"), uninterrupted.pop("first_step")) == (resumed_at, 0)
    assert ours == uninterrupted
    assert (folder / "final/metrics.jsonl").read_bytes() == (whole / "final/metrics.jsonl").read_bytes()


@pytest.mark.parametrize("method", [method for method in OPTIONS if method != "sft"])
def test_a_run_stopped_and_resumed_ends_with_the_same_bits(tiny_model: Path, tmp_path: Path, method: str) -> None:
    whole, folder = tmp_path / "whole", tmp_path / "run"
    assert do_run(method_run(whole, tiny_model, method)) == 0, lines(whole)[-1]
    path = method_run(folder, tiny_model, method)
    assert do_run(path, now=stop_after(folder, "step", 1)) == 75
    (folder / "stop").unlink()
    assert do_run(path) == 0, lines(folder)[-1]
    same_as(folder, whole, resumed_at=3)


@pytest.mark.parametrize("method", ["sft", "dpo", "reward"])
def test_a_full_run_that_died_and_was_resumed_ends_with_the_same_bits(tiny_model: Path, tmp_path: Path, method: str) -> None:
    whole, folder = tmp_path / "whole", tmp_path / "run"
    assert do_run(method_run(whole, tiny_model, method, {"type": "full"})) == 0, lines(whole)[-1]
    path = method_run(folder, tiny_model, method, {"type": "full"})
    with pytest.raises(ProcessEnded):
        do_run(path, now=die_after(folder, "checkpoint", 3), clock=save_each_step())
    assert do_run(path) == 0, lines(folder)[-1]
    same_as(folder, whole, resumed_at=3)


@pytest.mark.parametrize("method", ["dpo", "kto", "orpo", "grpo"])
def test_a_changed_option_of_the_method_is_another_run(tiny_model: Path, tmp_path: Path, method: str) -> None:
    path = method_run(tmp_path, tiny_model, method)
    run = load(RunFile, path.read_bytes()).resolved()
    options = options_of(run)
    assert options is not None
    other = run.model_copy(update={method: options.model_copy(update={"beta": 0.7})})
    mine, theirs = (identity_of(each, tmp_path, "d" * 64, StopSignal()) for each in (run, other))
    assert [line.split(":")[0] for line in mine.differences(theirs)] == [f"settings.{method}.beta"]


def test_grpo_answers_differ_in_reward_so_that_there_is_something_to_learn(tiny_model: Path, tmp_path: Path) -> None:
    assert do_run(method_run(tmp_path, tiny_model, "grpo", training={"max_steps": 2})) == 0
    curve = [json.loads(line) for line in (tmp_path / "final/metrics.jsonl").read_text().splitlines()]
    assert any(entry["reward_std"] > 0 for entry in curve)
    assert results(tmp_path)["eval_metrics_before"].keys() == results(tmp_path)["eval_metrics_after"].keys()
    assert "reward" in results(tmp_path)["eval_metrics_after"]


def test_a_reward_that_reads_a_column_that_is_not_there_is_refused_before_a_step(tiny_model: Path, tmp_path: Path) -> None:
    path = method_run(tmp_path, tiny_model, "dpo")
    run = {**json.loads(path.read_text()), "method": "grpo", "grpo": {**GRPO, "rewards": [{"name": "exact_match", "column": "solution"}]}}
    write_rows_for("grpo", tmp_path / "data/train.jsonl", n=5)
    path.write_text(json.dumps({**run, "training": {**run["training"], "max_length": 300}}))
    assert do_run(path) == 1
    code, message = failure(tmp_path)
    assert code == "data_invalid"
    assert "reads the column 'solution' of each row, but the rows have answer" in message
    assert lines(tmp_path, "step") == []


def test_grpo_with_fewer_prompts_than_a_step_takes_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    path = method_run(tmp_path, tiny_model, "grpo", training={"global_batch_size": 32})
    assert do_run(path) == 1
    code, message = failure(tmp_path)
    assert code == "data_invalid"
    assert "there are 4 prompts to train on, but one step takes 16" in message
