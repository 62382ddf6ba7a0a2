"""The whole story on a tiny model, in this process: start, stop, death, resume to the same bits, refusals, the final folder."""

import itertools
import json
import random
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from jobspec.runfile import TrainerResults
from jobspec.wire import load
from tests.trainer.rig import (
    Now,
    ProcessEnded,
    curve,
    die_after,
    do_run,
    failure,
    lines,
    make_run,
    results,
    resumable_copy,
    save_each_step,
    stop_after,
)
from trainer.checkpoints import verify
from trainer.run import run_file
from trainer.stop import StopSignal

pytestmark = pytest.mark.torch

#: Printed by pytest where a test fails: the steps that were drawn.
SEED = random.SystemRandom().randrange(2**32)


def checkpoints(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


def test_a_run_ends_with_results_that_match_its_files(whole_run: Path) -> None:
    found = load(TrainerResults, (whole_run / "final/results.json").read_bytes())
    assert (found.steps, found.first_step) == (10, 0)
    assert found.eval_loss_before is not None
    assert found.eval_loss_after is not None
    assert found.eval_loss_after < found.eval_loss_before
    assert found.tokens == curve(whole_run)[-1]["num_tokens"] > 1000
    last = lines(whole_run)[-1]
    assert (last["kind"], last["step"]) == ("completed", 10)
    assert found.weights_sha256 in last["message"]


def test_the_progress_file_tells_the_story_in_order(whole_run: Path) -> None:
    kinds = [kind for kind, _ in itertools.groupby(line["kind"] for line in lines(whole_run))]
    middle = ["step", "checkpoint"] * 10
    assert kinds == ["data", "started", "eval", "sample", *middle, "eval", "sample", "completed"]
    assert "rows to train on (chat), 2 held out" in lines(whole_run, "data")[0]["message"]
    assert lines(whole_run, "started")[0]["total_steps"] == 10
    step = lines(whole_run, "step")[3]
    assert (step["step"], step["total_steps"]) == (4, 10)
    assert {"loss", "learning_rate", "tokens_per_s"} <= step.keys()


def test_the_first_line_of_steps_says_what_each_part_of_the_start_took_and_no_other_does(tiny_model: Path, tmp_path: Path) -> None:
    moments = iter(range(10**6))
    assert do_run(make_run(tmp_path, tiny_model, training={"max_steps": 4, "logging_steps": 2}), clock=lambda: float(next(moments))) == 0
    first, *others = lines(tmp_path, "step")
    assert first["step"] == 2
    assert list(first["stages_s"]) == ["prepare", "import", "load", "measure", "first_step"]
    assert all(seconds > 0 for seconds in first["stages_s"].values())
    assert first["stages_s"]["load"] == lines(tmp_path, "started")[0]["seconds"]
    assert sum(first["stages_s"].values()) < next(moments), "no second is in two of them"
    assert [line.get("stages_s") for line in others] == [None]


def test_the_final_folder_holds_all_that_a_user_needs_and_no_pickle(whole_run: Path) -> None:
    names = {path.name for path in (whole_run / "final").iterdir()}
    assert {"adapter_model.safetensors", "adapter_config.json", "tokenizer.json", "chat_template.jinja", "results.json", "metrics.jsonl", "loss.png"} <= names
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pth"))]
    assert [entry["step"] for entry in curve(whole_run)] == list(range(1, 11))
    assert (whole_run / "final/loss.png").read_bytes().startswith(b"\x89PNG")
    card = (whole_run / "final/README.md").read_text()
    assert results(whole_run)["data_sha256"] in card
    assert "s3://bucket/tiny" in card


def test_tensorboard_reads_the_whole_curve_as_one_run(whole_run: Path) -> None:
    from tensorboardX.proto.event_pb2 import Event

    (path,) = (whole_run / "final/tensorboard").iterdir()
    body, losses = path.read_bytes(), {}
    while body:  # each record: 8 bytes of length, 4 of checksum, the event, 4 of checksum
        size = int.from_bytes(body[:8], "little")
        event = Event.FromString(body[12 : 12 + size])
        losses.update((event.step, value.simple_value) for value in event.summary.value if value.tag == "train/loss")
        body = body[16 + size :]
    assert losses == {entry["step"]: pytest.approx(entry["loss"], rel=1e-6) for entry in curve(whole_run)}


def test_the_adapter_names_its_base_and_the_revision_of_a_hub_model(tiny_model: Path, tmp_path: Path) -> None:
    revision = "0123456789" * 4
    path = make_run(tmp_path / "run", tiny_model, model_reference=f"org/tiny@{revision}", training={"max_steps": 1})
    assert do_run(path) == 0
    for folder in ("final", "checkpoints/step-00000001"):
        config = json.loads((tmp_path / "run" / folder / "adapter_config.json").read_text())
        assert (config["base_model_name_or_path"], config["revision"]) == ("org/tiny", revision)
    assert f"revision='{revision}'" in (tmp_path / "run/final/README.md").read_text()


def test_a_run_stopped_and_ended_and_damaged_on_the_way_ends_with_the_same_bits(whole_run: Path, tiny_model: Path, tmp_path: Path) -> None:
    """Stopped at a drawn step, dead at a later one, its newest checkpoint then damaged: still the uninterrupted run."""
    draw = random.Random(SEED)
    stop_at, more = draw.randint(3, 5), draw.randint(1, 4)
    print("seed", SEED, "stop at", stop_at, "die", more, "later")
    folder = tmp_path / "run"
    path = make_run(folder, tiny_model, checkpoint={"interval": 600, "keep": 3})
    # The stop file comes with the loss of the step before, and is seen at the end of the next.
    assert do_run(path, now=stop_after(folder, "step", stop_at - 2)) == 75
    assert checkpoints(folder) == [f"step-{stop_at:08d}"]
    assert lines(folder)[-1]["kind"] == "interrupted"
    (folder / "stop").unlink()
    with pytest.raises(ProcessEnded):
        do_run(path, now=die_after(folder, "checkpoint", 1 + more), clock=save_each_step())
    newest = folder / "checkpoints" / checkpoints(folder)[-1]
    assert newest.name == f"step-{stop_at + more:08d}"
    (newest / "scheduler.pt").unlink()
    assert do_run(path) == 0
    resumed = lines(folder, "resumed")[-1]
    assert f"passed over {newest.name}: scheduler.pt is missing" in resumed["message"]
    assert resumed["step"] == int(newest.name[5:]) - 1
    ours, whole = results(folder), results(whole_run)
    assert ours.pop("first_step") == resumed["step"]
    assert whole.pop("first_step") == 0
    assert ours == whole
    assert (folder / "final/metrics.jsonl").read_bytes() == (whole_run / "final/metrics.jsonl").read_bytes()


def test_what_was_measured_before_training_is_carried_not_measured_again(whole_run: Path, tmp_path: Path) -> None:
    path = resumable_copy(whole_run, tmp_path / "run", newest=9)
    assert do_run(path) == 0
    assert [line["message"].split(", ")[1] for line in lines(tmp_path / "run", "eval")] == ["after training"]
    assert results(tmp_path / "run")["eval_loss_before"] == results(whole_run)["eval_loss_before"]


def test_a_run_whose_last_step_is_saved_only_finishes(whole_run: Path, tmp_path: Path) -> None:
    path = resumable_copy(whole_run, tmp_path / "run", newest=10)
    assert do_run(path) == 0
    assert lines(tmp_path / "run", "step") == []
    assert {**results(tmp_path / "run"), "first_step": 0} == results(whole_run)


def test_the_same_command_after_the_end_changes_nothing_and_succeeds(whole_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(whole_run, folder, symlinks=True)
    before = (folder / "final/results.json").stat().st_mtime_ns
    assert do_run(folder / "run.json") == 0
    assert "finished by an earlier start" in lines(folder)[-1]["message"]
    assert (folder / "final/results.json").stat().st_mtime_ns == before


def test_a_stop_in_the_final_evaluation_keeps_every_step(whole_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    path = resumable_copy(whole_run, folder, newest=9)
    assert do_run(path, now=stop_after(folder, "checkpoint", 1)) == 75
    assert checkpoints(folder)[-1] == "step-00000010"
    assert not (folder / "final").exists()


@pytest.mark.parametrize(
    ("kind", "after", "doing"),
    [("data", 0, "loading the model"), ("data", 4, "evaluating"), ("started", 1, "writing a sample answer"), ("eval", 1, "before the first step")],
)
def test_a_stop_before_the_first_step_exits_75_without_a_checkpoint(tiny_model: Path, tmp_path: Path, kind: str, after: int, doing: str) -> None:
    folder = tmp_path / "run"
    assert do_run(make_run(folder, tiny_model), now=stop_after(folder, kind, after)) == 75
    assert checkpoints(folder) == []
    assert lines(folder)[-1]["kind"] == "interrupted"
    assert doing in lines(folder)[-1]["message"]


def test_a_stop_that_is_asked_for_before_the_start_is_honoured_at_once(tiny_model: Path, tmp_path: Path) -> None:
    path = make_run(tmp_path / "run", tiny_model)
    (tmp_path / "run/stop").touch()
    assert do_run(path) == 75
    assert [line["kind"] for line in lines(tmp_path / "run")] == ["interrupted"]


CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "learning rate": ({"training": {"learning_rate": 0.001}}, "settings.training.learning_rate: 0.001 here, 0.002 in the checkpoint"),
    "seed": ({"training": {"seed": 7}}, "settings.training.seed"),
    "micro batch": ({"training": {"micro_batch_size": 2}}, "settings.training.micro_batch_size"),
    "length of the run": ({"training": {"max_steps": 20}}, "settings.training.max_steps"),
    "adapter": ({"adapter": {"r": 8}}, "settings.adapter.r"),
    "evaluations": ({"evaluation": {"interval_steps": 5}}, "settings.evaluation.interval_steps: 5 here, None in the checkpoint"),
    "held-out share": ({"eval_fraction": 0.2}, "settings.data.eval_fraction"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_setting_is_refused_by_name_and_no_checkpoint_is_touched(whole_run: Path, tmp_path: Path, change: str) -> None:
    fields, words = CHANGES[change]
    folder = tmp_path / "run"
    path = resumable_copy(whole_run, folder, newest=4)
    make_run(folder, None, checkpoint={"interval": 600, "keep": 2}, **fields)
    assert do_run(path) == 1
    code, message = failure(folder)
    assert code == "identity_changed"
    assert words in message
    assert checkpoints(folder) == [f"step-{step:08d}" for step in (1, 2, 3, 4)]


def test_changed_data_and_a_changed_model_are_refused_by_name(whole_run: Path, tiny_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    path = resumable_copy(whole_run, folder, newest=2)
    with (folder / "data/train.jsonl").open("a") as file:
        file.write('{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}\n')
    (folder / "model").unlink()
    shutil.copytree(tiny_model, folder / "model")
    (folder / "model/generation_config.json").write_text("{}")
    assert do_run(path) == 1
    code, message = failure(folder)
    assert code == "identity_changed"
    assert "data_sha256" in message
    assert "model_sha256" in message


def test_what_does_not_change_the_steps_may_change_between_two_starts(whole_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    path = resumable_copy(whole_run, folder, newest=8)
    make_run(folder, None, training={"logging_steps": 2}, checkpoint={"interval": 60, "keep": 2})
    assert do_run(path) == 0
    assert results(folder)["weights_sha256"] == results(whole_run)["weights_sha256"]
    assert [line["step"] for line in lines(folder, "step")] == [10]


def test_numbers_that_break_down_end_the_run_and_leave_no_checkpoint_of_them(tiny_model: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "run"
    shutil.copytree(tiny_model, tmp_path / "model")
    weights = load_file(tmp_path / "model/model.safetensors")
    weights["model.norm.weight"][:] = float("nan")
    save_file(weights, tmp_path / "model/model.safetensors", metadata={"format": "pt"})
    assert do_run(make_run(folder, tmp_path / "model", eval_fraction=0), clock=save_each_step()) == 1
    code, message = failure(folder)
    assert code == "not_finite"
    assert "training.learning_rate (now 0.002)" in message
    assert checkpoints(folder) == []


def test_a_model_whose_weights_are_not_all_there_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(tiny_model, tmp_path / "model")
    weights = load_file(tmp_path / "model/model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, tmp_path / "model/model.safetensors", metadata={"format": "pt"})
    assert do_run(make_run(tmp_path / "run", tmp_path / "model")) == 1
    code, message = failure(tmp_path / "run")
    assert code == "model_invalid"
    assert "model.layers.1.mlp.up_proj.weight" in message


def test_a_layer_that_the_model_does_not_have_is_refused_with_those_it_has(tiny_model: Path, tmp_path: Path) -> None:
    path = make_run(tmp_path / "run", tiny_model, adapter={"r": 4, "target_modules": ["query_key_value"]})
    assert do_run(path) == 1
    code, message = failure(tmp_path / "run")
    assert code == "model_invalid"
    assert "no linear layer query_key_value; it has down_proj, gate_proj" in message


def test_memory_that_ran_out_is_named_with_the_remedies(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from trainer.methods import Sft

    def full(*_: object, **__: object) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(Sft, "training_step", full)
    assert do_run(make_run(tmp_path / "run", tiny_model)) == 1
    code, message = failure(tmp_path / "run")
    assert code == "out_of_memory"
    assert "micro_batch_size 2 (now 4" in message


def test_a_disk_that_cannot_hold_the_checkpoints_is_refused_before_training(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("trainer.story.shutil.disk_usage", lambda _: usage._replace(free=100_000))
    assert do_run(make_run(tmp_path / "run", tiny_model)) == 1
    code, message = failure(tmp_path / "run")
    assert code == "disk_full"
    assert "MiB more" in message
    assert lines(tmp_path / "run", "step") == []


def test_a_disk_that_fills_in_the_middle_fails_by_name_and_costs_no_published_checkpoint(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import Trainer

    whole = Trainer._save_rng_state

    def fills(self: Any, output_dir: str) -> None:
        if self.state.global_step == 3:
            raise OSError(28, "No space left on device")
        whole(self, output_dir)

    monkeypatch.setattr(Trainer, "_save_rng_state", fills)
    folder = tmp_path / "run"
    assert do_run(make_run(folder, tiny_model), clock=save_each_step()) == 1
    assert failure(folder)[0] == "disk_full"
    assert checkpoints(folder) == ["step-00000001", "step-00000002"]
    for name in checkpoints(folder):
        verify(folder / "checkpoints" / name)


def test_an_adapter_that_does_not_load_back_is_never_published(whole_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from peft import PeftModel

    folder = tmp_path / "run"
    path = resumable_copy(whole_run, folder, newest=10)
    load_back = PeftModel.from_pretrained

    def wrong(base: Any, where: str) -> Any:
        loaded = load_back(base, where)
        next(p for name, p in loaded.named_parameters() if "lora_B" in name).data += 1.0
        return loaded

    monkeypatch.setattr(PeftModel, "from_pretrained", wrong)
    assert do_run(path) == 1
    assert "does not load back" in failure(folder)[1]
    assert not (folder / "final").exists()
    assert not list(folder.glob(".staging-*"))


@pytest.mark.parametrize("packing", [True, False])
def test_the_way_a_global_batch_is_split_does_not_change_the_loss(tiny_model: Path, tmp_path: Path, packing: bool) -> None:
    """1 x 8, 2 x 4, 4 x 2 and 8 x 1 rows: to 1e-6. Two ranks are compared with one in test_ranks.py, as closely."""
    first_steps = []
    for micro in (8, 4, 2, 1):
        folder = tmp_path / str(micro)
        path = make_run(folder, tiny_model, training={"micro_batch_size": micro, "max_steps": 1, "packing": packing}, adapter={"r": 4, "dropout": 0.0})
        assert do_run(path) == 0
        first_steps.append({name: entry[name] for entry in curve(folder) if "loss" in entry for name in ("loss", "grad_norm")})
        first_steps[-1]["eval_loss"] = results(folder)["eval_loss_before"]
    for found in first_steps:
        assert found == pytest.approx(first_steps[0], rel=1e-6)


@pytest.mark.parametrize("data_format", ["prompt-completion", "text"])
def test_the_other_formats_train_to_the_end_without_held_out_rows(tiny_model: Path, tmp_path: Path, data_format: str) -> None:
    from tests.tiny_model import write_prompt_rows, write_text_rows

    folder = tmp_path / "run"
    (write_prompt_rows if data_format == "prompt-completion" else write_text_rows)(folder / "data/train.jsonl", n=12)
    path = make_run(folder, tiny_model, eval_fraction=0, training={"max_steps": 2, "gradient_checkpointing": True}, data_format=data_format)
    assert do_run(path) == 0
    assert results(folder)["eval_loss_before"] is None
    assert lines(folder, "eval") == []


def test_prepare_reports_the_data_and_trains_nothing(tiny_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert run_file(make_run(folder, tiny_model), Now(folder), lambda: 0.0, StopSignal(), only_prepare=True) == 0
    report, *samples = [line["message"] for line in lines(folder, "data")]
    assert len(lines(folder)) == 4
    assert report.startswith("38 rows to train on (chat), 2 held out; ")
    assert len(set(samples)) == 3
    marked = (
        r"sample: data/train\.jsonl: line \d+: <\|im_start\|>user\n[^\u27e6]*<\|im_end\|>\n<\|im_start\|>assistant\n\u27e6The [^\u27e6]*<\|im_end\|>\u27e7\n"
    )
    assert all(re.fullmatch(marked, sample) for sample in samples), samples
    assert not (folder / "checkpoints").exists()
