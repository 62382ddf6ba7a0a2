"""How soon an instance is asked for: ``python -m bench.launch_latency [--jobs N]``.

Puts N manifests, one after the other, into a local cloud of its own; takes each job's instance away as soon as it is on
record; prints seconds from the put of the manifest to the launch on record, and from the warning to the replacement's.
Refuses to report if any job went another way.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import yaml

from dropforge.jobs.find import read_status
from dropforge.local import cloud as clouds
from dropforge.local import deploy
from dropforge.local.market import Market
from dropforge.stack import Stack
from jobspec.status import Status

GIVE_UP_AFTER_S = 60.0


def manifest(name: str) -> bytes:
    """A job whose model is not there: its launches are what is measured, and its agent ends by itself."""
    document = {
        "name": name,
        "model": {"s3": "models/none/"},
        "data": {"train": "data/none.jsonl"},
        "compute": {"instance_types": ["g5.xlarge"]},
        "notify": {"on": []},
    }
    return yaml.safe_dump(document).encode()


def seen(stack: Stack, name: str, fits: Callable[[Status], bool]) -> Status:
    """The job's status once it fits. Raises SystemExit when it does not in time."""
    give_up_at = time.monotonic() + GIVE_UP_AFTER_S
    while True:
        status = read_status(stack, name)
        if status is not None and fits(status):
            return status
        if time.monotonic() > give_up_at:
            raise SystemExit(f"{name}: not within {GIVE_UP_AFTER_S:.0f} s; nothing is reported. Last seen: {status.state if status else 'nothing'}")
        time.sleep(0.02)


def one(stack: Stack, market: Market, name: str) -> tuple[float, float]:
    """(put to launch, warning to replacement) of one job, in seconds."""
    put_at = datetime.now(UTC)
    stack.s3.put_object(Bucket=stack.data_bucket, Key=f"jobs/{name}.yaml", Body=manifest(name))
    first = seen(stack, name, lambda status: len(status.attempts) == 1).attempts[0]
    if first.instance_id is None or first.launched_at is None:
        raise SystemExit(f"{name}: its attempt has no instance; nothing is reported")
    warned_at = datetime.now(UTC)
    market.interrupt(first.instance_id)
    second = seen(stack, name, lambda status: len(status.attempts) == 2).attempts[1]
    stack.s3.delete_object(Bucket=stack.data_bucket, Key=f"jobs/{name}.yaml")
    seen(stack, name, lambda status: status.state == "CANCELLED")
    if second.launched_at is None:
        raise SystemExit(f"{name}: its replacement has no launch time; nothing is reported")
    return (first.launched_at - put_at).total_seconds(), (second.launched_at - warned_at).total_seconds()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.launch_latency")
    parser.add_argument("--jobs", type=int, default=10)
    jobs = parser.parse_args().jobs
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "cloud"
        state = clouds.up(clouds.Plan(home, notice_s=60))
        try:
            stack = Stack(state.stack, state.outputs["DataBucketName"], state.outputs["OutputsBucketName"], deploy.client_of(state, "s3"))
            rows = [one(stack, Market(state), f"bench-{number}") for number in range(jobs)]
        finally:
            clouds.down(home)
    for label, values in (("manifest put to launch", [row[0] for row in rows]), ("warning to replacement", [row[1] for row in rows])):
        print(f"{label}: median {statistics.median(values):.2f} s, {min(values):.2f} to {max(values):.2f} s, {jobs} jobs (the first one starts the functions)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
