"""The bench of training: its share of the peak is arithmetic that can be done by hand, and without a GPU it says so."""

import sys

import pytest

from bench import training
from bench.first_step import Played, Start, beside_table
from bench.first_step import table as start_table
from bench.packing import Trained

CONFIG = {
    "model_type": "llama",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "intermediate_size": 128,
    "vocab_size": 1000,
    "tie_word_embeddings": False,
}
#: Of each layer four projections and three of the MLP, and the output; the embedding is looked up, not multiplied.
MATRICES = 2 * (4 * 64 * 64 + 3 * 64 * 128) + 1000 * 64
ATTENTION = 2 * 100 * 64 * 2


@pytest.mark.parametrize(("adapter", "flops"), [("full", 6 * MATRICES + 3 * ATTENTION), ("lora", 4 * MATRICES + 3 * ATTENTION)])
def test_the_share_of_the_peak_counts_no_gradient_of_frozen_weights(adapter: str, flops: int) -> None:
    assert training.mfu(Trained(5000, 2.0, 4), CONFIG, adapter, 100, 1e10) == pytest.approx(2500 * flops / 1e10, rel=0.01)


def test_a_line_has_the_ratio_to_trl_and_the_most_memory() -> None:
    trl = [{"tokens": 100.0, "seconds": 1.0, "steps": 2.0, "memory_gib": 9.0}]
    ours = [{"tokens": tokens, "seconds": 1.0, "steps": 2.0, "memory_gib": memory} for tokens, memory in ((150.0, 7.0), (170.0, 8.5), (200.0, 8.0))]
    cells = [cell.strip() for cell in training.row("1B lora", "dropforge", ours, trl, [0.3, 0.4, 0.5]).split("|")]
    assert cells[3:7] == ["170 (150 to 200)", "1.70", "40.0 (30.0 to 50.0) %", "8.5 GiB"]


@pytest.mark.torch
def test_without_a_gpu_the_gpus_form_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["training", "--gpu"])
    with pytest.raises(SystemExit, match="needs an NVIDIA GPU"):
        training.main()


def test_a_start_is_told_by_stages_beside_its_floor() -> None:
    starts = [Start(9.0, {"import": 5.0, "load": 1.0}), Start(12.0, {"import": 6.0, "load": 2.0}), Start(10.0, {"import": 5.5, "load": 1.5})]
    text = start_table(starts, [Start(5.0, {"import": 4.0})])
    assert "| import | 5.50 (5.00 to 6.00) |" in text
    assert "| ratio | 2.00; the goal of 15 s is met on this machine |" in text


def test_a_played_pull_is_shown_in_both_orders_beside_the_least() -> None:
    plain = [Start(5.0, {"stage_model": 0.1, "pull": 0.0})]
    after_it = [Start(25.0, {"pull": 12.0, "stage_model": 8.0})]
    beside = [Start(17.5, {"pull": 4.0, "stage_model": 8.0})]
    lines = beside_table(plain, after_it, beside, Played(12.0, 8.0, beside=False)).splitlines()
    assert lines[2:] == [
        "| pull | 12.00 (12.00 to 12.00) | 4.00 (4.00 to 4.00) |",
        "| stage_model | 8.00 (8.00 to 8.00) | 8.00 (8.00 to 8.00) |",
        "| order of the pull to the first step's end | 25.00 (25.00 to 25.00) | 17.50 (17.50 to 17.50) |",
        "| floor: the longer one, 12, and a start without either | | 17.00 (17.00 to 17.00) |",
    ]
