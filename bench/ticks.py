"""What a tick costs: ``python -m bench.ticks [--jobs 100 1000 10000] [--waiting]``.

The tick as it runs in Lambda - door's handle, driver, core, adapters - over the AWS in memory of tests/simulation, every call of
which is made to last as long as the real one is taken to (LATENCY_S). Each size once with one thread and once with as many as
the function uses, side by side in one run, beside two floors: the waiting alone that these calls cannot do without, and one
call a job. Prints calls a job by name, seconds, processor seconds, peak memory. Refuses to report a tick with failures, or one that
drove other jobs than there are.

botocore's own work is left out, for the clients are played: ``bench.botocore_cost`` measures it by itself, in processor seconds a call, and the
table adds it. The tick's Lambda has one processor, and Python uses no more: what has to fit a minute there is the greater of the two, waiting and work.
"""

import argparse
import logging
import platform
import resource
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Lock
from types import SimpleNamespace
from typing import Any, TypeVar

from rich.console import Console
from rich.table import Table

from bench.botocore_cost import botocore_s
from control_plane.adapters.clients import AT_ONCE
from control_plane.handlers import reconcile
from tests.driver.house import House

A = TypeVar("A")
B = TypeVar("B")

#: Seconds that one call lasts inside one region, by service. Assumed: AWS publishes none. DynamoDB's "single-digit milliseconds"
#: (developer guide, "What is DynamoDB"), S3's "roughly 100-200 milliseconds" for small objects as its upper end (S3 user guide,
#: "Performance design patterns") with the usual 20 ms taken here, EC2's from experience.
LATENCY_S = {"dynamodb": 0.005, "s3": 0.02, "ec2": 0.1}
USUAL_LATENCY_S = 0.02
#: A page of each service: DynamoDB's is 1 MB, some 10,000 rows of keys; EC2's what the adapter asks for.
PAGE_ROWS = {"dynamodb": 8000, "ec2": 200, "s3": 1000}
#: The most that MaxConcurrentJobs may be (template.yaml).
MOST_AT_ONCE = 500
CONTEXT = SimpleNamespace(get_remaining_time_in_millis=lambda: 10_000_000)


@dataclass(slots=True)
class Toll:
    """The gate that every call passes: counts it and lets it last, beside others. The answer itself is made by one thread at a time."""

    calls: Counter[str]
    lasts: bool
    _one_at_a_time: Any = field(default_factory=Lock)

    def __call__(self, operation: str, subject: str, effect: Callable[[], Any]) -> Any:
        if self.lasts:
            time.sleep(latency_s(operation))
        with self._one_at_a_time:
            self.calls[operation] += 1
            return effect()


@dataclass(frozen=True, slots=True)
class Figure:
    jobs: int
    threads: int
    calls: Counter[str]
    wall_s: float
    cpu_s: float

    @property
    def waiting_s(self) -> float:
        return sum(count * latency_s(operation) for operation, count in self.calls.items())


def latency_s(operation: str) -> float:
    return LATENCY_S.get(operation.partition(".")[0], USUAL_LATENCY_S)


def house_of(jobs: int, running: int) -> House:
    """That many open jobs, ``running`` of them on an instance that trains and tells of it, the others waiting for a turn."""
    house = House(max_concurrent_jobs=running)
    house.account.dynamodb.page_rows, house.ec2.page_rows, house.s3.page_rows = PAGE_ROWS["dynamodb"], PAGE_ROWS["ec2"], PAGE_ROWS["s3"]
    for number in range(jobs):
        house.put(f"jobs/bench-{number:05}.yaml", name=f"bench-{number:05}")
    for instance_id in house.live():
        house.ec2.change(instance_id, "running")
    for _ in range(2):
        measured(house, jobs, 1, lasts=False)
    return house


def beat(house: House) -> None:
    for job in house.jobs:
        if job.attempts:
            house.beat(10, job=job)


def measured(house: House, jobs: int, threads: int, *, lasts: bool = True) -> Figure:
    """One tick of every minute: each instance has told of itself since the last. Raises SystemExit if it was no such tick."""
    house.account.gate = lambda operation, subject, effect: effect()
    house.now = house.now.replace(minute=house.now.minute + 1)
    beat(house)
    toll = Toll(Counter(), lasts)
    house.account.gate = toll
    house.rooms.each = spread(threads) if threads > 1 else map
    began, cpu_began = time.perf_counter(), time.process_time()
    done = reconcile.handle({}, CONTEXT, house.rooms)
    wall_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu_began
    counts = done.get("metrics", done)
    if counts["JobsDriven"] != jobs or counts["JobsLeft"] or toll.calls["ec2.create_fleet"]:
        raise SystemExit(f"the tick drove {counts['JobsDriven']:.0f} of {jobs} jobs, or launched: nothing is reported")
    return Figure(jobs, threads, toll.calls, wall_s, cpu_s)


def spread(threads: int) -> Any:
    def each(work: Callable[[A], B], things: Iterable[A]) -> Iterator[B]:
        with ThreadPoolExecutor(threads) as pool:
            yield from pool.map(work, things)

    return each


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.ticks")
    parser.add_argument("--jobs", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--waiting", action="store_true", help="one job in ten runs, at most 500 as template.yaml has it; the others wait for their turn")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    per_call_s = botocore_s()
    usual_s = statistics.mean(per_call_s.values())
    print(f"{platform.machine()}, Python {platform.python_version()}; a call lasts {LATENCY_S} s, else {USUAL_LATENCY_S}")
    print("botocore, processor ms a call: " + ", ".join(f"{name} {1000 * seconds:.2f}" for name, seconds in per_call_s.items()))
    table = Table(
        "jobs", "threads", "calls a job", "wall s", "own cpu s", "with botocore's", "floor: waiting", "floor: one read a job", "calls", title="one tick"
    )
    for jobs in options.jobs:
        house = house_of(jobs, min(MOST_AT_ONCE, max(1, jobs // 10)) if options.waiting else jobs)
        for threads in (1, AT_ONCE):
            if threads == 1 and jobs > 1000:
                continue
            one = measured(house, jobs, threads)
            calls = sum(one.calls.values())
            with_botocore_s = one.cpu_s + sum(count * per_call_s.get(name, usual_s) for name, count in one.calls.items())
            floor_s = jobs * LATENCY_S["dynamodb"] / threads
            figures = (calls / jobs, one.wall_s, one.cpu_s, with_botocore_s, one.waiting_s / threads, floor_s)
            table.add_row(str(jobs), str(threads), *(f"{figure:.2f}" for figure in figures), "\n".join(f"{n} {name}" for name, n in one.calls.most_common()))
    Console(width=160).print(table)
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB, the AWS in memory included")
    return 0


if __name__ == "__main__":
    sys.exit(main())
