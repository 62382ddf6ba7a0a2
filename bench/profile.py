"""Where the processor time of the hot paths goes: ``python -m bench.profile [--jobs 200]``.

One tick over so many jobs that train, and one manifest's way to its launch, over the AWS in memory, by the functions' own time. What a start
imports is told by ``python -m bench.lambda_start``. The profiler slows small functions more than large ones: the order counts, not the seconds.
"""

import argparse
import cProfile
import logging
import pstats
import sys
from collections.abc import Callable
from typing import Any

from bench.ticks import CONTEXT, beat, house_of
from control_plane.handlers import reconcile

MOST = 15


def told(what: str, work: Callable[[], Any]) -> list[str]:
    """The functions with the most time of their own, first; prints them as well."""
    profiler = cProfile.Profile()
    profiler.runcall(work)
    stats = pstats.Stats(profiler)
    rows: list[tuple[float, int, str]] = sorted(
        ((own, calls, f"{file.rpartition('/')[2]}:{line} {name}") for (file, line, name), (_, calls, own, _, _) in stats.stats.items()),  # type: ignore[attr-defined]
        reverse=True,
    )
    print(f"{what}: {stats.total_tt:.2f} s in all")  # type: ignore[attr-defined]
    for own, calls, name in rows[:MOST]:
        print(f"  {1000 * own:8.1f} ms {calls:8} calls  {name}")
    return [name for _, _, name in rows]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.profile")
    parser.add_argument("--jobs", type=int, default=200)
    jobs = parser.parse_args().jobs
    logging.disable(logging.CRITICAL)
    house = house_of(jobs, jobs)
    house.now = house.now.replace(minute=house.now.minute + 1)
    beat(house)
    told(f"a tick over {jobs} jobs", lambda: reconcile.handle({}, CONTEXT, house.rooms))
    house = house_of(1, 2)
    told("a manifest to its launch", lambda: house.put("jobs/one-more.yaml", name="one-more"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
