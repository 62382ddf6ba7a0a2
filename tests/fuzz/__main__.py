"""``python -m tests.fuzz --target manifest --seconds 30``, ``--all``, or ``--replay FILE``. Exit status 1 where a promise was broken."""

import argparse
import sys
import time
from pathlib import Path

from tests.fuzz.campaign import NO_ENGINE, ROOT, Result, fuzz, has_engine
from tests.fuzz.targets import TARGETS


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Coverage-guided fuzzing of what strangers can hand to Dropforge.")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--target", choices=TARGETS, help="one target")
    what.add_argument("--all", action="store_true", help="every target, one after the other")
    what.add_argument("--replay", type=Path, metavar="FILE", help="try one kept input again; its folder names the target")
    parser.add_argument("--seconds", type=int, default=30, help="for each target (default 30)")
    parser.add_argument("--runs", type=int, help="a number of inputs for each target, instead of a time: the same seed then tries the same inputs")
    parser.add_argument("--seed", type=int, default=1, help="of the mutations (default 1)")
    return parser.parse_args()


def _tell(result: Result, took_s: float) -> None:
    pace = f"{result.runs / took_s:,.0f} a second" if took_s else ""
    print(f"{result.target}: {result.runs:,} inputs ({pace}), {result.edges} edges, {result.features} features, {'BROKEN' if result.crash else 'held'}")
    if result.crash:
        print(result.said)
        print(f"again: python -m tests.fuzz --replay {result.crash.relative_to(ROOT)}")


def main() -> int:
    options = _options()
    if options.replay:
        name = options.replay.resolve().parent.name
        print(f"{name}: {TARGETS[name](options.replay.read_bytes())}")
        return 0
    if not has_engine():
        print(NO_ENGINE, file=sys.stderr)
        return 2
    broken = 0
    for name in TARGETS if options.all else [options.target]:
        started = time.monotonic()
        result = fuzz(name, seed=options.seed, runs=options.runs, seconds=None if options.runs else options.seconds)
        _tell(result, time.monotonic() - started)
        broken += result.crash is not None
    print(f"{broken} target(s) broken")
    return 1 if broken else 0


if __name__ == "__main__":
    raise SystemExit(main())
