"""What cannot work is refused at the door, with its numbers and the nearest that would; what cannot be told is not refused."""

import gzip
import json
import re
from datetime import timedelta
from typing import Any

import pytest

from control_plane.core.state import Job, JobState
from tests.driver.faults import refused as refused_by_aws
from tests.driver.house import DATA, SHARED, House
from tests.simulation.aws import account

LLAMA_8B: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
}
LLAMA_70B = LLAMA_8B | {"hidden_size": 8192, "num_hidden_layers": 80, "intermediate_size": 28672, "num_attention_heads": 64}


def hold_model(house: House, config: Any) -> None:
    house.s3.write(DATA, "models/m/config.json", config if isinstance(config, bytes) else json.dumps(config).encode())


def hold_rows(house: House, rows: int, characters: int = 4000) -> None:
    line = json.dumps({"prompt": "", "completion": "x" * characters}).encode() + b"\n"
    house.s3.write(DATA, "data/train.jsonl", line * rows)


def types(*names: str) -> dict[str, Any]:
    return {"instance_types": list(names)}


def refused(house: House, **changes: Any) -> str:
    """The manifest's job ends where it begins: nothing is launched, one e-mail. Gives the e-mail."""
    job = house.put(**changes)
    assert isinstance(job, Job)
    assert job.state is JobState.REJECTED, job.reason
    assert house.live() == []
    (mail,) = house.mails
    return mail.body


def taken(house: House, **changes: Any) -> str:
    """The manifest is accepted and launched; gives the reason that its history begins with."""
    job = house.put(**changes)
    assert isinstance(job, Job)
    assert job.state is JobState.LAUNCHED, job.reason
    return job.history[0].reason


def test_a_job_that_fits_says_what_to_expect(house: House) -> None:
    hold_model(house, LLAMA_8B)
    hold_rows(house, 2000)
    told = taken(house, adapter={"type": "qlora"})
    assert told.startswith("the manifest is valid. Expected, by guess: ")
    assert "on spot" in told
    assert "GiB of GPU memory on g" in told


def test_what_fits_no_allowed_type_is_refused_with_what_would_fit(house: House) -> None:
    hold_model(house, LLAMA_70B)
    told = refused(house, compute=types("g5.xlarge", "g6.xlarge"))
    assert "compute.instance_types lets the job start where it cannot fit" in told
    assert "GiB" in told
    assert "adapter.type: qlora" not in told, "seventy billion parameters in four bits need more than 24 GiB too"
    assert "compute.instance_types: [" not in told, "and no offered GPU holds them in sixteen"


@pytest.mark.parametrize(
    ("changes", "nearest"),
    [
        ({"compute": types("g4dn.xlarge")}, "adapter.type: qlora"),
        ({"compute": types("g4dn.xlarge")}, "compute.instance_types: [g6.xlarge"),
        ({"compute": types("g5.xlarge"), "training": {"max_length": 32768}}, "training.max_length: "),
        ({"compute": types("g5.xlarge"), "training": {"gradient_checkpointing": False, "max_length": 4096}}, "training.gradient_checkpointing: true"),
        ({"compute": types("g5.xlarge"), "adapter": {"type": "full"}}, "adapter.type: lora"),
        ({"compute": types("g5.xlarge"), "training": {"dtype": "float32"}}, "training.dtype: auto"),
    ],
)
def test_the_nearest_change_that_would_fit_is_named_and_does_fit(house: House, changes: dict[str, Any], nearest: str) -> None:
    hold_model(house, LLAMA_8B)
    assert nearest in refused(house, **changes)


def test_following_the_advice_gets_the_job_accepted(house: House) -> None:
    hold_model(house, LLAMA_8B)
    refused(house, compute=types("g4dn.xlarge"))
    taken(house, compute=types("g4dn.xlarge"), adapter={"type": "qlora"})


def test_one_type_that_is_too_small_among_others_is_named_to_be_left_out(house: House) -> None:
    hold_model(house, LLAMA_8B)
    told = refused(house, compute=types("g4dn.xlarge", "g5.xlarge"))
    assert "found: g4dn.xlarge: 15.0 GiB" in told
    assert "allowed: [g5.xlarge]" in told


def test_a_memory_wish_that_lets_a_small_gpu_in_is_told_the_memory_that_does_not(house: House) -> None:
    hold_model(house, LLAMA_8B)
    told = refused(house, compute={"gpu": {"memory_gib": 16}})
    assert "compute.gpu.memory_gib" in told
    assert "allowed: 24" in told


def test_a_deadline_that_not_even_on_demand_can_meet_is_refused_with_the_time_it_takes(house: House) -> None:
    hold_model(house, LLAMA_8B)
    hold_rows(house, 6000)
    soon = (house.now + timedelta(minutes=20)).isoformat()
    told = refused(house, training={"epochs": 3}, compute=types("g5.xlarge"), limits={"deadline": soon})
    assert "limits.deadline comes before the job can be done, on-demand from the start included: at the very least " in told
    assert "2026-11-01 12:20 UTC, 0.3 h from now" in told
    assert "UTC (a guess) or later" in told


def test_a_deadline_that_is_only_unlikely_is_accepted_with_a_warning(house: House) -> None:
    hold_model(house, LLAMA_8B)
    hold_rows(house, 6000)
    told = taken(house, compute=types("g5.xlarge"), limits={"deadline": (house.now + timedelta(hours=2)).isoformat()})
    assert "limits.deadline is in 2.0 h; the guess is " in told


def test_a_run_time_shorter_than_the_job_is_refused(house: House) -> None:
    hold_model(house, LLAMA_8B)
    hold_rows(house, 6000)
    assert "limits.max_runtime is shorter than the job" in refused(house, training={"epochs": 3}, compute=types("g5.xlarge"), limits={"max_runtime": "10m"})


@pytest.mark.parametrize(("market", "budget", "said"), [("spot", 0.05, "a tenth of on-demand"), ("on-demand", 0.5, "its on-demand price")])
def test_a_budget_that_cannot_pay_the_cheapest_path_is_refused_with_both_sums(house: House, market: str, budget: float, said: str) -> None:
    hold_model(house, LLAMA_8B)
    hold_rows(house, 6000)
    told = refused(house, training={"epochs": 3}, compute={**types("g5.xlarge", "g6.xlarge"), "market": market}, limits={"budget_usd": budget})
    assert "limits.budget_usd cannot pay the job" in told
    assert said in told
    assert f"found: ${budget:.2f}" in told


def test_the_same_budget_pays_on_spot_what_it_does_not_pay_on_demand(house: House) -> None:
    hold_model(house, LLAMA_8B)
    hold_rows(house, 6000)
    taken(house, training={"epochs": 3}, compute={**types("g5.xlarge", "g6.xlarge"), "market": "spot"}, limits={"budget_usd": 0.5})


@pytest.mark.parametrize(("gone", "path"), [("models/m/config.json", "model.s3"), ("data/train.jsonl", "data.train"), ("data/eval.jsonl", "data.eval")])
def test_what_the_manifest_names_and_is_not_there_is_said_before_a_gpu_is_started(house: House, gone: str, path: str) -> None:
    house.s3.write(DATA, "data/eval.jsonl", b'{"text": "a"}\n')
    house.s3.remove(DATA, gone)
    told = refused(house, data={"train": "data/train.jsonl", "eval": "data/eval.jsonl"})
    assert f"{path} is not there" in told
    assert gone in told


@pytest.mark.parametrize(("empty", "path"), [("data/train.jsonl", "data.train"), ("data/eval.jsonl", "data.eval"), ("models/m/config.json", "model.s3")])
def test_an_object_without_a_byte_is_told_before_a_gpu_is_started(house: House, empty: str, path: str) -> None:
    house.s3.write(DATA, "data/eval.jsonl", b'{"text": "a"}\n')
    house.s3.write(DATA, empty, b"")
    assert f"{path} is empty: the object has no byte" in refused(house, data={"train": "data/train.jsonl", "eval": "data/eval.jsonl"})


@pytest.mark.parametrize(
    "config",
    [b"not json", b"[]", b"[" * 5000, b'{"model_type": "mamba"}', b'{"model_type": "llama", "hidden_size": 1e999}', b"{" + b" " * 300_000],
    ids=["text", "list", "deep", "unknown", "infinite", "large"],
)
def test_a_configuration_that_is_not_understood_is_no_reason_to_refuse(house: House, config: bytes) -> None:
    hold_model(house, config)
    assert taken(house) == "the manifest is valid"


def test_rows_that_are_not_understood_leave_memory_to_be_told(house: House) -> None:
    house.s3.write(DATA, "data/train.jsonl.gz", b"not gzip")
    told = taken(house, data={"train": "data/train.jsonl.gz"})
    assert "Expected: about" in told
    assert "How many rows there are is not known" in told


def test_compressed_rows_are_guessed_from_their_beginning(house: House) -> None:
    hold_model(house, LLAMA_8B)
    line = json.dumps({"text": "some words of a row " * 40}).encode() + b"\n"
    house.s3.write(DATA, "data/train.jsonl.gz", gzip.compress(line * 3000))
    assert "Expected, by guess" in taken(house, data={"train": "data/train.jsonl.gz"}, compute=types("g5.xlarge"))


def test_a_hub_model_that_nobody_knows_is_accepted_untold(house: House) -> None:
    assert taken(house, model={"hub": "somebody/something", "revision": "0" * 40}) == "the manifest is valid"


def test_what_lies_in_buckets_that_no_instance_may_read_is_refused_all_at_once_with_the_command(house: House) -> None:
    told = refused(
        house,
        model={"s3": "s3://elsewhere-a/model/"},
        data={"train": [{"path": "data/train.jsonl"}, {"path": "s3://elsewhere-b/rows.jsonl"}], "eval": "s3://elsewhere-c/eval.jsonl"},
    )
    for path, bucket in (("model.s3", "elsewhere-a"), ("data.train", "elsewhere-b"), ("data.eval", "elsewhere-c")):
        assert f"{path}: lies in the bucket {bucket}, which this stack may not read\n    found: s3://{bucket}/" in told
    assert told.count(f"ReadBuckets: sam deploy --parameter-overrides ReadBuckets={SHARED},elsewhere-a,elsewhere-b,elsewhere-c\n") == 3


def test_a_bucket_that_the_stack_may_read_is_looked_into_as_its_own_is(house: House) -> None:
    told = refused(house, data={"train": f"s3://{SHARED}/rows.jsonl"})
    assert f"data.train: is not there\n    found: s3://{SHARED}/rows.jsonl" in told
    hold_model(house, LLAMA_8B)
    house.s3.write(SHARED, "rows.jsonl", b'{"text": "a"}\n' * 500)
    assert "Expected, by guess" in taken(house, data={"train": f"s3://{SHARED}/rows.jsonl"}, compute=types("g5.xlarge"))


def test_a_named_bucket_that_says_no_at_the_door_is_left_to_the_instance(house: House) -> None:
    house.faults.once("s3.get_object", refused_by_aws("AccessDenied"), about="rows.jsonl")
    taken(house, data={"train": f"s3://{SHARED}/rows.jsonl"})
    assert house.faults.all_met


def test_a_well_known_hub_model_is_planned_without_a_look_at_the_hub(house: House) -> None:
    model = {"hub": "meta-llama/Llama-3.1-8B-Instruct", "revision": "0" * 40}
    assert "need about" in refused(house, model=model, compute=types("g4dn.xlarge"))


def test_a_look_that_fails_holds_no_job_up(house: House) -> None:
    house.faults.once("s3.get_object", refused_by_aws("AccessDenied"), about="models/m/config.json")
    assert taken(house) == "the manifest is valid"
    assert house.faults.all_met


def test_what_to_expect_is_told_at_the_prices_of_the_stacks_own_region(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(home: str) -> float:
        monkeypatch.setattr(account, "HOME", home)
        house = House()
        house.ec2.subnets = {"subnet-a": f"{home}a", "subnet-b": f"{home}b"}
        hold_model(house, LLAMA_8B)
        hold_rows(house, 2000)
        return dollars(taken(house, adapter={"type": "qlora"}))

    assert asked("sa-east-1") == pytest.approx(1.7 * asked("us-east-1"), rel=0.01)


def dollars(told: str) -> float:
    """On demand, of an expectation in words."""
    found = re.search(r"\$([0-9.]+) on demand", told)
    assert found is not None, told
    return float(found[1])
