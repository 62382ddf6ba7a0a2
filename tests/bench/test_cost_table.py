"""What a month costs is counted from the doors' own calls; nothing here is a sum of money."""

from collections import Counter

import pytest

from bench import cost_table


def test_a_longer_job_costs_more_calls_by_the_minute_and_no_more_launches() -> None:
    short, long = cost_table.life(2), cost_table.life(6)
    assert short.calls["ec2.create_fleet"] == long.calls["ec2.create_fleet"] == 1
    assert long.calls["s3.get_object"] > short.calls["s3.get_object"]
    assert long.invocations > short.invocations


def test_what_is_free_is_taken_off_once_and_never_below_nothing() -> None:
    billed = Counter({"alarm": 19, "dashboard": 1})
    assert cost_table.usd(billed, {}) == {"alarm": pytest.approx(1.9), "dashboard": pytest.approx(3.0)}
    assert cost_table.usd(billed, cost_table.FREE) == {"alarm": pytest.approx(0.9), "dashboard": 0.0}


def test_every_call_that_is_billed_has_its_price() -> None:
    calls = cost_table.life(2).calls
    assert set(cost_table.units(calls)) <= set(cost_table.PRICES)
    assert {name for name in calls if name.partition(".")[0] not in ("ec2", "dynamodb", "s3", "sns", "events")} == set()


def test_a_stack_that_watches_little_stands_for_less() -> None:
    assert cost_table.standing() == {"alarm": 19, "dashboard": 1}
    assert cost_table.standing({"Watch": "few"}) == {"alarm": 8, "dashboard": 0}
