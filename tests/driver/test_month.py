"""The project's month: what its jobs have cost, told of once when it passes the cap, and what is held then."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest

from control_plane.core import ledger
from control_plane.core.state import JobState
from jobspec import keys, wire
from jobspec.operator import Hold
from jobspec.status import Status
from tests.driver.faults import Crash, Fault, crash_after, crash_before, refused
from tests.driver.house import DATA, House

CAP = 0.2
MONTH = "2026-11"


@pytest.fixture
def capped() -> House:
    return House(monthly_cap_usd=CAP)


def spend_until_the_cap(house: House) -> None:
    """One job runs until the month's alert is on the bus."""
    house.put()
    for _ in range(100):
        house.beat()
        house.tick()
        if any(event["detail"]["origin"] == "project-ledger" for event in house.budget_events()):
            return
    raise AssertionError("no alert came")


def finish(house: House) -> None:
    house.finish()
    for _ in range(3):
        house.tick()
    assert house.jobs[0].settled


def test_a_finished_jobs_cost_is_in_its_month_once(house: House) -> None:
    house.put()
    house.beat()
    house.tick(600)
    finish(house)
    cost = ledger.job_cost_usd(house.jobs[0], house.now)
    assert house.rooms.spend.month(MONTH).settled_usd == pytest.approx(cost, abs=1e-6)
    house.tick()
    assert house.rooms.spend.month(MONTH).settled_usd == pytest.approx(cost, abs=1e-6)


def about_to_finish() -> House:
    house = House()
    house.put()
    house.beat()
    house.tick(600)
    house.finish()
    return house


@pytest.mark.parametrize("fault", [crash_before, crash_after], ids=["crash before", "crash after"])
def test_a_crash_at_the_write_that_settles_a_job_counts_it_once(fault: Fault) -> None:
    rehearsal = about_to_finish()
    before = rehearsal.job_writes
    while not rehearsal.jobs[0].settled:
        rehearsal.tick()
    house = about_to_finish()
    house.faults.once("dynamodb.transact_write_items", fault, skip=rehearsal.job_writes - before - 1)
    for _ in range(5):
        with suppress(Crash):
            house.tick()
    assert house.faults.all_met
    assert house.jobs[0].settled
    assert house.rooms.spend.month(MONTH).settled_usd == pytest.approx(ledger.job_cost_usd(house.jobs[0], house.now), abs=1e-6)


def test_the_cap_holds_new_launches_and_lets_what_runs_run(capped: House) -> None:
    spend_until_the_cap(capped)
    capped.deliver_budget_event()
    held = capped.rooms.holds.current()
    assert held is not None
    assert held.until == datetime(2026, 12, 1, tzinfo=UTC)
    assert "MonthlyCapUsd is spent" in held.reason
    capped.put("jobs/second.yaml", name="second")
    second = capped.status("second")
    assert second is not None
    assert (second.state, len(capped.live())) == ("WAITING", 1)
    (mail,) = capped.mails
    assert mail.notice_id == f"{capped.account.project}#cap#{MONTH}"
    assert "dropforge resume" in mail.body


def test_it_is_told_of_once_a_month_and_a_persons_resume_stands(capped: House) -> None:
    spend_until_the_cap(capped)
    capped.deliver_budget_event()
    capped.rooms.holds.put(Hold(reason="resumed", since=capped.now, until=capped.now))
    told = len(capped.budget_events())
    for _ in range(3):
        capped.beat()
        capped.tick()
    assert len(capped.budget_events()) == told
    capped.deliver_budget_event()
    held = capped.rooms.holds.current()
    assert held is not None
    assert not held.holds_at(capped.now)
    assert len(capped.mails) == 1


def test_where_the_stack_only_notifies_nothing_is_held() -> None:
    house = House(monthly_cap_usd=CAP, pause_on_budget=False)
    spend_until_the_cap(house)
    house.deliver_budget_event()
    assert house.rooms.holds.current() is None
    (mail,) = house.mails
    assert "BudgetAction is notify" in mail.body


def test_an_alert_whose_e_mail_fails_is_told_again_by_the_next_tick(capped: House) -> None:
    spend_until_the_cap(capped)
    capped.faults.once("sns.publish", refused("AuthorizationError"))
    with pytest.raises(Exception, match="AuthorizationError"):
        capped.deliver_budget_event()
    assert capped.mails == []
    capped.beat()
    capped.tick()
    capped.deliver_budget_event()
    assert len(capped.mails) == 1


def test_a_new_month_begins_at_nothing(capped: House) -> None:
    spend_until_the_cap(capped)
    capped.deliver_budget_event()
    finish(capped)
    capped.wait((datetime(2026, 12, 2, tzinfo=UTC) - capped.now).total_seconds())
    counted = capped.tick()
    assert "SpendUsdThisMonth" not in counted, "nothing runs: nothing is asked, and no metric is billed"
    assert capped.rooms.spend.month("2026-12").settled_usd == 0
    capped.put("jobs/december.yaml", name="december")
    december = capped.status("december")
    assert december is not None
    assert december.state == JobState.LAUNCHED


def test_a_finished_job_leaves_a_receipt_that_a_later_job_of_its_name_does_not_take(house: House) -> None:
    house.put()
    house.beat()
    house.tick(600)
    finish(house)
    (first,) = house.jobs
    house.wait(timedelta(minutes=5).total_seconds())
    house.put()
    body = house.s3.read(DATA, keys.receipt_key(first.accepted_at, first.job_id))
    assert body is not None
    kept = wire.load(Status, body)
    assert (kept.job_id, kept.state) == (first.job_id, "SUCCEEDED")
    assert kept.receipt is not None
    assert kept.receipt.cost_usd == pytest.approx(ledger.job_cost_usd(first, house.now), abs=1e-4)


def test_prices_are_read_while_a_job_runs(house: House) -> None:
    house.put()
    pool = (house.attempt.instance_type, house.attempt.zone)
    for _ in range(20):
        house.beat()
        house.tick(240)
        house.ec2.spot_usd_per_h[pool] = 0.55
    (change,) = house.attempt.price_changes
    assert change.usd_per_h == 0.55
