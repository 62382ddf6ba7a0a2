"""The month's ledger, on every side: what settles adds to it once, in the same write, and it is told of once."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from control_plane.adapters.dynamodb import DynamoStore
from control_plane.adapters.spend import DynamoSpend
from control_plane.core import ledger
from control_plane.core.state import Job, JobState
from control_plane.ports import StaleVersion
from tests.contract.samples import NOW, attempt, changed, job, now
from tests.contract.sides import Side

MONTH = "2026-11"


@pytest.fixture
def table(side: Side) -> Any:
    return side.job_table()


@pytest.fixture
def store(side: Side, table: Any) -> DynamoStore:
    return DynamoStore(table, side.table, 10, now)


@pytest.fixture
def spend(side: Side, table: Any) -> DynamoSpend:
    return DynamoSpend(table, side.table)


def an_ended_job(store: DynamoStore, name: str = "demo", number: int = 1) -> Job:
    store.create(job(name, name=name, key=f"jobs/{name}.yaml"))
    ran = changed(attempt(number), gone_at=NOW + timedelta(hours=2))
    return store.save(changed(job(name, name=name, key=f"jobs/{name}.yaml"), attempts=(ran,), state=JobState.SUCCEEDED))


def test_a_month_without_a_job_is_nothing_and_was_told_to_nobody(spend: DynamoSpend) -> None:
    assert (spend.month(MONTH).settled_usd, spend.month(MONTH).alerted) == (0.0, False)


def test_a_job_that_settles_is_in_its_month_from_the_same_write_on(store: DynamoStore, spend: DynamoSpend) -> None:
    ended = an_ended_job(store)
    assert spend.month(MONTH).settled_usd == 0.0
    settled = changed(ended, settled=True)
    store.save(settled)
    assert spend.month(MONTH).settled_usd == pytest.approx(ledger.job_cost_usd(settled, NOW), abs=1e-6)
    with pytest.raises(StaleVersion):
        store.save(settled)
    assert spend.month(MONTH).settled_usd == pytest.approx(ledger.job_cost_usd(settled, NOW), abs=1e-6)


def test_jobs_add_up_and_other_months_are_their_own(store: DynamoStore, spend: DynamoSpend) -> None:
    for number, name in enumerate(("one", "two"), 1):
        store.save(changed(an_ended_job(store, name, number), settled=True))
    store.create(job("three", name="three", key="jobs/three.yaml"))
    late = datetime(2026, 11, 30, 23, 0, tzinfo=UTC)
    ran = changed(attempt(3), launched_at=late, gone_at=late + timedelta(hours=2))
    store.save(changed(store.save(changed(job("three", name="three", key="jobs/three.yaml"), attempts=(ran,), state=JobState.FAILED)), settled=True))
    assert spend.month(MONTH).settled_usd == pytest.approx(0.4 * (2 + 2 + 1))
    assert spend.month("2026-12").settled_usd == pytest.approx(0.4)


def test_a_job_without_a_cost_writes_no_month(store: DynamoStore, spend: DynamoSpend) -> None:
    store.create(job(state=JobState.REJECTED, manifest=None))
    store.save(changed(job(state=JobState.REJECTED, manifest=None), settled=True))
    assert spend.month(MONTH).settled_usd == 0.0


def test_the_cap_is_told_of_once_and_the_sum_stays(store: DynamoStore, spend: DynamoSpend) -> None:
    store.save(changed(an_ended_job(store), settled=True))
    before = spend.month(MONTH).settled_usd
    spend.mark_alerted(MONTH, NOW)
    spend.mark_alerted(MONTH, NOW + timedelta(days=1))
    assert (spend.month(MONTH).settled_usd, spend.month(MONTH).alerted) == (before, True)
    store.save(changed(an_ended_job(store, "later", 2), settled=True))
    assert spend.month(MONTH).settled_usd == pytest.approx(2 * before)
    assert spend.month(MONTH).alerted
