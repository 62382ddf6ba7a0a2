"""A tick's work is linear, and constant for each job: six calls for one that trains, two for one that waits."""

from bench.botocore_cost import botocore_s
from bench.ticks import house_of, measured


def calls_of(jobs: int, running: int) -> int:
    return sum(measured(house_of(jobs, running), jobs, 1, lasts=False).calls.values())


def test_ten_more_jobs_that_wait_cost_two_calls_each() -> None:
    assert calls_of(30, 2) - calls_of(20, 2) == 20


def test_ten_more_jobs_that_train_cost_six_calls_each() -> None:
    assert calls_of(30, 30) - calls_of(20, 20) == 60


def test_what_a_call_costs_is_measured_over_a_connection_that_answers_each_of_them() -> None:
    found = botocore_s(2)
    assert set(found) == {"dynamodb.get_item", "dynamodb.transact_write_items", "s3.get_object", "s3.head_object", "s3.put_object"}
    assert all(seconds > 0 for seconds in found.values())
