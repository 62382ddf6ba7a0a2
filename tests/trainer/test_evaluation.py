"""Evaluations during training: in the curve, without a trace in the weights, the best kept, an early stop - across interruptions."""

from pathlib import Path
from typing import Any

import pytest

from tests.trainer.rig import ProcessEnded, curve, die_after, do_run, lines, make_run, results, save_each_step, stop_after
from trainer.checkpoints import verify
from trainer.watch import spike

pytestmark = pytest.mark.torch

#: A learning rate at which the held-out loss first falls and then rises.
WILD: dict[str, Any] = {"max_steps": 12, "learning_rate": 0.3, "scheduler": "constant", "warmup_ratio": 0}


def evaluated(folder: Path) -> dict[int, float]:
    return {entry["step"]: entry["eval_loss"] for entry in curve(folder) if "eval_loss" in entry}


def test_evaluations_are_in_the_curve_and_leave_no_trace_in_the_weights(whole_run: Path, tiny_model: Path, tmp_path: Path) -> None:
    assert do_run(make_run(tmp_path / "run", tiny_model, evaluation={"interval_steps": 3})) == 0
    assert list(evaluated(tmp_path / "run")) == [3, 6, 9]
    assert results(tmp_path / "run")["weights_sha256"] == results(whole_run)["weights_sha256"]
    assert [line.get("step", 0) for line in lines(tmp_path / "run", "eval")] == [0, 3, 6, 9, 10]


def test_the_best_adapter_is_taken_though_the_run_was_stopped_and_died(tiny_model: Path, tmp_path: Path) -> None:
    evaluation = {"interval_steps": 2, "keep_best": True}
    whole, folder = tmp_path / "whole", tmp_path / "run"
    assert do_run(make_run(whole, tiny_model, training=WILD, evaluation=evaluation)) == 0
    losses = evaluated(whole)
    best = min(losses, key=lambda step: losses[step])
    assert best < 12, losses
    assert results(whole)["best_step"] == best
    assert results(whole)["eval_loss_after"] == pytest.approx(losses[best], abs=1e-6)
    path = make_run(folder, tiny_model, training=WILD, evaluation=evaluation)
    # The stop is seen at the end of step 4, whose evaluation is made up for by the next start.
    assert do_run(path, now=stop_after(folder, "step", 2)) == 75
    (folder / "stop").unlink()
    with pytest.raises(ProcessEnded):
        do_run(path, now=die_after(folder, "checkpoint", 4), clock=save_each_step())
    newest = sorted((folder / "checkpoints").iterdir())[-1]
    verify(newest)
    assert (newest / "best.safetensors").is_file()
    assert do_run(path) == 0
    assert {**results(folder), "first_step": 0} == results(whole)
    assert curve(folder) == curve(whole)


def test_a_run_that_no_longer_gets_better_stops_early_and_says_so(tiny_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    whole_steps = {**WILD, "max_steps": 40, "micro_batch_size": 8}  # no accumulation: one micro-batch too many would be one step too many
    path = make_run(folder, tiny_model, training=whole_steps, evaluation={"interval_steps": 2, "patience": 2})
    with pytest.raises(ProcessEnded):
        do_run(path, now=die_after(folder, "checkpoint", 1))  # only the end is saved: the early one
    assert do_run(path) == 0
    losses = list(evaluated(folder).values())
    assert min(losses[:-2]) <= min(losses[-2:])
    found = results(folder)
    assert found["stopped_early"]
    assert found["steps"] == 2 * len(losses) < 40
    assert "stopped early" in (folder / "final/README.md").read_text()
    assert found["first_step"] == found["steps"]  # the second start only finished
    # Stopped at the very step whose evaluation ends it: the evaluation is made up for, and not one step more is taken.
    again = tmp_path / "again"
    path = make_run(again, tiny_model, training=whole_steps, evaluation={"interval_steps": 2, "patience": 2})
    assert do_run(path, now=stop_after(again, "step", found["steps"] - 2)) == 75
    assert [folder.name for folder in (again / "checkpoints").iterdir()] == [f"step-{found['steps']:08d}"]
    (again / "stop").unlink()
    assert do_run(path) == 0, lines(again)[-1]
    assert results(again) == found


def test_a_stop_in_an_evaluation_saves_the_step_and_decides_nothing(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from trainer import story
    from trainer.stop import StopRequested

    folder, measure = tmp_path / "run", story.measure

    def stopped(trainer: Any, *rest: Any) -> Any:
        if trainer.state.global_step == 4:
            raise StopRequested("stopped while evaluating")
        return measure(trainer, *rest)

    path = make_run(folder, tiny_model, evaluation={"interval_steps": 2, "keep_best": True})
    with monkeypatch.context() as patched:
        patched.setattr(story, "measure", stopped)
        assert do_run(path) == 75
    assert verify(folder / "checkpoints/step-00000004").step == 4
    assert do_run(path) == 0
    assert list(evaluated(folder)) == [2, 4, 6, 8, 10]


def test_a_loss_that_stands_out_is_told_of_and_training_goes_on(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from trainer.methods import Sft

    whole = Sft.training_step

    def jump(self: Any, *what: Any) -> Any:
        return whole(self, *what) * (30 if self.state.global_step == 14 else 1)

    monkeypatch.setattr(Sft, "training_step", jump)
    folder = tmp_path / "run"
    assert do_run(make_run(folder, tiny_model, training={"max_steps": 16, "learning_rate": 1e-4})) == 0
    (warning,) = lines(folder, "warning")
    assert warning["step"] == 15
    assert "is a spike" in warning["message"]


def test_what_is_a_spike() -> None:
    assert spike([2.0] * 5 + [9.0]) is None  # too few losses to know what is usual
    assert spike([2.0] * 20 + [2.5]) is None
    assert spike([2.0] * 20 + [2.9]) is not None
    assert spike([1.0, 3.0] * 10 + [6.0]) is None  # where losses vary, more is usual
    assert spike([2.0] * 20 + [0.1]) is None  # a fall is none
    assert spike([2.0] * 20 + [float("nan")]) is None  # that is another matter, and ends the run
