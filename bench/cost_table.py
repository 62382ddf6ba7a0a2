"""Dollars a month that the control plane costs, idle and busy: ``python -m bench.cost_table [--hours 1]``.

Counted, not guessed: one tick, one look of the curfew, and one job's whole life from manifest to receipt run through the real doors over the
AWS in memory of tests/simulation, each call counted by name; what the template holds (alarms, dashboards, schedules) is counted in
the translated template. Prices are those of us-east-1 (PRICES). Instances, their volumes and what is stored are not in it: docs/costs.md
says where they are. Refuses to report where a job did not succeed or a tick failed.
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
from tests.driver.house import House
from tools.stack import Stack

DAYS = 30
MINUTES = DAYS * 24 * 60

#: US dollars for one of each, us-east-1. The services' pricing pages (aws.amazon.com/SERVICE/pricing) as of 2025, the on-demand prices of
#: DynamoDB since November 2024; written down 2026-11-25, not held against a bill.
PRICES = {
    "lambda request": 0.20 / 1e6,
    "lambda GB s, arm64": 0.0000133334,
    "dynamodb read unit": 0.125 / 1e6,
    "dynamodb write unit": 0.625 / 1e6,
    "s3 put or list": 0.005 / 1e3,
    "s3 get": 0.0004 / 1e3,
    "event put on the bus": 1.00 / 1e6,
    "sns publish": 0.50 / 1e6,
    "sns e-mail": 2.00 / 1e5,
    "log GB": 0.50,
    "alarm": 0.10,
    "dashboard": 3.00,
    "metric": 0.30,
    "trace": 5.00 / 1e6,
}
#: What every account has free each month, for ever ("Always Free" on the same pages): all of it taken to be there for us.
FREE = {
    "lambda request": 1e6,
    "lambda GB s, arm64": 4e5,
    "sns publish": 1e6,
    "sns e-mail": 1e3,
    "log GB": 5,
    "alarm": 10,
    "dashboard": 3,
    "metric": 10,
    "trace": 1e5,
}

#: Assumed: seconds that are billed for one call of a function, by the local cloud's figures (docs/benchmarks.md), and bytes of log for it: Lambda's
#: own three lines, the door's one and the metrics' one.
TICK_S, TICK_JOB_S, CALL_S, LOG_BYTES = 0.2, 0.05, 0.3, 2000
#: Units of a write: an item of 4 KB inside a transaction counts twice (DynamoDB guide, "Read/write capacity mode"). A read of it, consistent, is one.
WRITE_UNITS = {"transact_write_items": 8, "update_item": 1, "put_item": 1}
#: Puts of one instance beside its functions' work: a heartbeat each half minute; what a save of some files takes every ten minutes.
HEARTBEATS_PER_MIN, SAVES_PUTS_PER_MIN = 2, 1
MIB = {"ReconcileFunction": 1769}


@dataclass(frozen=True, slots=True)
class Counted:
    """Calls by name, and calls of functions."""

    calls: Counter[str]
    invocations: int


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

    def written(*_: Any) -> None:
        nonlocal statuses
        statuses += 1

    def story() -> None:
        nonlocal doors
        house.put()
        house.ec2.change(house.live()[0], "running")
        for step in range(minutes):
            house.beat(step)
            house.tick()
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
    return Counted(+calls, doors + statuses)


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


def month(jobs_a_day: float, minutes: int, standing: Mapping[str, int]) -> Counter[str]:
    """What a month is billed for."""
    hour, curfew = idle_calls()
    job, jobs = life(minutes), jobs_a_day * DAYS
    billed: Counter[str] = Counter(standing)
    for calls, times in ((hour, MINUTES / 60), (curfew, MINUTES / 5), (job.calls, jobs)):
        for name, count in units(calls).items():
            billed[name] += count * times
    own = MINUTES + MINUTES / 5 + job.invocations * jobs
    tick_s = MINUTES * TICK_S + minutes * jobs * TICK_JOB_S
    billed["lambda request"] += own
    billed["lambda GB s, arm64"] += tick_s * MIB["ReconcileFunction"] / 1024 + (own - MINUTES) * CALL_S * 0.5
    billed["log GB"] += own * LOG_BYTES / 1e9
    # X-Ray takes the first trace of each second and a twentieth of the rest (X-Ray guide, "Configuring sampling rules"): here, nearly all.
    billed["trace"] += own
    billed["s3 put or list"] += jobs * minutes * (HEARTBEATS_PER_MIN + SAVES_PUTS_PER_MIN)
    # Metrics are billed by the hours in which they are sent: two between jobs, some twenty while any runs.
    busy = min(1.0, jobs_a_day * minutes / (24 * 60))
    billed["metric"] += 2 + 20 * busy
    return billed


def usd(billed: Mapping[str, float], free: Mapping[str, float]) -> dict[str, float]:
    """Dollars by what they are for, what is free taken off."""
    return {name: max(0.0, count - free.get(name, 0)) * PRICES[name] for name, count in billed.items()}


def standing(parameters: dict[str, str] | None = None) -> dict[str, int]:
    """What the stack has whether or not it works: its alarms and dashboards, for these parameters."""
    stack = Stack(parameters=parameters)
    there = [one["Type"] for one in stack.template["Resources"].values() if "Condition" not in one or stack.holds({"Condition": one["Condition"]})]
    return {"alarm": there.count("AWS::CloudWatch::Alarm"), "dashboard": there.count("AWS::CloudWatch::Dashboard")}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.cost_table")
    parser.add_argument("--hours", type=float, default=1.0, help="how long each job trains")
    minutes = round(parser.parse_args().hours * 60)
    logging.disable(logging.CRITICAL)
    columns = {f"{jobs} jobs a day" if jobs else "idle": jobs for jobs in (0, 10, 1000)}
    table = Table(
        "US dollars a month", *columns, title=f"the control plane, jobs of {minutes} minutes, {DAYS} days; nothing free / an account's free allowances"
    )
    billed = {name: month(jobs, minutes, standing()) for name, jobs in columns.items()}
    for name in PRICES:
        cells = [f"{usd(one, {})[name]:.2f} / {usd(one, FREE)[name]:.2f}" if name in one else "" for one in billed.values()]
        table.add_row(name, *cells)
    table.add_row("sum", *(f"{sum(usd(one, {}).values()):.2f} / {sum(usd(one, FREE).values()):.2f}" for one in billed.values()))
    few = {name: month(jobs, minutes, standing({"Watch": "few"})) for name, jobs in columns.items()}
    table.add_row("sum, Watch=few", *(f"{sum(usd(one, {}).values()):.2f} / {sum(usd(one, FREE).values()):.2f}" for one in few.values()))
    Console(width=130).print(table)
    job = life(minutes)
    print(f"one job: {sum(job.calls.values())} calls, {job.invocations} calls of functions beside the ticks: {dict(job.calls.most_common(12))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
