"""What a month costs is counted from the doors' own calls; nothing here is a sum of money."""

import json
from collections import Counter
from io import StringIO

import pytest
from rich.console import Console

from bench import cost_table
from tools.stack import Stack


def test_a_longer_job_costs_more_calls_by_the_minute_and_no_more_launches() -> None:
    short, long = cost_table.life(2), cost_table.life(6)
    assert short.calls["ec2.create_fleet"] == long.calls["ec2.create_fleet"] == 1
    assert long.calls["s3.get_object"] > short.calls["s3.get_object"]
    assert long.invocations > short.invocations


def test_what_is_free_is_taken_off_once_and_never_below_nothing() -> None:
    billed = Counter({"alarm": 19, "dashboard": 1})
    assert cost_table.usd(billed, free=False) == {"alarm": pytest.approx(1.9), "dashboard": pytest.approx(3.0)}
    assert cost_table.usd(billed, free=True) == {"alarm": pytest.approx(0.9), "dashboard": 0.0}


def test_between_jobs_no_metric_of_our_own_is_sent_and_while_one_runs_each_that_is_sent_is_billed() -> None:
    assert cost_table.idle_metrics() == 0
    sent = cost_table.life(2).metrics
    assert {"SpendUsdPerHour", "GpuPercent", "JobsSucceeded"} <= sent
    idle, busy = (cost_table.month(jobs, 60, {})["metric"] for jobs in (0, 24))
    assert (idle, busy) == (0, len(sent))


def test_the_dashboard_has_no_more_metrics_than_one_that_is_free() -> None:
    body = json.loads(Stack().properties("Dashboard")["DashboardBody"])
    assert sum(len(widget["properties"]["metrics"]) for widget in body["widgets"]) <= cost_table.METRICS_OF_A_FREE_DASHBOARD


def test_the_table_says_of_each_price_who_says_so() -> None:
    assert {price.source for price in cost_table.PRICES.values()} <= {"aws", "price list", "secondary"}
    shown = StringIO()
    Console(file=shown, width=150).print(cost_table.page(2))
    for name, price in cost_table.PRICES.items():
        (row,) = [line for line in shown.getvalue().splitlines() if f"\u2502 {name} " in line]
        assert price.source in row, row


def test_every_call_that_is_billed_has_its_price() -> None:
    calls = cost_table.life(2).calls
    assert set(cost_table.units(calls)) <= set(cost_table.PRICES)
    assert {name for name in calls if name.partition(".")[0] not in ("ec2", "dynamodb", "s3", "sns", "events")} == set()


def test_a_stack_that_watches_little_stands_for_less() -> None:
    assert cost_table.standing() == {"alarm": 19, "dashboard": 1}
    assert cost_table.standing({"Watch": "few"}) == {"alarm": 6, "dashboard": 0}
