"""Packing changes speed, not the training: the same rows in every step, the same loss, no token dropped, no row seen by its neighbour."""

import itertools
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.trainer.rig import do_run, lines, make_run, results, stop_after
from trainer.failures import TrainerFailure
from trainer.packing import PackingPlan, best_fit, lay_out, plan_packing
from trainer.stop import StopRequested, StopSignal
from trainer.tokens import IGNORED

SEED = random.SystemRandom().randrange(2**32)


def lengths_of(count: int, longest: int, seed: int = SEED) -> Any:
    print("seed", seed)
    draw = random.Random(seed)
    return np.array([min(longest, max(1, int(draw.lognormvariate(3.5, 1.0)))) for _ in range(count)])


def plan_of(lengths: Any, **changes: Any) -> PackingPlan:
    return plan_packing(lengths, **{"global_batch": 16, "lines": 4, "capacity": 256, "seed": 3, "epochs": 3, "stop": StopSignal(), **changes})


@pytest.mark.parametrize("count", [1, 5, 16, 97, 400])
def test_every_row_is_read_once_in_each_epoch_in_lines_that_fit(count: int) -> None:
    lengths = lengths_of(count, 256)
    plan = plan_of(lengths)
    for epoch in range(3):
        micro_batches = plan.epoch(epoch)
        assert len(micro_batches) == plan.micro_batches
        assert sorted(row for lines in micro_batches for line in lines for row in line) == list(range(count))
        assert all(1 <= len(lines) <= 4 for lines in micro_batches)
        assert all(line and int(lengths[line].sum()) <= 256 for lines in micro_batches for line in lines)


def test_a_step_reads_the_same_rows_however_they_are_laid_on_lines() -> None:
    lengths = lengths_of(200, 256)
    steps = []
    for width, capacity in ((4, 256), (2, 512), (16, 256)):
        plan = plan_of(lengths, lines=width, capacity=capacity)
        micro_batches = plan.epoch(1)
        of_steps = [micro_batches[at : at + plan.accumulation] for at in range(0, len(micro_batches), plan.accumulation)]
        steps.append([{row for lines_ in step for line in lines_ for row in line} for step in of_steps])
    assert steps[0] == steps[1] == steps[2]
    assert [len(step) for step in steps[0]] == [16] * 12 + [8]


def test_short_rows_need_fewer_micro_batches_and_long_ones_no_more_than_without_packing() -> None:
    assert plan_of(np.full(64, 16)).accumulation == 1
    assert plan_of(np.full(64, 256)).accumulation == 4
    assert plan_of(np.full(64, 129)).accumulation == 4


def test_an_epoch_s_order_hangs_on_the_seed_and_the_epoch_alone() -> None:
    lengths = lengths_of(100, 256, seed=5)
    first = plan_of(lengths).epoch(1)
    assert plan_of(lengths).epoch(1) == first
    assert plan_of(lengths).epoch(2) != first != plan_of(lengths, seed=4).epoch(1)


def test_best_fit_puts_a_row_where_it_leaves_the_least_room() -> None:
    lengths = np.array([6, 5, 4, 3, 2])
    assert best_fit([0, 1, 2, 3, 4], lengths, 10) == [[0, 2], [1, 3, 4]]
    assert all(len(best_fit(list(range(50)), lengths_of(50, 256), 256)) >= total / 256 for total in [int(lengths_of(50, 256).sum())])


def test_where_an_even_spread_would_pass_the_capacity_best_fit_holds_it() -> None:
    lengths = np.array([3, 3, 2, 2, 2])  # spread evenly over two lines, one of them would hold 7
    assert lay_out([0, 1, 2, 3, 4], lengths, 1, 6) == [[0, 1], [2, 3, 4]]
    assert sorted(int(lengths[line].sum()) for line in lay_out([0, 1, 2, 3, 4], lengths, 1, 7)) == [5, 7]


def test_a_stop_request_is_honoured_while_packing(tmp_path: Path) -> None:
    (tmp_path / "stop").touch()
    with pytest.raises(StopRequested, match="packing the rows"):
        plan_of(np.full(64, 16), stop=StopSignal(tmp_path / "stop"))


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    make: Any = AutoModelForCausalLM
    return make.from_pretrained(str(tiny_model), dtype=torch.float32, attn_implementation="sdpa").eval()


def rows(count: int, seed: int = 0) -> list[dict[str, list[int]]]:
    draw = random.Random(seed)
    found = []
    for _ in range(count):
        ids = [draw.randrange(4, 260) for _ in range(draw.randrange(3, 40))]
        found.append({"input_ids": ids, "labels": [IGNORED, *ids[1:]], "position_ids": list(range(len(ids)))})
    return found


def line_of(parts: list[dict[str, list[int]]]) -> dict[str, list[int]]:
    return {key: list(itertools.chain.from_iterable(part[key] for part in parts)) for key in parts[0]}


def loss_of(model: Any, lines: list[dict[str, list[int]]], *, at: int = 0, of: int | None = None) -> float:
    """Loss of ``of`` tokens from ``at`` on in the first line, summed; of the whole line where not given."""
    import torch
    from torch.nn.functional import cross_entropy

    from trainer.packed import collate

    inputs = collate([lines], 3)
    with torch.no_grad():
        logits = model(input_ids=inputs["input_ids"], position_ids=inputs["position_ids"], use_cache=False).logits[0].float()
    end = len(lines[0]["labels"]) if of is None else at + of
    return float(cross_entropy(logits[at : end - 1], inputs["labels"][0, at + 1 : end], ignore_index=IGNORED, reduction="sum"))


@pytest.mark.torch
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_row_s_loss_does_not_change_with_its_neighbours(model: Any, attention: str) -> None:
    model.set_attn_implementation(attention)
    row, *others = rows(6, seed=SEED)
    print("seed", SEED)
    alone = loss_of(model, [row])
    for neighbours in itertools.islice(itertools.permutations(others), 0, None, 17):
        for place in (0, 2, 5):
            parts = [*neighbours[:place], row, *neighbours[place:]]
            at = sum(len(part["labels"]) for part in parts[:place])
            beside = [line_of(parts), line_of(list(neighbours[:2]))]
            assert loss_of(model, beside, at=at, of=len(row["labels"])) == pytest.approx(alone, abs=1e-6 * len(row["labels"]))


@pytest.mark.torch
def test_a_line_taken_for_one_row_leaks_and_the_permutation_shows_it(model: Any) -> None:
    """The planted leak: positions that go on over the rows, as a model without block-wise attention sees them."""
    first, row = rows(2)
    leaking = line_of([first, row])
    leaking["position_ids"] = list(range(len(leaking["input_ids"])))
    assert abs(loss_of(model, [leaking], at=len(first["labels"]), of=len(row["labels"])) - loss_of(model, [row])) > 1e-2


@pytest.mark.torch
def test_a_model_whose_attention_leaks_is_refused_before_the_first_step(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from trainer.packed import check_apart

    assert check_apart(model, 260) < 1e-6
    forward: Callable[..., Any] = model.forward
    monkeypatch.setattr(model, "forward", lambda **inputs: forward(**{**inputs, "position_ids": None}))
    with pytest.raises(TrainerFailure, match=r"does not keep packed rows apart.*training\.packing to false"):
        check_apart(model, 260)


FIELDS: dict[str, Any] = {"adapter": {"r": 4, "dropout": 0.0}, "eval_fraction": 0}


def write_mixed_rows(folder: Path) -> None:
    """33 chats, most of them short and a few long, so that several lie on a line."""
    draw = random.Random(7)
    (folder / "data").mkdir(parents=True)
    with (folder / "data/train.jsonl").open("w") as file:
        for at in range(33):
            answer = " ".join(["The apple falls."] * (20 if at % 8 == 0 else draw.randint(1, 4)))
            file.write(json.dumps({"messages": [{"role": "user", "content": f"What {at}?"}, {"role": "assistant", "content": answer}]}) + "\n")


def trained(folder: Path, model: Path, **training: Any) -> list[dict[str, Any]]:
    """The loss curve of a run of six steps over an epoch and a bit of 33 rows, five of them many times as long as the others."""
    write_mixed_rows(folder)
    path = make_run(folder, model, rows=33, training={"max_steps": 6, "logging_steps": 1, **training}, **FIELDS)
    assert do_run(path) == 0
    return [json.loads(line) for line in (folder / "final/metrics.jsonl").read_text().splitlines()]


@pytest.mark.torch
def test_packed_training_is_the_same_to_a_millionth_however_a_step_is_split(tiny_model: Path, tmp_path: Path) -> None:
    """Three ways over two epochs, rows of a step on 8 x 1, 2 x 4 and up to 8 x 1 lines: one loss curve, one count of tokens."""
    curves = [trained(tmp_path / str(micro), tiny_model, micro_batch_size=micro) for micro in (8, 4, 1)]
    assert len({(entry["num_tokens"], entry["step"]) for curve in curves for entry in curve}) == 6
    for curve in curves[1:]:
        assert [entry["loss"] for entry in curve] == pytest.approx([entry["loss"] for entry in curves[0]], abs=1e-6)


@pytest.mark.torch
def test_a_step_learns_the_same_packed_and_one_row_a_line(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = trained(tmp_path / "packed", tiny_model, loss_on="all")
    assert "8 rows a step, packed on 2 x 4 lines" in lines(tmp_path / "packed", "started")[0]["message"]
    monkeypatch.setattr("trainer.packing.lay_out", lambda rows, *_: [[row] for row in rows])
    alone = trained(tmp_path / "alone", tiny_model, micro_batch_size=8, loss_on="all")
    assert [entry["loss"] for entry in packed] == pytest.approx([entry["loss"] for entry in alone], abs=1e-6)
    assert [entry["num_tokens"] for entry in packed] == [entry["num_tokens"] for entry in alone]


@pytest.mark.torch
@pytest.mark.parametrize(("packing", "stop_at"), [(True, 2), (True, 5), (False, 5)])
def test_a_run_stopped_in_either_epoch_ends_with_the_same_bits_packed_or_not(tiny_model: Path, tmp_path: Path, packing: bool, stop_at: int) -> None:
    curves = []
    for name in ("whole", "stopped"):
        folder = tmp_path / name
        write_mixed_rows(folder)
        path = make_run(folder, tiny_model, rows=33, training={"max_steps": 8, "packing": packing}, eval_fraction=0)
        if name == "stopped":
            assert do_run(path, now=stop_after(folder, "step", stop_at - 1)) == 75
            (folder / "stop").unlink()
        assert do_run(path) == 0
        curves.append((results(folder)["weights_sha256"], (folder / "final/metrics.jsonl").read_bytes()))
    assert curves[0] == curves[1]
