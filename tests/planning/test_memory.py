"""What must hold of every estimate, whatever the model: more asked for never needs less."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planning.known_models import KNOWN, VARIANTS, shape_of_hub
from planning.memory import GIB, memory_of
from planning.shape import CannotTell, Shape, shape_of
from planning.workload import Workload
from tests.planning.test_memory_measured import workload

SHAPES = st.sampled_from([shape_of(known.config()) for known in KNOWN])
WORK = st.builds(
    workload,
    method=st.sampled_from(["sft", "dpo", "kto", "orpo", "reward", "grpo"]),
    adapter=st.sampled_from(["lora", "qlora", "full"]),
    r=st.integers(1, 256),
    dora=st.booleans(),
    dropout=st.sampled_from([0.0, 0.1]),
    max_length=st.integers(8, 32768),
    global_batch=st.just(16),
    micro_batch=st.sampled_from([1, 2, 4, 8, 16]),
    gradient_checkpointing=st.booleans(),
    completion_length=st.just(64),
)
DTYPES = st.sampled_from(["float32", "bfloat16", "float16"])


@pytest.mark.parametrize("known", KNOWN, ids=lambda known: known.names[0])
def test_a_known_model_has_the_parameters_that_the_hub_shows(known: Any) -> None:
    assert shape_of(known.config()).parameters == known.parameters


def test_a_known_model_is_found_by_its_variants_and_an_unknown_one_is_not_guessed() -> None:
    assert shape_of_hub("Qwen/Qwen2.5-7B-Instruct") == shape_of_hub("Qwen/Qwen2.5-7B")
    assert shape_of_hub("HuggingFaceTB/SmolLM2-135M-Instruct").parameters == 134_515_008
    with pytest.raises(CannotTell, match=r"somebody/Qwen2\.5-7B is not among"):
        shape_of_hub("somebody/Qwen2.5-7B")
    assert all(variant.startswith("-") for variant in VARIANTS)


@settings(deadline=None)
@given(shape=SHAPES, work=WORK, dtype=DTYPES, more=st.integers(1, 4096))
def test_longer_rows_never_need_less(shape: Shape, work: Workload, dtype: str, more: int) -> None:
    assert memory_of(shape, replace(work, max_length=work.max_length + more), dtype).total >= memory_of(shape, work, dtype).total


@settings(deadline=None)
@given(shape=SHAPES, work=WORK, dtype=DTYPES)
def test_more_rows_at_once_never_need_less_for_the_same_number_of_micro_batches(shape: Shape, work: Workload, dtype: str) -> None:
    doubled = replace(work, micro_batch=2 * work.micro_batch, global_batch=2 * work.global_batch)
    assert memory_of(shape, doubled, dtype).total >= memory_of(shape, work, dtype).total


@settings(deadline=None)
@given(shape=SHAPES, work=WORK, dtype=DTYPES)
def test_recomputing_and_a_lower_rank_and_fewer_bits_never_need_more(shape: Shape, work: Workload, dtype: str) -> None:
    kept = memory_of(shape, replace(work, gradient_checkpointing=False), dtype).total
    assert memory_of(shape, replace(work, gradient_checkpointing=True), dtype).total <= kept * 1.02  # one layer's copies are made anew
    ranks = [memory_of(shape, replace(work, adapter="lora", r=r), dtype).total for r in (4, 64)]
    assert ranks[0] <= ranks[1]
    # Full training is left out: of a small model's long rows an adapter's own inputs may take more than the states it saves.
    four_bits, whole = (memory_of(shape, replace(work, adapter=kind, r=8), dtype).total for kind in ("qlora", "lora"))
    assert four_bits <= whole


@settings(deadline=None)
@given(shape=SHAPES, work=WORK, dtype=DTYPES)
def test_every_part_is_there_and_none_is_negative(shape: Shape, work: Workload, dtype: str) -> None:
    found = memory_of(shape, work, dtype)
    assert all(getattr(found, name) >= 0 for name in found.__slots__)
    assert found.weights > 0
    assert found.optimizer > 0


@pytest.mark.parametrize(
    ("model", "adapter", "least", "most"),
    [
        # axolotl docs/choosing_method.qmd, 7-8B, short context: QLoRA 10-14 GB, LoRA 16-24 (../shared/facts/trainer.md, section 3).
        ("meta-llama/Llama-3.1-8B", "qlora", 7, 14),
        ("meta-llama/Llama-3.1-8B", "lora", 16, 24),
        ("Qwen/Qwen2.5-7B", "lora", 16, 24),
    ],
)
def test_the_estimate_lies_where_published_figures_do(model: str, adapter: str, least: float, most: float) -> None:
    work = workload(adapter=adapter, r=16, max_length=512, micro_batch=1, global_batch=16)
    assert least <= memory_of(shape_of_hub(model), work, "bfloat16").total / GIB <= most


def test_four_bits_leave_the_embedding_and_stacked_experts_alone() -> None:
    dense, mixture = shape_of_hub("Qwen/Qwen3-8B"), shape_of_hub("Qwen/Qwen3-30B-A3B")
    work = workload(adapter="qlora")
    matrices = dense.parameters - dense.embedding_parameters - dense.head_parameters - dense.norm_parameters
    expected = matrices * (4 + 0.127) / 8 + (dense.parameters - matrices) * 2
    assert memory_of(dense, work, "bfloat16").weights == pytest.approx(expected, rel=1e-6)
    assert memory_of(mixture, work, "bfloat16").weights > 0.9 * 2 * mixture.parameters
