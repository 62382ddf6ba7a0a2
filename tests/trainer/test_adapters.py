"""Adapters: what is trained of each kind, what is refused, a 4-bit base (on a CPU here, where its numbers are the same), a merged model."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.tiny_model import make_tiny_model
from tests.trainer.rig import do_run, failure, lines, make_run, results, stop_after

pytestmark = pytest.mark.torch

SHORT: dict[str, Any] = {"max_steps": 3, "learning_rate": 0.01}


def config_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "final/adapter_config.json").read_text())
    return found


def test_rslora_and_dora_reach_the_adapter(tiny_model: Path, tmp_path: Path) -> None:
    assert do_run(make_run(tmp_path / "run", tiny_model, training=SHORT, adapter={"r": 4, "rslora": True, "dora": True})) == 0
    config = config_of(tmp_path / "run")
    assert (config["use_rslora"], config["use_dora"]) == (True, True)
    assert "A rsLoRA DoRA adapter" in (tmp_path / "run/final/README.md").read_text()


def test_qlora_without_a_gpu_is_refused_before_anything_is_loaded(tiny_model: Path, tmp_path: Path) -> None:
    assert do_run(make_run(tmp_path / "run", tiny_model, adapter={"type": "qlora"})) == 1
    code, message = failure(tmp_path / "run")
    assert code == "trainer_error"
    assert "adapter.type qlora needs an NVIDIA GPU" in message
    assert lines(tmp_path / "run", "started") == []


def test_qlora_without_bitsandbytes_is_refused(four_bits_here: None, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from trainer import model

    monkeypatch.setattr(model, "find_spec", lambda _: None)
    assert do_run(make_run(tmp_path / "run", tiny_model, adapter={"type": "qlora"})) == 1
    assert "the package bitsandbytes" in failure(tmp_path / "run")[1]


def test_qlora_learns_on_four_bits_resumes_to_the_same_bits_and_merges_on_the_whole_base(four_bits_here: None, tmp_path: Path) -> None:
    tiny_model = make_tiny_model(tmp_path / "tiny", intermediate_size=128)  # on a CPU bitsandbytes packs whole blocks of 64
    adapter = {"type": "qlora", "r": 4, "dropout": 0.1, "merge": True}
    whole, folder = tmp_path / "whole", tmp_path / "run"
    assert do_run(make_run(whole, tiny_model, training=SHORT, adapter=adapter)) == 0, lines(whole)[-1]
    path = make_run(folder, tiny_model, training=SHORT, adapter=adapter)
    assert do_run(path, now=stop_after(folder, "started", 1)) == 75
    (folder / "stop").unlink()
    assert do_run(path, now=stop_after(folder, "step", 1)) in (0, 75)
    (folder / "stop").unlink(missing_ok=True)
    assert do_run(path) == 0
    assert results(folder)["weights_sha256"] == results(whole)["weights_sha256"]
    assert (folder / "final/metrics.jsonl").read_bytes() == (whole / "final/metrics.jsonl").read_bytes()
    from safetensors.torch import load_file

    merged = load_file(whole / "final/merged/model.safetensors")
    base = load_file(tiny_model / "model.safetensors")
    assert merged.keys() == base.keys()
    assert merged["model.embed_tokens.weight"].equal(base["model.embed_tokens.weight"])  # no 4-bit rounding got in
    assert not merged["model.layers.0.mlp.up_proj.weight"].equal(base["model.layers.0.mlp.up_proj.weight"])


def test_a_merged_model_loads_alone_and_its_distance_to_the_adapter_is_on_record(tiny_model: Path, tmp_path: Path) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path / "run"
    assert do_run(make_run(folder, tiny_model, training=SHORT, adapter={"r": 4, "merge": True})) == 0
    found = results(folder)
    assert 0 <= found["merged_logit_difference"] < 1e-3 * found["merged_largest_logit"]
    assert "`merged/` holds" in (folder / "final/README.md").read_text()
    merged = AutoModelForCausalLM.from_pretrained(folder / "final/merged").eval()
    adapted = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_model), folder / "final").eval()
    ids = AutoTokenizer.from_pretrained(folder / "final/merged")("What does the red apple do?", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        assert torch.allclose(merged(ids).logits, adapted(ids).logits, atol=1e-3)
        assert not torch.allclose(merged(ids).logits, AutoModelForCausalLM.from_pretrained(tiny_model)(ids).logits, atol=1e-3)


def test_a_reward_model_loads_as_its_card_says_and_prefers_what_was_chosen(tiny_model: Path, tmp_path: Path) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from tests.tiny_model import write_rows_for

    folder = tmp_path / "run"
    rows = write_rows_for("reward", folder / "data/train.jsonl", n=24)
    assert do_run(make_run(folder, tiny_model, method="reward", training={"max_steps": 12, "learning_rate": 0.01})) == 0
    assert results(folder)["eval_metrics_after"]["accuracy"] == 1
    assert "AutoModelForSequenceClassification" in (folder / "final/README.md").read_text()
    base = AutoModelForSequenceClassification.from_pretrained(tiny_model, num_labels=1, pad_token_id=3)
    model, tokenizer = PeftModel.from_pretrained(base, folder / "final").eval(), AutoTokenizer.from_pretrained(folder / "final")
    row = json.loads(rows.read_text().splitlines()[0])
    with torch.no_grad():
        good, bad = (
            float(model(torch.tensor([tokenizer.apply_chat_template(row["prompt"] + row[key], return_dict=True)["input_ids"]])).logits)
            for key in ("chosen", "rejected")
        )
    assert good > bad


@pytest.mark.parametrize(("capability", "dtype"), [((7, 0), "float16"), ((7, 5), "float16"), ((8, 0), "bfloat16"), ((8, 9), "bfloat16"), ((9, 0), "bfloat16")])
def test_the_precision_follows_the_gpu(capability: tuple[int, int], dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from trainer import model

    monkeypatch.setattr(model.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(model.torch.cuda, "get_device_capability", lambda: capability)
    assert model.resolve_dtype("auto") == dtype
    assert model.resolve_dtype("float32") == "float32"
