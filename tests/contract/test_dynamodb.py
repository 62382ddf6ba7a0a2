"""What only DynamoDB has: writes that meet in the middle, cancelled transactions, the size of an item, the shape of items."""

import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from control_plane.adapters.dynamodb import DynamoStore
from control_plane.adapters.errors import JobTooLarge
from control_plane.adapters.holds import DynamoHolds
from control_plane.adapters.items import item_of, job_of
from control_plane.core.records import Instance
from control_plane.core.state import JobState
from control_plane.ports import Held, StaleVersion
from jobspec.heartbeat import GpuUse, Heartbeat, Phase
from jobspec.operator import Hold
from tests.contract.samples import NOW, attempt, changed, instance_id, job, now, plan, pool
from tests.contract.sides import TABLE, MotoSide


@pytest.fixture
def dynamodb(aws: MotoSide) -> Any:
    return aws.job_table()


@pytest.fixture
def store(dynamodb: Any) -> DynamoStore:
    return DynamoStore(dynamodb, TABLE, 10, now)


def before_the_next_transaction(dynamodb: Any, act: Callable[[], object]) -> None:
    """Do something between the adapter's reads and its write, as another function would, once."""

    def hook(**_: Any) -> None:
        dynamodb.meta.events.unregister("before-call.dynamodb.TransactWriteItems", hook)
        act()

    dynamodb.meta.events.register("before-call.dynamodb.TransactWriteItems", hook)


def cancel_transactions(dynamodb: Any, *reasons: str) -> None:
    def hook(**_: Any) -> None:
        answer = {
            "Error": {"Code": "TransactionCanceledException", "Message": f"Transaction cancelled, please refer cancellation reasons [{', '.join(reasons)}]"},
            "CancellationReasons": [{"Code": reason} for reason in reasons],
        }
        raise dynamodb.exceptions.TransactionCanceledException(answer, "TransactWriteItems")

    dynamodb.meta.events.register("before-call.dynamodb.TransactWriteItems", hook)


def raw(dynamodb: Any, pk: str) -> dict[str, Any] | None:
    item: dict[str, Any] | None = dynamodb.get_item(TableName=TABLE, Key={"pk": {"S": pk}}).get("Item")
    return item


def test_a_name_taken_while_a_job_is_created_holds_it_up(dynamodb: Any, store: DynamoStore) -> None:
    faster = job("faster", key="jobs/faster.yaml")
    before_the_next_transaction(dynamodb, lambda: store.create(faster))
    assert store.create(job()) == Held(faster, "name")
    assert store.load("demo-1") is None
    assert store.find(bucket="data-bucket", key="jobs/demo.yaml") is None


def test_of_two_successors_of_an_ended_job_one_takes_its_name(dynamodb: Any, store: DynamoStore) -> None:
    store.create(job())
    store.save(changed(job(), state=JobState.CANCELLED))
    faster = job("faster")
    before_the_next_transaction(dynamodb, lambda: store.create(faster))
    assert store.create(job("slower")) == Held(faster, "name")
    assert store.find(name="demo") == "faster"


def test_the_same_job_created_in_between_is_the_answer(dynamodb: Any, store: DynamoStore) -> None:
    before_the_next_transaction(dynamodb, lambda: store.create(job(reason="the other's")))
    answer = store.create(job())
    assert answer == job(reason="the other's")


def test_a_save_in_between_makes_this_one_stale(dynamodb: Any, store: DynamoStore) -> None:
    store.create(job())
    before_the_next_transaction(dynamodb, lambda: store.save(changed(job(), reason="faster")))
    with pytest.raises(StaleVersion):
        store.save(changed(job(), reason="slower", attempts=(attempt(1),)))
    assert store.find(instance_id=instance_id(1)) is None
    loaded = store.load("demo-1")
    assert loaded is not None
    assert loaded.reason == "faster"


def test_a_transaction_that_meets_another_is_stale(dynamodb: Any, store: DynamoStore) -> None:
    store.create(job())
    cancel_transactions(dynamodb, "None", "TransactionConflict")
    with pytest.raises(StaleVersion):
        store.save(changed(job(), attempts=(attempt(1),)))


def test_a_create_that_meets_others_again_and_again_gives_the_event_back(dynamodb: Any, store: DynamoStore) -> None:
    cancel_transactions(dynamodb, "TransactionConflict", "None", "None")
    with pytest.raises(StaleVersion, match="demo-1"):
        store.create(job())


def test_a_throttled_transaction_is_not_taken_for_a_stale_one(dynamodb: Any, store: DynamoStore) -> None:
    store.create(job())
    cancel_transactions(dynamodb, "ThrottlingError")
    with pytest.raises(ClientError, match="ThrottlingError"):
        store.save(job())


def test_every_read_by_key_is_consistent(dynamodb: Any, store: DynamoStore) -> None:
    seen: list[bool | None] = []
    dynamodb.meta.events.register("before-parameter-build.dynamodb.GetItem", lambda params, **_: seen.append(params.get("ConsistentRead")))
    store.create(job())
    store.create(job())
    store.create(job("another"))
    store.save(changed(job(), attempts=(attempt(1),)))
    store.find(name="demo")
    store.find(bucket="data", key="jobs/demo.yaml")
    DynamoHolds(dynamodb, TABLE, now).current()
    assert len(seen) >= 6
    assert set(seen) == {True}


def test_a_name_that_an_ended_job_had_is_taken_by_one_read_of_that_job(dynamodb: Any, store: DynamoStore) -> None:
    """DynamoDB tells with its refusal whose name and key they are."""
    store.create(job())
    store.save(changed(job(), state=JobState.FAILED))
    again = changed(job(), job_id="demo-2", version=0)
    calls: list[str] = []
    for operation in ("GetItem", "TransactWriteItems"):
        dynamodb.meta.events.register(f"before-call.dynamodb.{operation}", lambda model, **_: calls.append(model.name))
    assert store.create(again) is None
    assert calls == ["TransactWriteItems", "GetItem", "TransactWriteItems"]
    assert store.find(name=again.name) == store.find(bucket=again.manifest_ref.bucket, key=again.manifest_ref.key) == "demo-2"


def test_each_transaction_carries_a_token_so_that_its_retry_is_answered_as_the_first(dynamodb: Any, store: DynamoStore) -> None:
    tokens: list[int] = []
    dynamodb.meta.events.register(
        "before-call.dynamodb.TransactWriteItems", lambda params, **_: tokens.append(params["body"].decode().count("ClientRequestToken"))
    )
    store.create(job())
    store.save(job())
    assert tokens == [1, 1]


def test_items_have_the_shape_that_the_template_and_the_console_expect(dynamodb: Any, store: DynamoStore) -> None:
    store.create(job())
    settled = store.save(changed(job(), state=JobState.FAILED, attempts=(attempt(1),)))
    item = raw(dynamodb, "JOB#demo-1")
    assert item is not None
    assert item.pop("body")["S"] == settled.model_dump_json()
    assert item == {
        "pk": {"S": "JOB#demo-1"},
        "version": {"N": "1"},
        "state": {"S": "FAILED"},
        "name": {"S": "demo"},
        "open": {"S": "1"},
        "place": {"S": "0#demo-1"},
        "occupies": {"BOOL": True},
        "instances": {"L": [{"S": instance_id(1)}]},
    }
    assert raw(dynamodb, "NAME#demo") == {"pk": {"S": "NAME#demo"}, "job_id": {"S": "demo-1"}}
    assert raw(dynamodb, "KEY#data-bucket/jobs/demo.yaml") == {"pk": {"S": "KEY#data-bucket/jobs/demo.yaml"}, "job_id": {"S": "demo-1"}}
    assert raw(dynamodb, f"INSTANCE#{instance_id(1)}") == {"pk": {"S": f"INSTANCE#{instance_id(1)}"}, "job_id": {"S": "demo-1"}}
    store.save(changed(settled, settled=True))
    assert not {"open", "place"} & set(raw(dynamodb, "JOB#demo-1") or {"open": "missing item"})
    assert raw(dynamodb, "PROJECT#turns") == {"pk": {"S": "PROJECT#turns"}, "version": {"N": "1"}, "holders": {"L": [{"S": "demo-1"}]}}


def test_the_hold_lies_beside_the_jobs_and_is_no_job(dynamodb: Any, store: DynamoStore) -> None:
    DynamoHolds(dynamodb, TABLE, now).put(Hold(reason="paused", since=NOW))
    assert raw(dynamodb, "PROJECT#hold") is not None
    assert list(store.unsettled()) == []


def test_a_hundred_attempts_over_every_pool_fit_one_item(dynamodb: Any, store: DynamoStore) -> None:
    pools = tuple(pool(f"g{n}.12xlarge", f"us-east-1{zone}", f"subnet-{n:016x}{zone}") for n in range(13) for zone in "abcdef")
    full = job(attempts=tuple(attempt(n, plan(pools, attempt=n, client_token=f"demo-{n}")) for n in range(1, 101)))
    assert len(full.model_dump_json()) > 400_000
    store.create(job())
    saved = store.save(changed(full, attempts=full.attempts[:98]))
    store.save(changed(saved, attempts=full.attempts))
    item = raw(dynamodb, "JOB#demo-1")
    assert item is not None
    assert "body" not in item
    assert len(item["packed"]["B"]) < 100_000
    loaded = store.load("demo-1")
    assert loaded is not None
    assert loaded.attempts == full.attempts


def test_a_hundred_attempts_of_the_largest_gang_fit_one_item() -> None:
    lots = random.Random(1)

    def member(attempt_number: int) -> Instance:
        # The newest two still speak; what the others said is forgotten with their end (``attempts.absorbed``).
        beat = Heartbeat(
            job_id="demo-1",
            attempt=attempt_number,
            instance_id=f"i-{lots.getrandbits(68):017x}",
            seq=lots.randrange(10**4),
            at=NOW + timedelta(seconds=lots.random() * 10**6),
            phase=Phase.TRAINING,
            gpus=tuple(GpuUse(index=n, percent=100 * lots.random(), memory_mib=10**5 * lots.random(), memory_total_mib=81920, window_s=1800) for n in range(8)),
            stages_s={name: 100 * lots.random() for name in ("stage_model", "stage_data", "load")},
        )
        times = {name: NOW + timedelta(seconds=lots.random() * 10**6) for name in ("ticket_at", "heartbeat_seen_at", "terminate_at", "gone_at")}
        address = f"10.0.{lots.randrange(256)}.{lots.randrange(256)}"
        return Instance(instance_id=beat.instance_id, address=address, heartbeat=beat if attempt_number > 98 else None, **times)

    attempts = tuple(
        attempt(n, plan(attempt=n, nodes=16, client_token=f"demo-{n}"), others=tuple(member(n) for _ in range(15)), heartbeat=member(100).heartbeat)
        for n in range(1, 101)
    )
    full = job(attempts=attempts)
    item = item_of(full)
    # An item ends at 400 KB; the list of instances is beside the document.
    assert len(item["packed"]["B"]) + 30 * len(item["instances"]["L"]) < 400_000
    assert job_of(item) == full


def test_a_job_beyond_an_items_limit_says_so_and_is_not_saved(store: DynamoStore) -> None:
    store.create(job())
    noise = random.Random(0).randbytes(400_000).hex()
    with pytest.raises(JobTooLarge, match=r"demo-1.*380000"):
        store.save(changed(job(), reason=noise))
    assert store.load("demo-1") == job()
