"""Times, dollars, micro-batches and last saves: held to published figures where there are any, and to what must be true of every guess."""

from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobspec import on_demand
from jobspec.instances import GPU_INSTANCES
from jobspec.manifest import Manifest
from planning.estimate import FITS, load_on, plan_of
from planning.hardware import BASELINE_GBPS, GPUS
from planning.known_models import KNOWN, shape_of_hub
from planning.refusals import refusals
from planning.rows import Rows
from planning.shape import shape_of
from planning.speed import seconds_of, steps_of, tokens_of
from planning.words import expectation, preferred
from tests.planning.test_memory_measured import workload

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
LONG = Rows(10_000, (16_384,) * 4, counted=True)
LLAMA = "meta-llama/Llama-3.1-8B"


def manifest(**changes: Any) -> Manifest:
    usual: dict[str, Any] = {
        "name": "tale",
        "model": {"hub": LLAMA, "revision": "0" * 40},
        "data": {"train": "data/t.jsonl"},
        "compute": {"instance_types": ["g5.xlarge"]},
    }
    return Manifest.model_validate(usual | changes)


def test_every_offered_type_has_its_gpu_and_its_network() -> None:
    assert {one.gpu for one in GPU_INSTANCES.values()} == set(GPUS)
    assert set(GPU_INSTANCES) == set(BASELINE_GBPS)


@pytest.mark.parametrize(
    ("instance", "model", "changes", "published"),
    [
        # ../shared/facts/trainer.md, section 3, each with its source there.
        ("p5.48xlarge", LLAMA, {"max_length": 4096, "micro_batch": 2, "gradient_checkpointing": False}, 12_473),
        ("p4d.24xlarge", "Qwen/Qwen2.5-7B", {"max_length": 2048, "micro_batch": 1}, 3_150),
        ("p4d.24xlarge", "Qwen/Qwen2.5-7B", {"max_length": 2048, "micro_batch": 1, "adapter": "qlora"}, 2_340),
    ],
)
def test_published_speeds_lie_within_the_range(instance: str, model: str, changes: dict[str, Any], published: float) -> None:
    work = workload(**{"r": 16, "global_batch": 16, "max_steps": 100, **changes})
    gpus = GPU_INSTANCES[instance].gpus
    # What is published is of one GPU.
    seconds, tokens = seconds_of(shape_of_hub(model), work, LONG, GPU_INSTANCES[instance]), tokens_of(work.on(gpus), LONG).times(1 / gpus)
    assert tokens.most / seconds.most <= published <= tokens.least / seconds.least
    assert 0.4 <= (tokens.typical / seconds.typical) / published <= 1.3, "and the typical guess is not far off"


@settings(deadline=None, max_examples=60)
@given(
    known=st.sampled_from(KNOWN),
    name=st.sampled_from(sorted(GPU_INSTANCES)),
    lengths=st.lists(st.integers(1, 40_000), min_size=1, max_size=20).map(sorted).map(tuple),
    number=st.integers(1, 10**6),
    method=st.sampled_from(["sft", "dpo", "kto"]),
)
def test_a_guess_is_in_order_and_more_rows_never_take_less(known: Any, name: str, lengths: tuple[int, ...], number: int, method: str) -> None:
    shape, work = shape_of(known.config()), workload(method=method, max_steps=None, max_length=2048)
    rows = Rows(number, lengths)
    found = seconds_of(shape, work, rows, GPU_INSTANCES[name])
    more = seconds_of(shape, work, replace(rows, number=2 * number + 20), GPU_INSTANCES[name])
    assert 0 < found.least <= found.typical <= found.most
    assert found.least <= more.least


def test_the_micro_batch_is_the_largest_that_fits_and_the_global_batch_stays() -> None:
    wanted = {"training": {"micro_batch_size": 16, "max_length": 2048}}
    (one,) = plan_of(manifest(**wanted), shape_of_hub(LLAMA), LONG).types
    assert one.micro_batch * one.accumulation == 16
    assert one.load <= FITS
    bigger = workload(r=16, max_length=2048, global_batch=16, micro_batch=2 * one.micro_batch)
    assert load_on(GPU_INSTANCES["g5.xlarge"], shape_of_hub(LLAMA), bigger) <= FITS, "for it comes down from there by itself"
    assert one.roomier_micro_batch == one.micro_batch


def test_kto_never_comes_down_to_one_row_for_its_kl_term_needs_two() -> None:
    wanted = manifest(method="kto", training={"micro_batch_size": 8, "max_length": 8192})
    (one,) = plan_of(wanted, shape_of_hub(LLAMA), LONG).types
    assert one.micro_batch == 2


@pytest.mark.parametrize(
    ("rows", "changes", "steps"),
    [
        (100, {}, 6),  # 5 are held out; the last step takes what is left
        (2, {}, 1),
        (1, {}, 1),
        (1000, {"eval_fraction": 0.0, "epochs": 2.5}, 158),
        (1000, {"method": "grpo", "generations": 8, "eval_fraction": 0.0}, 500),
        (1000, {"max_steps": 7}, 7),
    ],
)
def test_steps_are_those_that_the_trainer_takes(rows: int, changes: dict[str, Any], steps: int) -> None:
    assert steps_of(workload(**{"max_steps": None, "eval_fraction": 0.05, "global_batch": 16, "micro_batch": 4, **changes}), rows) == steps


@pytest.mark.torch
@pytest.mark.parametrize("rows", [1, 2, 15, 16, 17, 1000])
@pytest.mark.parametrize("changes", [{}, {"epochs": 2.5}, {"max_steps": 9}, {"method": "grpo", "generations": 4}])
def test_the_trainer_counts_the_same_steps(rows: int, changes: dict[str, Any]) -> None:
    from trainer.train import total_steps_of

    work = workload(**{"max_steps": None, "epochs": 1.0, "global_batch": 16, "micro_batch": 4, **changes})
    if work.method == "grpo" and rows < work.global_batch // work.generations:
        pytest.skip("the trainer refuses fewer prompts than one step takes")
    training = SimpleNamespace(max_steps=work.max_steps, epochs=work.epochs, global_batch_size=work.global_batch)
    run: Any = SimpleNamespace(training=training, method=work.method, grpo=SimpleNamespace(num_generations=work.generations))
    assert steps_of(work, rows) == total_steps_of(run, rows)


def test_packing_short_rows_saves_padding_and_passes_and_no_memory() -> None:
    rows, shape = Rows(10_000, (40, 400, 4000), counted=True), shape_of_hub("HuggingFaceTB/SmolLM2-135M")
    padded = workload(max_steps=None, max_length=1024, global_batch=32, micro_batch=8)
    packed = replace(padded, packing=True)
    times = [seconds_of(shape, work, rows, GPU_INSTANCES["g5.xlarge"]) for work in (packed, padded)]
    assert times[0].typical < times[1].typical / 2
    assert times[0].least == times[1].least
    assert load_on(GPU_INSTANCES["g5.xlarge"], shape, packed) == load_on(GPU_INSTANCES["g5.xlarge"], shape, padded)


def test_dtype_follows_the_gpus_generation() -> None:
    plan = plan_of(manifest(), shape_of_hub("Qwen/Qwen2.5-0.5B"), LONG, ("g4dn.xlarge", "g5.xlarge"))
    assert [one.dtype for one in plan.types] == ["float16", "bfloat16"]


def test_an_adapter_is_saved_within_a_notice_and_all_weights_are_not() -> None:
    shape, types = shape_of_hub("Qwen/Qwen2.5-3B"), ("p5.48xlarge",)
    adapter, full = (plan_of(manifest(adapter={"type": kind}), shape, LONG, types) for kind in ("lora", "full"))
    assert full.checkpoint_bytes == 12 * shape.parameters
    assert adapter.types[0].save_in_time
    assert adapter.types[0].save_s < 10
    assert not full.types[0].save_in_time


def test_the_type_to_take_has_room_and_costs_least_for_the_whole_job() -> None:
    wanted = manifest(compute={"instance_types": ["g4dn.xlarge", "g5.xlarge", "g6e.xlarge"]})
    plan = plan_of(wanted, shape_of_hub(LLAMA), LONG)
    best = preferred(plan, wanted)
    assert best.verdict == "fits"
    assert best.usd_spot is not None
    assert all(one.usd_spot is not None and best.usd_spot.typical <= one.usd_spot.typical for one in plan.types if one.verdict == "fits")
    assert best.instance.name in expectation(plan, wanted)


def test_without_rows_and_steps_nothing_is_said_of_time_and_nothing_is_refused_for_it() -> None:
    wanted = manifest(limits={"budget_usd": 0.01, "max_runtime": "1s"})
    plan = plan_of(wanted, shape_of_hub("Qwen/Qwen2.5-0.5B"), None)
    assert plan.types[0].hours is None
    assert refusals(plan, wanted, NOW) == ()


def test_with_max_steps_alone_the_range_is_wide_and_its_lower_end_is_sure() -> None:
    wanted = manifest(training={"max_steps": 50_000}, limits={"budget_usd": 0.01})
    plan = plan_of(wanted, shape_of_hub("Qwen/Qwen2.5-0.5B"), None)
    hours = plan.types[0].hours
    assert hours is not None
    assert hours.least < hours.typical / 10
    assert [one.path for one in refusals(plan, wanted, NOW)] == ["limits.budget_usd"]


def test_all_gpus_of_a_type_are_planned_and_several_instances_times_as_many() -> None:
    types = ("g6e.xlarge", "g6e.12xlarge")
    one, four = plan_of(manifest(training={"micro_batch_size": 2}), shape_of_hub(LLAMA), LONG, types).types
    assert (one.ranks, four.ranks) == (1, 4)
    assert one.micro_batch * one.accumulation == four.micro_batch * four.accumulation * 4 == 16
    assert one.hours is not None
    assert four.hours is not None
    assert four.hours.least == pytest.approx(one.hours.least / 4)
    assert one.hours.typical / 4 < four.hours.typical < one.hours.typical
    assert four.memory.gradients > one.memory.gradients, "DDP's buckets"
    (two,) = plan_of(manifest(compute={"instance_types": ["g6e.12xlarge"], "nodes": 2}), shape_of_hub(LLAMA), LONG).types
    assert two.ranks == 8
    assert two.hours is not None
    assert two.usd_spot is not None
    assert two.usd_spot.typical == pytest.approx(two.hours.typical * 2 * GPU_INSTANCES["g6e.12xlarge"].spot_usd_per_h)


def test_full_training_is_shared_out_over_the_gpus_where_the_trainer_does_so() -> None:
    wanted = manifest(adapter={"type": "full"}, compute={"instance_types": ["p5.48xlarge"]})
    (shared,) = plan_of(wanted, shape_of_hub(LLAMA), LONG).types
    assert shared.ranks == 8
    assert shared.verdict == "fits", "16 bytes a parameter on eight"
    assert shared.memory.optimizer == pytest.approx(8 * shape_of_hub(LLAMA).parameters / 8)
    (alone,) = plan_of(manifest(adapter={"type": "full"}, method="dpo", compute={"instance_types": ["p5.48xlarge"]}), shape_of_hub(LLAMA), LONG).types
    assert (alone.ranks, alone.verdict) == (1, "no")


def test_a_global_batch_that_the_gpus_cannot_share_evenly_is_refused_with_the_nearest_that_they_can() -> None:
    wanted = manifest(training={"global_batch_size": 6, "micro_batch_size": 2}, compute={"instance_types": ["g6e.12xlarge"]})
    plan = plan_of(wanted, shape_of_hub("Qwen/Qwen2.5-0.5B"), LONG)
    assert plan.types[0].verdict == "no"
    (told,) = refusals(plan, wanted, NOW)
    assert told.path == "training.global_batch_size"
    assert "over the 4 GPUs of g6e.12xlarge" in told.message
    assert told.allowed.startswith("4 or 8")
    assert not refusals(plan_of(manifest(training={"global_batch_size": 8}), shape_of_hub("Qwen/Qwen2.5-0.5B"), LONG), wanted, NOW)


def test_on_demand_is_planned_at_the_price_of_the_cheapest_region_that_the_job_may_run_in() -> None:
    def usd(home: str, *regions: str) -> float:
        wanted = manifest(compute={"instance_types": ["g5.xlarge"], "market": "on-demand"} | ({"regions": list(regions)} if regions else {}))
        (one,) = plan_of(wanted, shape_of_hub("Qwen/Qwen2.5-0.5B"), LONG, home=home).types
        assert one.hours is not None
        assert one.usd_on_demand is not None
        return one.usd_on_demand.typical / one.hours.typical

    assert usd("us-east-1") == pytest.approx(1.006)
    assert usd("eu-central-1") == pytest.approx(1.258)
    assert usd("eu-central-1", "eu-central-1", "us-west-2") == pytest.approx(1.006)


def test_a_budget_that_pays_in_one_region_is_refused_in_a_dearer_one() -> None:
    wanted = manifest(compute={"instance_types": ["g5.xlarge"], "market": "on-demand"})
    shape = shape_of_hub("Qwen/Qwen2.5-0.5B")
    (one,) = plan_of(wanted, shape, LONG).types
    assert one.hours is not None
    between = one.hours.least * (on_demand.usd_per_h("g5.xlarge", "us-east-1") + on_demand.usd_per_h("g5.xlarge", "sa-east-1")) / 2
    wanted = wanted.model_copy(update={"limits": wanted.limits.model_copy(update={"budget_usd": between})})
    problems = {home: [line.path for line in refusals(plan_of(wanted, shape, LONG, home=home), wanted, NOW)] for home in ("us-east-1", "sa-east-1")}
    assert ("limits.budget_usd" in problems["us-east-1"], "limits.budget_usd" in problems["sa-east-1"]) == (False, True), problems
