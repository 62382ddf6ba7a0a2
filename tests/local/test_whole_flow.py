"""The unchanged template.yaml in the local cloud: real handlers, bootstrap, agent and trainer, a tiny model, one interruption."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from control_plane.core.ledger import WATCH_AHEAD_S
from dropforge.jobs.find import ENDS, read_status
from dropforge.jobs.follow import Follower
from dropforge.local import cloud as clouds
from dropforge.local import deploy
from dropforge.local.market import Market
from dropforge.local.state import CloudState
from dropforge.stack import Stack
from jobspec import keys
from jobspec.status import Status
from tests.tiny_model import make_tiny_model, write_chat_rows

pytestmark = [pytest.mark.local_cloud, pytest.mark.torch]

STEPS = 800
MANIFEST: dict[str, Any] = {
    "name": "whole",
    "model": {"s3": "models/tiny/"},
    "data": {"train": "data/train.jsonl"},
    "training": {"max_steps": STEPS, "global_batch_size": 8, "micro_batch_size": 2, "max_length": 64, "gradient_checkpointing": False},
    "adapter": {"r": 2},
    "compute": {"instance_types": ["g5.xlarge", "g6.xlarge"]},
    "limits": {"max_runtime": "20m"},
    "checkpoint": {"interval": "5s"},
    "notify": {"on": []},
}


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[CloudState, Stack, Path]]:
    missing = [name for name in (".venv-cloud", ".venv-lambda") if not (clouds.REPOSITORY / name).is_dir()]
    if missing:
        pytest.skip(f"{', '.join(missing)} missing: run `make setup`")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("DROPFORGE_PULL_S", "3")
    home = tmp_path / "cloud"
    state = clouds.up(clouds.Plan(home, notice_s=20, minute_s=10, parameters={"HeartbeatSeconds": "1"}))
    try:
        yield state, Stack(state.stack, state.outputs["DataBucketName"], state.outputs["OutputsBucketName"], deploy.client_of(state, "s3")), home
    finally:
        clouds.down(home)


def until(done: Callable[[], bool], what: str, within_s: float = 240) -> None:
    end = time.monotonic() + within_s
    while not done():
        assert time.monotonic() < end, f"waited {within_s:.0f} s in vain: {what}"
        time.sleep(0.3)


def test_one_job_through_an_interruption_to_its_e_mail(stack: tuple[CloudState, Stack, Path], tmp_path: Path) -> None:
    state, there, home = stack
    make_tiny_model(tmp_path / "model")
    write_chat_rows(tmp_path / "rows.jsonl", 64, 1)
    for path in sorted((tmp_path / "model").iterdir()):
        there.s3.upload_file(str(path), there.data_bucket, f"models/tiny/{path.name}")
    there.s3.upload_file(str(tmp_path / "rows.jsonl"), there.data_bucket, "data/train.jsonl")
    there.s3.put_object(Bucket=there.data_bucket, Key="jobs/whole.yaml", Body=yaml.safe_dump(MANIFEST).encode())

    follower, market = Follower(there, "whole"), Market(state)

    def step_of(attempt: int) -> int:
        list(follower.look())
        return follower.heartbeats[attempt].step if attempt in follower.heartbeats else 0

    def over() -> bool:
        list(follower.look())
        return follower.ended

    until(lambda: step_of(1) >= 5, "the first attempt's fifth step")
    (first,) = [machine for machine in market.instances() if machine.live]
    market.interrupt(first.instance_id)
    until(over, "the job's end")
    status = read_status(there, "whole")
    assert status is not None
    assert (status.state, len(status.attempts)) == ("SUCCEEDED", 2), status.reason
    assert status.attempts[1].first_step == status.attempts[0].last_step, "no step lost, none trained twice"
    for attempt in status.attempts:
        assert "pull" in attempt.stages_s
    logs = [(home / "instances" / machine.instance_id / "var/lib/dropforge/logs/bootstrap.log").read_text() for machine in market.instances()]
    assert all(log.index(":latest-agent: the local cloud") < log.index(":latest: the local cloud") < log.index("trainer starts") for log in logs)
    until(lambda: all(machine.state == "terminated" for machine in market.instances()), "the end of every instance")
    until(lambda: any("finished" in path.read_text() for path in (home / "mail").glob("*.txt")), "the e-mail")
    assert len(list((home / "mail").glob("*.txt"))) == 1, "one e-mail for the end"
    assert status.model is not None
    prefix = status.model.removeprefix(f"s3://{there.outputs_bucket}/")
    names = {item["Key"].removeprefix(prefix) for item in there.s3.list_objects_v2(Bucket=there.outputs_bucket, Prefix=prefix)["Contents"]}
    assert {"adapter_model.safetensors", "adapter_config.json", "tokenizer.json", "results.json"} <= names


def test_a_hostile_manifest_is_refused_with_one_e_mail_and_starts_nothing(stack: tuple[CloudState, Stack, Path]) -> None:
    state, there, home = stack
    there.s3.put_object(Bucket=there.data_bucket, Key="jobs/hostile.yaml", Body=b"name: hostile\na: &a [*a, *a]\n\x00")
    until(lambda: read_status(there, "hostile") is not None, "its status")
    status = read_status(there, "hostile")
    assert status is not None
    assert status.state == "REJECTED"
    until(lambda: len(list((home / "mail").glob("*.txt"))) == 1, "its e-mail")
    assert Market(state).instances() == []
    assert there.s3.list_objects_v2(Bucket=there.outputs_bucket, Prefix=keys.RUN_PREFIX).get("KeyCount") == 0


def drop(there: Stack, folder: Path, **changes: Any) -> str:
    """A tiny model and rows into the bucket, then the manifest with those changes; its name."""
    make_tiny_model(folder / "model")
    write_chat_rows(folder / "rows.jsonl", 64, 1)
    for path in sorted((folder / "model").iterdir()):
        there.s3.upload_file(str(path), there.data_bucket, f"models/tiny/{path.name}")
    there.s3.upload_file(str(folder / "rows.jsonl"), there.data_bucket, "data/train.jsonl")
    manifest = {**MANIFEST, **changes}
    there.s3.put_object(Bucket=there.data_bucket, Key=f"jobs/{manifest['name']}.yaml", Body=yaml.safe_dump(manifest).encode())
    return str(manifest["name"])


def end_of(there: Stack, home: Path, name: str) -> Status:
    """The job's status once it is over and its e-mail is written."""

    def over() -> bool:
        status = read_status(there, name)
        return status is not None and status.state in ENDS and any(f"] {name} " in path.read_text() for path in (home / "mail").glob("*.txt"))

    until(over, f"the end of {name}")
    status = read_status(there, name)
    assert status is not None
    return status


def test_a_job_with_a_deadline_takes_on_demand_where_no_spot_is_to_be_had(stack: tuple[CloudState, Stack, Path], tmp_path: Path) -> None:
    state, there, home = stack
    Market(state).set_capacity(0)
    deadline = (datetime.now(UTC) + timedelta(minutes=15)).isoformat()
    name = drop(
        there,
        tmp_path,
        name="in-time",
        training=MANIFEST["training"] | {"max_steps": 20},
        compute=MANIFEST["compute"] | {"market": "cheapest"},
        limits={"max_runtime": "10m", "deadline": deadline},
    )
    status = end_of(there, home, name)
    assert status.state == "SUCCEEDED", status.reason
    assert [attempt.market for attempt in status.attempts] == ["on-demand"]
    assert status.receipt is not None
    assert status.receipt.cost_usd == pytest.approx(status.receipt.on_demand_usd, abs=1e-3)


def test_a_job_is_stopped_at_its_cap_with_its_last_checkpoint_kept(stack: tuple[CloudState, Stack, Path], tmp_path: Path) -> None:
    """The cap is what is watched ahead and three quarters of a minute more: reached once it has saved, long before it could finish."""
    state, there, home = stack
    prices = deploy.client_of(state, "ec2").describe_spot_price_history(InstanceTypes=["g6.xlarge"], ProductDescriptions=["Linux/UNIX"])
    cap = (WATCH_AHEAD_S + 45) / 3600 * max(float(price["SpotPrice"]) for price in prices["SpotPriceHistory"])
    name = drop(
        there,
        tmp_path,
        name="capped",
        training=MANIFEST["training"] | {"max_steps": 100_000},
        compute={"instance_types": ["g6.xlarge"]},
        limits={"max_runtime": "20m", "budget_usd": cap},
    )
    status = end_of(there, home, name)
    assert status.state == "STOPPED_BUDGET", status.reason
    assert status.checkpoint is not None
    bucket, _, key = status.checkpoint.removeprefix("s3://").partition("/")
    assert there.s3.head_object(Bucket=bucket, Key=key)["ContentLength"] > 0
    assert status.receipt is not None
    assert 0 < status.receipt.cost_usd <= cap
    (mail,) = [path.read_text() for path in (home / "mail").glob("*.txt")]
    assert "its money is up" in mail
    assert "dropforge retry capped" in mail
