"""How soon the control plane acts: ``python -m bench.launch_latency [--jobs 1 10 100]``.

A local cloud of its own, its instances without user data: they idle until they are ended, so that nothing trains beside what is
measured. So many manifests are put at once; every job's instance is warned at once; every replacement's completion marker is put at once.
For each, seconds until the launch is on record, the replacement is, and EC2 was asked to end the instance: p50, p95 and the longest.

The local cloud starts a Python process for a function's first invocation, and for more that come beside it, all on this machine's cores. So each
number of jobs comes twice, and beside the seconds is told what the doors themselves took by their own log lines, and how many of
them ran in a process that had just started. What is left is the starts, the queue for a process, and the emulator.

Then the AWS calls that each of the three takes, counted over the AWS in memory, up to the call that matters and in all. Refuses to
report if any job went another way, or any invocation failed.
"""

import argparse
import base64
import json
import logging
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from bench.door_lines import doors, shares
from dropforge.jobs.find import ENDS, read_status
from dropforge.local import cloud as clouds
from dropforge.local import deploy
from dropforge.local.market import Market
from dropforge.stack import Stack
from dropforge.translation import read
from jobspec import keys, wire
from jobspec.marker import CompletionMarker, Failure, FailureCode, Outcome
from jobspec.status import AttemptStatus, Status
from tests.driver.house import CONTEXT, MANIFEST, MATERIAL, OUTPUTS, House

GIVE_UP_AFTER_S = 300.0
#: An ended job keeps its turn until its instances are gone, a warned one for its notice: no round may wait for the turns of the one before.
MOST_AT_ONCE = 500
#: The call that each transition is about, and the least that it takes before and with it: what starts it, who it is of, the plan on record, the call.
MATTERS = {"manifest to launch": ("ec2.create_fleet", 5), "warning to replacement": ("ec2.create_fleet", 4), "marker to end": ("ec2.terminate_instances", 5)}
LEAST = {
    "manifest to launch": "get the manifest, create the job, take the turn and save the plan, ask for prices, CreateFleet",
    "warning to replacement": "whose instance, the job, save the plan, CreateFleet",
    "marker to end": "whose instance, the job, get the marker, save, TerminateInstances",
}


def manifest(name: str) -> bytes:
    """A job of the smallest model that is taken."""
    return yaml.safe_dump({**MANIFEST, "name": name}).encode()


def idle_template(folder: Path) -> Path:
    """The template, its instances without user data."""
    template = read(clouds.REPOSITORY / "template.yaml")
    template["Globals"]["Function"]["CodeUri"] = str(clouds.REPOSITORY / "functions")
    template["Resources"]["LaunchTemplate"]["Properties"]["LaunchTemplateData"]["UserData"] = base64.b64encode(b"idle").decode()
    path = folder / "template.yaml"
    path.write_text(json.dumps(template, default=str))
    return path


def seen(stack: Stack, names: list[str], fits: Callable[[Status], bool]) -> dict[str, Status]:
    """Each job's status once it fits. Raises SystemExit when one does not in time, or when a job ended otherwise."""
    found: dict[str, Status] = {}
    give_up_at = time.monotonic() + GIVE_UP_AFTER_S
    while len(found) < len(names):
        for name in names:
            status = read_status(stack, name) if name not in found else None
            if status is not None and fits(status):
                found[name] = status
            elif status is not None and status.state in ENDS:
                raise SystemExit(f"{name} is {status.state}: {status.reason}; nothing is reported")
            elif time.monotonic() > give_up_at:
                raise SystemExit(f"{name}: not within {GIVE_UP_AFTER_S:.0f} s; nothing is reported. Last seen: {status.state if status else 'nothing'}")
        # Looking costs the emulator, too; what is reported is the time on record.
        time.sleep(max(0.02, 0.005 * len(names)))
    return found


def newest(status: Status) -> AttemptStatus:
    attempt = status.attempts[-1]
    if attempt.instance_id is None or attempt.launched_at is None:
        raise SystemExit(f"{status.name}: its attempt has no instance; nothing is reported")
    return attempt


@dataclass(frozen=True, slots=True)
class Cloud:
    stack: Stack
    market: Market
    role_id: str

    def transitions(self, names: list[str]) -> dict[str, list[float]]:
        """Seconds of each job for each transition, all jobs at once."""
        put_at = {}
        for name in names:
            put_at[name] = datetime.now(UTC)
            self.stack.s3.put_object(Bucket=self.stack.data_bucket, Key=f"jobs/{name}.yaml", Body=manifest(name))
        first = {name: newest(status) for name, status in seen(self.stack, names, lambda status: len(status.attempts) == 1).items()}
        warned_at = {}
        for name in names:
            warned_at[name] = datetime.now(UTC)
            self.market.interrupt(str(first[name].instance_id))
        statuses = seen(self.stack, names, lambda status: len(status.attempts) == 2)
        second = {name: newest(status) for name, status in statuses.items()}
        marked_at = {}
        for name in names:
            marked_at[name] = datetime.now(UTC)
            self._mark(statuses[name], str(second[name].instance_id))
        ended = self._ended({str(second[name].instance_id): name for name in names})
        return {
            "manifest to launch": [(_launched(first[name]) - put_at[name]).total_seconds() for name in names],
            "warning to replacement": [(_launched(second[name]) - warned_at[name]).total_seconds() for name in names],
            "marker to end": [(ended[name] - marked_at[name]).total_seconds() for name in names],
        }

    def _mark(self, status: Status, instance_id: str) -> None:
        """A marker that ends the job for good, as that instance would write it."""
        failure = Failure(code=FailureCode.MODEL_INVALID, message="a benchmark's")
        job_id = str(status.job_id)
        marker = CompletionMarker(job_id=job_id, attempt=2, instance_id=instance_id, outcome=Outcome.FAILED, at=datetime.now(UTC), failure=failure)
        key = keys.marker_key(job_id, keys.writer_of(self.role_id, instance_id))
        self.stack.s3.put_object(Bucket=self.stack.outputs_bucket, Key=key, Body=wire.dump(marker))

    def _ended(self, jobs: dict[str, str]) -> dict[str, datetime]:
        """When each job's instance was first seen not to live any more."""
        found: dict[str, datetime] = {}
        give_up_at = time.monotonic() + GIVE_UP_AFTER_S
        while len(found) < len(jobs):
            if time.monotonic() > give_up_at:
                raise SystemExit(f"{len(jobs) - len(found)} instances were not ended within {GIVE_UP_AFTER_S:.0f} s; nothing is reported")
            now = datetime.now(UTC)
            for one in self.market.instances():
                if one.instance_id in jobs and not one.live:
                    found.setdefault(jobs[one.instance_id], now)
            time.sleep(0.02)
        return found


def _launched(attempt: AttemptStatus) -> datetime:
    assert attempt.launched_at is not None
    return attempt.launched_at


def calls() -> dict[str, list[str]]:
    """The AWS calls of each transition, in order, by a function whose container has just started."""
    from control_plane.handlers import completion

    house, heard, found = House(), [], {}

    def gate(operation: str, subject: str, effect: Callable[[], Any]) -> Any:
        heard.append(operation)
        return effect()

    def told(name: str, work: Callable[[], Any]) -> None:
        house.forget()
        heard.clear()
        house.account.gate, before = gate, house.account.gate
        work()
        house.account.gate, found[name] = before, list(heard)

    told("manifest to launch", house.put)
    house.ec2.change(house.live()[0], "running")
    house.beat()
    house.tick()
    first = house.attempt
    told("warning to replacement", lambda: house.warn(first))
    house.reclaim(first)
    house.ec2.change(house.live()[0], "running")
    house.beat()
    house.tick()
    detail = {"bucket": {"name": OUTPUTS}, "object": {"key": house.finish()}}
    told("marker to end", lambda: completion.handle({"source": "aws.s3", "detail-type": "Object Created", "detail": detail}, CONTEXT, house.rooms))
    for name, (operation, _) in MATTERS.items():
        if found[name].count(operation) != 1:
            raise SystemExit(f"{name}: {found[name].count(operation)} calls of {operation}; nothing is reported")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.launch_latency")
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, 10], help="how many at once; each number is a round of its own")
    jobs = parser.parse_args().jobs
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "cloud"
        plan = clouds.Plan(home, idle_template(Path(folder)), notice_s=120, parameters={"MaxConcurrentJobs": str(MOST_AT_ONCE), "HeartbeatSeconds": "300"})
        state = clouds.up(plan)
        try:
            iam = deploy.client_of(state, "iam")
            stack = Stack(state.stack, state.outputs["DataBucketName"], state.outputs["OutputsBucketName"], deploy.client_of(state, "s3"))
            roles = [role for page in iam.get_paginator("list_roles").paginate() for role in page["Roles"] if "InstanceRole" in role["RoleName"]]
            if len(roles) != 1:
                raise SystemExit(f"{len(roles)} roles of instances; nothing is reported")
            for key, body in MATERIAL.items():
                stack.s3.put_object(Bucket=stack.data_bucket, Key=key, Body=body)
            cloud = Cloud(stack, Market(state), roles[0]["RoleId"])
            cloud.transitions(["warm-up"])
            for count, time_of_it in ((count, word) for count in jobs for word in ("first", "again")):
                since = time.time()
                took = cloud.transitions([f"{time_of_it}-{count}-{number:03}" for number in range(count)])
                ours = doors(home, since)
                for label, values in took.items():
                    print(f"{count} at once, {time_of_it}, {label}: {shares(values)} s (least {min(values):.2f}); {ours[label].told()}", flush=True)
        finally:
            clouds.down(home)
    logging.disable(logging.CRITICAL)
    for name, made in calls().items():
        operation, least = MATTERS[name]
        print(f"{name}: {made.index(operation) + 1} calls up to {operation} where {least} are the least ({LEAST[name]}); {len(made)} in all")
    return 0


if __name__ == "__main__":
    sys.exit(main())
