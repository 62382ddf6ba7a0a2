"""The stack changed under a running job, as docs/operations.md says: an update lets it go on, a delete takes its hands away and not its work.

What an emulator cannot show: that AWS refuses to delete the network while instances are in it, and that the instance powers itself off in the end.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from dropforge.jobs.follow import Follower
from dropforge.local import cloud as clouds
from dropforge.local import deploy
from dropforge.local.market import InstanceView, Market
from dropforge.local.state import CloudState
from dropforge.stack import Stack
from jobspec import tags
from tests.local.conftest import free_port, needs_environments
from tests.local.test_whole_flow import MANIFEST, until
from tests.tiny_model import make_tiny_model, write_chat_rows

pytestmark = [pytest.mark.local_cloud, pytest.mark.torch]

#: It cannot come to its end by itself while the stack is changed under it, however fast the machine.
ENDLESS = {**MANIFEST, "training": MANIFEST["training"] | {"max_steps": 1_000_000}}


@dataclass
class Running:
    """A cloud with model and rows in it, and one job on an instance that has made some steps."""

    plan: clouds.Plan
    state: CloudState
    there: Stack
    follower: Follower

    @property
    def live(self) -> list[InstanceView]:
        return [machine for machine in Market(self.state).instances() if machine.live]

    def client(self, service: str) -> Any:
        return deploy.client_of(self.state, service)

    def step(self, attempt: int) -> int:
        list(self.follower.look())
        return self.follower.heartbeats[attempt].step if attempt in self.follower.heartbeats else 0

    def template_version(self) -> str:
        facts = self.client("lambda").get_function_configuration(FunctionName=self.state.outputs["ReconcileFunctionName"])
        return str(facts["Environment"]["Variables"]["LAUNCH_TEMPLATE_VERSION"])

    def planned_versions(self) -> list[str]:
        """Of the launch template, in the order of the attempts."""
        items = self.client("dynamodb").scan(TableName=self.state.outputs["JobTableName"])["Items"]
        (job,) = [item for item in items if item["pk"]["S"].startswith("JOB#whole-")]
        return re.findall(r'"template_version": ?"(\d+)"', "".join(value["S"] for value in job.values() if "S" in value))


@pytest.fixture
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    needs_environments()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    plan = clouds.Plan(tmp_path / "cloud", port=free_port(), notice_s=20, minute_s=10, parameters={"HeartbeatSeconds": "1"})
    state = clouds.up(plan)
    try:
        there = Stack(state.stack, state.outputs["DataBucketName"], state.outputs["OutputsBucketName"], deploy.client_of(state, "s3"))
        make_tiny_model(tmp_path / "model")
        for path in sorted((tmp_path / "model").iterdir()):
            there.s3.upload_file(str(path), there.data_bucket, f"models/tiny/{path.name}")
        write_chat_rows(tmp_path / "rows.jsonl", 64, 1)
        there.s3.upload_file(str(tmp_path / "rows.jsonl"), there.data_bucket, "data/train.jsonl")
        there.s3.put_object(Bucket=there.data_bucket, Key="jobs/whole.yaml", Body=yaml.safe_dump(ENDLESS).encode())
        found = Running(plan, state, there, Follower(there, "whole"))
        until(lambda: found.step(1) >= 5, "the fifth step")
        yield found
    finally:
        clouds.down(plan.home)


def test_an_update_lets_the_job_go_on_and_its_next_instance_takes_what_is_new(running: Running) -> None:
    (before,) = running.live
    first, step = running.template_version(), running.step(1)
    updated = clouds.up(replace(running.plan, parameters={"HeartbeatSeconds": "1", "VolumeGiB": "200", "MaxConcurrentJobs": "3"}))
    # What another region's stack is told of this one holds the changed parameters; all else that a stack names stays.
    assert {**updated.outputs, "PeerParameters": ""} == {**running.state.outputs, "PeerParameters": ""}
    assert running.template_version() != first, "the launch template has a new version, and the functions are told"
    until(lambda: running.step(1) > step, "a step after the update")
    assert [machine.instance_id for machine in running.live] == [before.instance_id]
    Market(running.state).interrupt(before.instance_id)
    until(lambda: running.step(2) > running.step(1), "a step of the next instance")
    assert running.planned_versions() == [first, running.template_version()]
    running.there.s3.delete_object(Bucket=running.there.data_bucket, Key="jobs/whole.yaml")
    until(lambda: list(running.follower.look()) is not None and running.follower.ended, "the job's end")
    status = running.follower.status
    assert status is not None
    assert (status.state, len(status.attempts)) == ("CANCELLED", 2), status.reason
    until(lambda: not running.live, "the end of every instance")


def test_a_delete_leaves_the_work_and_an_instance_to_be_ended_by_its_tag(running: Running) -> None:
    ec2, s3, outputs = running.client("ec2"), running.client("s3"), running.there.outputs_bucket

    def checkpoints() -> list[str]:
        return [item["Key"] for item in s3.list_objects_v2(Bucket=outputs, Prefix="runs/").get("Contents", []) if item["Key"].endswith("checkpoint.json")]

    until(lambda: bool(checkpoints()), "a checkpoint")
    saved = set(checkpoints())
    running.client("cloudformation").delete_stack(StackName=running.state.stack)
    until(lambda: _is_gone(running), "the end of the stack")
    assert not running.client("lambda").list_functions()["Functions"]
    # docs/operations.md, Emergency stop, "With the AWS command line alone".
    filters = [
        {"Name": f"tag:{tags.PROJECT}", "Values": [running.state.stack]},
        {"Name": "instance-state-name", "Values": ["pending", "running", "stopping", "stopped"]},
    ]
    for reservation in ec2.describe_instances(Filters=filters)["Reservations"]:
        ec2.terminate_instances(InstanceIds=[instance["InstanceId"] for instance in reservation["Instances"]])
    until(lambda: not running.live, "the end of the instance")
    assert saved <= set(checkpoints())
    key = min(saved)
    assert s3.get_object(Bucket=outputs, Key=key)["Body"].read()
    assert running.client("dynamodb").describe_table(TableName=running.state.outputs["JobTableName"])["Table"]["TableStatus"] == "ACTIVE"
    record = running.client("dynamodb").scan(TableName=running.state.outputs["JobTableName"])["Items"]
    assert any(item["pk"]["S"].startswith("JOB#whole-") for item in record), "the record says what was under way"


def _is_gone(running: Running) -> bool:
    stacks = running.client("cloudformation").list_stacks(StackStatusFilter=["DELETE_COMPLETE", "DELETE_FAILED"])["StackSummaries"]
    states = {stack["StackStatus"] for stack in stacks if stack["StackName"] == running.state.stack}
    assert "DELETE_FAILED" not in states
    return "DELETE_COMPLETE" in states
