"""Every way in which a checkpoint was seen damaged elsewhere: it costs the steps since the one before, and nothing else."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.trainer.rig import do_run, lines, results, resumable_copy

pytestmark = pytest.mark.torch

Damage = Callable[[Path], object]


def _missing(name: str) -> Damage:
    return lambda folder: (folder / name).unlink()


def _half(name: str) -> Damage:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[: (folder / name).stat().st_size // 2])


def _only(*kept: str) -> Damage:
    return lambda folder: [path.unlink() for path in folder.iterdir() if path.name not in kept]


MISSING = ("optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json", "adapter_model.safetensors")
HALF = ("optimizer.pt", "adapter_model.safetensors", "rng_state.pth", "trainer_state.json")
#: With transformers alone the first three start afresh without a word, the others end the run, for ever.
DAMAGES: dict[str, Damage] = {
    **{f"{name} is missing": _missing(name) for name in MISSING},
    **{f"{name} is half there": _half(name) for name in HALF},
    "a sync was cut off before the optimizer": _only("adapter_model.safetensors", "adapter_config.json", "checkpoint.json"),
    "a sync was cut off before the manifest": _missing("checkpoint.json"),
    "an empty folder": _only(),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_run_whose_newest_checkpoint_is_damaged_goes_on_from_the_one_before_to_the_same_bits(whole_run: Path, tmp_path: Path, damage: str) -> None:
    path = resumable_copy(whole_run, tmp_path / "run", 9)
    DAMAGES[damage](path.parent / "checkpoints/step-00000009")
    assert do_run(path) == 0
    resumed = lines(path.parent, "resumed")[-1]
    assert resumed["step"] == 8
    assert "passed over step-00000009: " in resumed["message"]
    assert results(path.parent)["weights_sha256"] == results(whole_run)["weights_sha256"]
    assert (path.parent / "final/metrics.jsonl").read_bytes() == (whole_run / "final/metrics.jsonl").read_bytes()
