"""How long a person waits for the command line: ``python -m bench.command_line [--jobs 1000]``.

Wall seconds, and seconds of the processor, of ``dropforge --help`` and ``dropforge validate``, each started anew; then of ``dropforge list``
over so many jobs in a local cloud of its own, whose status objects are as the control plane writes them: the newest fifty, as it is typed, and
all of them. S3 dates an object by its own clock, and `list` leaves unread what was written before the fiftieth newest job was accepted; so that this
holds here, where all are written at once, the newest jobs are accepted some minutes from now. The first start of each is left out: it reads the
disk. On a busy machine the processor's seconds are the ones to look at.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

from dropforge.jobs.find import CLOCKS_APART
from dropforge.local import cloud as clouds
from dropforge.local import deploy
from dropforge.local.state import CloudState
from jobspec import keys, wire
from jobspec.status import AttemptStatus, Receipt, Status, TransitionLine

COMMAND = Path(sys.executable).parent / "dropforge"
#: Wall seconds that a person does not notice, and those that he waits without a second thought.
START_S, LIST_S = 0.3, 2.0
#: Jobs that `dropforge list` shows where nobody says how many.
SHOWN = 50


def status(number: int, newest: datetime) -> Status:
    """A finished job of two attempts, accepted ``number`` minutes before the newest one."""
    at = newest - timedelta(minutes=number)
    attempt = AttemptStatus(
        number=1, market="spot", instance_type="g5.xlarge", zone="us-east-1a", launched_at=at, runtime_s=900, cost_usd=0.12, end="completed"
    )
    receipt = Receipt(cost_usd=0.24, on_demand_usd=0.7, saved_usd=0.46, runtime_s=1800, note="Estimated.")
    return Status(
        job_id=f"job-{number:04d}-0123456789",
        name=f"job-{number:04d}",
        state="SUCCEEDED",
        reason="attempt 2 finished",
        updated_at=at,
        accepted_at=at,
        manifest=f"s3://data/jobs/job-{number:04d}.yaml",
        step=100,
        total_steps=100,
        attempts=(attempt, attempt.model_copy(update={"number": 2})),
        receipt=receipt,
        history=tuple(TransitionLine(at=at, state=state, reason="so it went") for state in ("ACCEPTED", "PLANNED", "LAUNCHED", "RUNNING", "SUCCEEDED")),
    )


def fill(cloud: CloudState, jobs: int) -> None:
    s3, bucket = deploy.client_of(cloud, "s3"), cloud.outputs["DataBucketName"]
    # A thousand pages would be drawn while the list is timed: those of real jobs were drawn long ago.
    events = deploy.client_of(cloud, "events")
    for rule in events.list_rules()["Rules"]:
        events.disable_rule(Name=rule["Name"])
    with ThreadPoolExecutor(8) as pool:
        newest = datetime.now(UTC) + timedelta(minutes=SHOWN) + 2 * CLOCKS_APART
        # Oldest first, as they come.
        puts = [(keys.status_key(one.name), wire.dump(one)) for one in (status(number, newest) for number in reversed(range(jobs)))]
        list(pool.map(lambda put: s3.put_object(Bucket=bucket, Key=put[0], Body=put[1]), puts))


def taken(words: list[str], times: int, lines: int = 1, environment: dict[str, str] | None = None) -> list[tuple[float, float]]:
    """Wall and processor seconds of each run but the first. Raises SystemExit where it fails or says less than so many lines."""
    found = []
    for _ in range(times + 1):
        started, used = time.monotonic(), _processor_s()
        own = {**os.environ, **(environment or {})}
        done = subprocess.run([str(COMMAND), *words], capture_output=True, text=True, check=False, env=own)  # noqa: S603 - our own command
        found.append((time.monotonic() - started, _processor_s() - used))
        if done.returncode or len(done.stdout.splitlines()) < lines:
            raise SystemExit(f"dropforge {' '.join(words)} failed, nothing is reported: {done.stdout[-500:]}{done.stderr[-2000:]}")
    return found[1:]


def _processor_s() -> float:
    """Of all child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def report(words: str, runs: list[tuple[float, float]], wanted_s: float) -> bool:
    walls, processor = [wall for wall, _ in runs], [used for _, used in runs]
    median = statistics.median(walls)
    print(f"dropforge {words}: median {median:.2f} s ({min(walls):.2f} to {max(walls):.2f}), of the processor {statistics.median(processor):.2f} s", flush=True)
    return median < wanted_s


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.command_line", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--jobs", type=int, default=1000, help="how many jobs to list (default: 1000)")
    parser.add_argument("--times", type=int, default=9, help="how often each is run (default: 9)")
    options = parser.parse_args()
    example = str(clouds.REPOSITORY / "events/manifests/minimal.yaml")
    good = [report("--help", taken(["--help"], options.times), START_S), report("validate FILE", taken(["validate", example], options.times), START_S)]
    with tempfile.TemporaryDirectory(prefix="dropforge-bench-") as folder:
        cloud = clouds.up(clouds.Plan(Path(folder), stack="listed", minute_s=3600.0))
        try:
            fill(cloud, options.jobs)
            words = ["list", "--stack", "listed"]
            newest = taken(words, options.times, SHOWN, cloud.environment)
            good.append(report(f"list, {options.jobs} jobs", newest, LIST_S))
            whole = taken([*words, "--limit", str(options.jobs)], options.times, options.jobs, cloud.environment)
            report(f"list --limit {options.jobs}", whole, LIST_S)
        finally:
            clouds.down(Path(folder))
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
