"""``python -m bench.spot --traces DIR``: what each policy costs on recorded spot availability, beside the exact lower bound.

Prints a table, or with ``--json`` one document: ``settings``, ``policies`` (over all runs) and ``worlds`` (the same for each pool or
region). ``cost_ratio`` is of on-demand from the start, every started tick whole, changeovers included; ``on_demand_h_mean`` and
``spot_h_mean`` are hours of work, changeovers left out, as in the paper's Table 3; ``gap_to_bound_p75`` is the 75th percentile over
runs of the run's cost_ratio less that of its bound. Progress goes to stderr.
"""

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.spot.model import Settings
from bench.spot.study import POLICIES, Runs, study, summary
from bench.spot.timing import place_ms
from bench.spot.traces import Pool, TraceError, half_of, load, worlds
from control_plane.core.strategy import KNOBS


def main(arguments: list[str] | None = None) -> int:
    options = _options(arguments)
    settings = Settings(options.work_h * 3600, options.deadline_h * 3600, options.delay_h * 3600, options.first_hour_free)
    try:
        if settings.deadline_s < settings.work_s + settings.delay_s:
            least = options.work_h + options.delay_h
            raise TraceError(f"--deadline-h {options.deadline_h:g} cannot be met: the work and one start take {least:g} h on on-demand alone.")
        pools = [half_of(pool, options.half) if options.half else pool for pool in load(options.traces)]
        groups = worlds(pools, options.pools)
        runs = _told(study(groups, settings, options.windows), len(groups))
    except TraceError as refused:
        print(refused, file=sys.stderr)
        return 2
    asked = {"traces": str(options.traces), "pools": options.pools, "windows": options.windows, "half": options.half, "prices": _prices(pools)}
    place_pools, took_ms = place_ms()
    report = {
        "settings": asdict(settings) | asked | {"knobs": asdict(KNOBS), "place_pools": place_pools, "place_ms": round(took_ms, 3)},
        "policies": summary(runs, settings),
        "worlds": {group.name: summary([one for one in runs if one.world == group.name], settings) for group in groups},
    }
    print(json.dumps(report, indent=2) if options.json else _table(report))
    return 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.spot", description="What spot policies cost on recorded availability.")
    parser.add_argument("--traces", type=Path, required=True, metavar="DIR", help="a folder with one JSON file a pool")
    parser.add_argument("--work-h", type=_hours, default=48.0, help="hours of work (48)")
    parser.add_argument("--deadline-h", type=_hours, default=60.0, help="hours to the deadline (60)")
    parser.add_argument("--delay-h", type=_hours_or_none, default=0.2, help="hours that each start of an instance costs (0.2)")
    parser.add_argument("--pools", choices=("each", "region", "all"), default="each", help="which pools one run may use: one, its region's, all")
    parser.add_argument("--windows", type=_count, default=300, metavar="N", help="runs in each world (300)")
    parser.add_argument("--half", choices=("first", "second"), help="only that half of each trace in time: the knobs were tuned on the first")
    parser.add_argument("--first-hour-free", action="store_true", help="a spot instance that is taken back in its first hour costs nothing")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of a table")
    return parser.parse_args(arguments)


def _hours(text: str) -> float:
    value = _hours_or_none(text)
    if value == 0:
        raise argparse.ArgumentTypeError("must be above 0 hours")
    return value


def _hours_or_none(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 100_000:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of hours")
    return value


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 1_000_000:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of runs from 1 on")
    return int(text)


def _told(found: Any, groups: int) -> list[Runs]:
    """The runs, each told of on stderr as it is done."""
    runs: list[Runs] = []
    started = time.monotonic()
    for one in found:
        runs.append(one)
        late = f"{len(runs)}/{groups * (len(POLICIES) + 1)}  {one.world}  {one.policy}: {len(one.outcomes)} runs"
        print(f"{late}, {time.monotonic() - started:.1f} s", file=sys.stderr, flush=True)
    return runs


def _prices(pools: list[Pool]) -> str:
    given = sum(bool((pool.spot_usd_per_h != pool.spot_usd_per_h[0]).any()) for pool in pools)
    return f"{given} of {len(pools)} pools have recorded prices; the others cost 0.9731 / 3.06 of on-demand, as in the paper"


def _table(report: dict[str, Any]) -> str:
    lines = [f"{'':<28} {'cost ratio':>10} {'late':>6} {'runs':>6} {'launches':>9} {'on-demand h':>12} {'spot h':>7} {'p75 gap':>8}"]
    parts = {"all runs": report["policies"]} | (report["worlds"] if len(report["worlds"]) > 1 else {})
    for part, found in parts.items():
        lines.append(part)
        for name, of in found.items():
            row = f"{of['cost_ratio']:>10.4f} {of['late']:>6} {of['runs']:>6} {of['launches_mean']:>9.1f}"
            lines.append(f"  {name:<26} {row} {of['on_demand_h_mean']:>12.2f} {of['spot_h_mean']:>7.2f} {of['gap_to_bound_p75']:>8.4f}")
    of = report["settings"]
    lines.append(f"one place call with {of['place_pools']} pools: {of['place_ms']:.2f} ms")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
