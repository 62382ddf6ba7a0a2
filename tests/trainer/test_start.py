"""Going on with the adapter of an earlier job: its weights are the start, its base must be this one's, and a resume is exact."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.tiny_model import make_tiny_model
from tests.trainer.rig import do_run, failure, lines, make_run, results, resumable_copy, save_each_step

pytestmark = pytest.mark.torch

SHORT: dict[str, Any] = {"max_steps": 3, "learning_rate": 0.01}
PAIRS = [{"prompt": f"Question {n}?", "chosen": f"yes {n}", "rejected": f"no {n}"} for n in range(24)]


def going_on(folder: Path, model: Path, first: Path, **fields: Any) -> Path:
    """A run folder of a job that follows the one of ``first``, staged as the agent does."""
    path = make_run(folder, model, **{"training": SHORT, **fields, "start_dir": "start", "start_reference": "first-job"})
    (folder / "start").mkdir()
    for name in ("adapter_model.safetensors", "results.json"):
        shutil.copy(first / "final" / name, folder / "start" / name)
    return path


def weights(path: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    found: dict[str, Any] = load_file(path)
    return found


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    folder = tmp_path_factory.mktemp("first")
    assert do_run(make_run(folder, tiny_model, training=SHORT)) == 0
    return folder


def test_training_goes_on_where_the_adapter_stood(first: Path, tiny_model: Path, tmp_path: Path) -> None:
    assert do_run(going_on(tmp_path, tiny_model, first)) == 0, lines(tmp_path)[-1]
    assert results(tmp_path)["eval_loss_before"] == pytest.approx(results(first)["eval_loss_after"], rel=1e-6)
    assert results(tmp_path)["eval_loss_after"] < results(tmp_path)["eval_loss_before"]
    assert results(tmp_path)["model_sha256"] == results(first)["model_sha256"]


def test_a_learning_rate_of_almost_nothing_leaves_the_adapter_as_it_came(first: Path, tiny_model: Path, tmp_path: Path) -> None:
    assert do_run(going_on(tmp_path, tiny_model, first, training={"max_steps": 1, "learning_rate": 1e-30})) == 0
    came, went = weights(first / "final/adapter_model.safetensors"), weights(tmp_path / "final/adapter_model.safetensors")
    assert came.keys() == went.keys()
    assert all((came[name] - went[name]).abs().max() == 0 for name in came)


def test_a_resume_of_a_continued_run_ends_with_the_same_bits(first: Path, tiny_model: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    assert do_run(going_on(whole, tiny_model, first), clock=save_each_step()) == 0
    again = tmp_path / "again"
    assert do_run(resumable_copy(whole, again, 2)) == 0, lines(again)[-1]
    assert lines(again, "resumed")[0]["step"] > 0
    assert results(again)["weights_sha256"] == results(whole)["weights_sha256"]


def test_dpo_compares_with_the_adapter_that_it_began_with_and_leaves_no_reference_behind(first: Path, tiny_model: Path, tmp_path: Path) -> None:
    """Against the bare base the first loss would be another than ln 2: policy and reference must be one model before the first step."""
    whole, again = tmp_path / "whole", tmp_path / "again"
    (whole / "data").mkdir(parents=True)
    (whole / "data/train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in PAIRS))
    path = going_on(whole, tiny_model, first, method="dpo", training={"max_steps": 2, "learning_rate": 0.001})
    assert do_run(path, clock=save_each_step()) == 0, lines(whole)[-1]
    assert results(whole)["eval_loss_before"] == pytest.approx(0.693147, abs=1e-4)
    assert not (whole / "final/ref").exists()
    assert do_run(resumable_copy(whole, again, 1)) == 0, lines(again)[-1]
    assert results(again)["weights_sha256"] == results(whole)["weights_sha256"]


def test_an_adapter_of_another_base_is_refused_before_torch(first: Path, tmp_path: Path) -> None:
    other = make_tiny_model(tmp_path / "other", seed=7)
    assert do_run(going_on(tmp_path / "run", other, first)) == 1
    assert failure(tmp_path / "run")[0] == "model_invalid"
    assert "the adapter of first-job was trained on another base model" in failure(tmp_path / "run")[1]


def test_an_adapter_of_another_rank_is_refused(first: Path, tiny_model: Path, tmp_path: Path) -> None:
    assert do_run(going_on(tmp_path, tiny_model, first, adapter={"r": 2, "alpha": 8})) == 1
    assert "has another shape than this job's" in failure(tmp_path)[1]


@pytest.mark.parametrize("damage", ["missing", "cut", "no results"])
def test_an_adapter_that_is_not_whole_is_refused(first: Path, tiny_model: Path, tmp_path: Path, damage: str) -> None:
    path = going_on(tmp_path, tiny_model, first)
    file = tmp_path / "start" / ("results.json" if damage == "no results" else "adapter_model.safetensors")
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-100])
    else:
        file.unlink()
    assert do_run(path) == 1
    assert failure(tmp_path)[1].startswith("the adapter of first-job is not")
