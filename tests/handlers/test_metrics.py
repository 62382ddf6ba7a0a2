"""One line in the log that CloudWatch reads as metrics."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from control_plane.handlers.metrics import MOST_A_LINE, Metrics

NOW = datetime(2026, 11, 1, tzinfo=UTC)


def test_what_one_invocation_counts_is_one_line_in_cloudwatchs_own_form() -> None:
    metrics = Metrics("Dropforge/x")
    metrics.add("JobsDriven", 2)
    metrics.add("SpendUsdPerHour", 0.5)
    (line,) = metrics.lines(NOW)
    units = [{"Name": "JobsDriven", "Unit": "Count"}, {"Name": "SpendUsdPerHour", "Unit": "None"}]
    told = {"Namespace": "Dropforge/x", "Dimensions": [["service"]], "Metrics": units}
    assert json.loads(line) == {
        "_aws": {"Timestamp": 1793491200000, "CloudWatchMetrics": [told]},
        "service": "dropforge",
        "JobsDriven": 2,
        "SpendUsdPerHour": 0.5,
    }
    assert metrics.lines(NOW) == [], "the next invocation counts anew"


def test_threads_that_count_side_by_side_lose_nothing() -> None:
    metrics = Metrics("x")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: metrics.add("AttemptsStarted", 1), range(1000)))
    assert json.loads(metrics.lines(NOW)[0])["AttemptsStarted"] == 1000


def test_more_metrics_than_a_line_may_hold_take_another() -> None:
    metrics = Metrics("x")
    for number in range(MOST_A_LINE + 1):
        metrics.add(f"M{number:03}", 1)
    assert [len(json.loads(line)["_aws"]["CloudWatchMetrics"][0]["Metrics"]) for line in metrics.lines(NOW)] == [MOST_A_LINE, 1]
