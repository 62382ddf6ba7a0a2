"""The life of an instance: its events, its processes, its metadata, and how spot takes it back."""

import json
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime
from typing import Any

import pytest

from .conftest import LocalCloud, alive, eventually

pytestmark = pytest.mark.local_cloud

WARNING = "EC2 Spot Instance Interruption Warning"
STATE_CHANGE = "EC2 Instance State-change Notification"
#: Starts three kinds of process: a plain one, one that left the session, one that also threw its environment away.
FAMILY = """#!/bin/bash
sleep 300 & echo $! > plain
setsid sleep 301 & echo $! > detached
( exec env -i /usr/bin/setsid /bin/bash -c 'trap "" TERM; echo $$ > stubborn; while :; do /bin/sleep 1; done' ) &
disown -a
echo ready > ready
sleep 302
"""


class Metadata:
    """A small IMDSv2 client."""

    def __init__(self, url: str) -> None:
        self.url = url
        put = urllib.request.Request(f"{url}/latest/api/token", headers={"X-aws-ec2-metadata-token-ttl-seconds": "60"}, method="PUT")
        self.token = urllib.request.urlopen(put, timeout=5).read().decode()

    def status(self, path: str, *, token: str | None = None) -> int:
        try:
            self.get(path, token=token)
        except urllib.error.HTTPError as refused:
            return refused.code
        return 200

    def get(self, path: str, *, token: str | None = None) -> str:
        call = urllib.request.Request(self.url + path, headers={"X-aws-ec2-metadata-token": self.token if token is None else token})
        return str(urllib.request.urlopen(call, timeout=5).read().decode())


def details(cloud: LocalCloud, detail_type: str, instance_id: str) -> list[dict[str, Any]]:
    return [kept["event"] for kept in cloud.kept(detail_type) if kept["event"]["detail"]["instance-id"] == instance_id]


def family(cloud: LocalCloud, instance_id: str) -> list[int]:
    root = cloud.root(instance_id)
    eventually(lambda: (root / "ready").exists() and (root / "stubborn").exists() and (root / "stubborn").read_text().strip())
    return [int((root / name).read_text()) for name in ("plain", "detached", "stubborn")]


def test_each_state_is_an_event_that_reaches_a_rule_and_its_function(local_cloud: LocalCloud) -> None:
    instance_id = local_cloud.launch()
    local_cloud.client("ec2").terminate_instances(InstanceIds=[instance_id])
    local_cloud.ended(instance_id)
    states = eventually(lambda: len(seen := details(local_cloud, STATE_CHANGE, instance_id)) >= 4 and seen) or []
    assert {event["detail"]["state"] for event in states} == {"pending", "running", "shutting-down", "terminated"}
    event = states[0]
    assert event["source"] == "aws.ec2"
    assert event["resources"] == [f"arn:aws:ec2:us-east-1:123456789012:instance/{instance_id}"]


def test_an_instance_sees_its_own_environment_and_none_of_the_emulators(local_cloud: LocalCloud) -> None:
    instance_id = local_cloud.launch("#!/bin/bash\nenv > environment; echo done > ready; exec sleep 300\n")
    root = local_cloud.root(instance_id)
    eventually((root / "ready").exists)
    seen = dict(line.split("=", 1) for line in (root / "environment").read_text().splitlines())
    assert seen["DROPFORGE_INSTANCE"] == instance_id
    assert seen["DROPFORGE_ROOT"] == str(root)
    assert seen["AWS_ENDPOINT_URL"] == local_cloud.state.endpoint
    assert seen["PATH"].split(":")[0].endswith("dropforge/local/shims")
    assert not {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "DROPFORGE_LOCAL_SETTINGS"} & seen.keys()


def test_terminating_ends_every_process_even_those_that_detached_and_hid(local_cloud: LocalCloud) -> None:
    instance_id = local_cloud.launch(FAMILY)
    pids = family(local_cloud, instance_id)
    assert all(map(alive, pids))
    local_cloud.client("ec2").terminate_instances(InstanceIds=[instance_id])
    local_cloud.ended(instance_id)
    assert not any(map(alive, pids))


def test_user_data_that_ends_is_a_power_off_and_terminates(local_cloud: LocalCloud) -> None:
    instance_id = local_cloud.launch("#!/bin/bash\nsetsid sleep 300 & echo $! > left-over; sleep 0.5\n")
    instance = local_cloud.ended(instance_id)
    assert instance["StateReason"]["Code"] == "Client.InstanceInitiatedShutdown"
    assert not alive(int((local_cloud.root(instance_id) / "left-over").read_text()))


def test_a_power_off_from_inside_ends_the_user_data(local_cloud: LocalCloud) -> None:
    instance_id = local_cloud.launch("#!/bin/bash\nsleep 0.3; kill -TERM $DROPFORGE_INIT; sleep 300\n")
    assert local_cloud.ended(instance_id)["StateReason"]["Code"] == "Client.InstanceInitiatedShutdown"


def test_a_power_off_only_stops_an_instance_that_was_told_to_stop(local_cloud: LocalCloud) -> None:
    instance_id = local_cloud.launch("#!/bin/bash\nsleep 0.3\n", InstanceInitiatedShutdownBehavior="stop")
    eventually(lambda: local_cloud.instance(instance_id)["State"]["Name"] == "stopped")
    local_cloud.client("ec2").terminate_instances(InstanceIds=[instance_id])
    assert local_cloud.instance(instance_id)["State"]["Name"] == "terminated"


def test_an_interruption_warns_by_event_and_metadata_and_ends_when_it_said(local_cloud: LocalCloud) -> None:
    instance_id = local_cloud.launch()
    metadata = Metadata(local_cloud.metadata_url(instance_id))
    assert metadata.status("/latest/meta-data/spot/instance-action") == 404
    started = time.monotonic()
    ends_at = local_cloud.market.interrupt(instance_id, notice_s=3)
    action = json.loads(metadata.get("/latest/meta-data/spot/instance-action"))
    assert action == {"action": "terminate", "time": ends_at.strftime("%Y-%m-%dT%H:%M:%SZ")}
    (event,) = eventually(lambda: details(local_cloud, WARNING, instance_id))
    assert event["detail"] == {"instance-id": instance_id, "instance-action": "terminate"}
    assert event["resources"] == [f"arn:aws:ec2:us-east-1a:instance/{instance_id}"]
    assert local_cloud.instance(instance_id)["State"]["Name"] == "running"
    instance = local_cloud.ended(instance_id)
    assert time.monotonic() - started >= 3
    assert instance["StateReason"]["Code"] == "Server.SpotInstanceTermination"


def test_a_notice_that_is_taken_back_ends_nothing(local_cloud: LocalCloud) -> None:
    instance_id = local_cloud.launch()
    local_cloud.market.interrupt(instance_id, notice_s=1)
    local_cloud.market.cancel_notice(instance_id)
    assert Metadata(local_cloud.metadata_url(instance_id)).status("/latest/meta-data/spot/instance-action") == 404
    time.sleep(1.5)
    assert local_cloud.instance(instance_id)["State"]["Name"] == "running"


def test_a_rebalance_recommendation_is_an_event_and_metadata_and_ends_nothing(local_cloud: LocalCloud) -> None:
    instance_id = local_cloud.launch()
    local_cloud.market.recommend_rebalance(instance_id)
    noticed = json.loads(Metadata(local_cloud.metadata_url(instance_id)).get("/latest/meta-data/events/recommendations/rebalance"))
    assert abs((datetime.fromisoformat(noticed["noticeTime"]) - datetime.now(UTC)).total_seconds()) < 10
    eventually(lambda: details(local_cloud, "EC2 Instance Rebalance Recommendation", instance_id))
    assert local_cloud.instance(instance_id)["State"]["Name"] == "running"


def test_a_failing_host_gives_no_notice_and_no_grace(local_cloud: LocalCloud) -> None:
    instance_id = local_cloud.launch("#!/bin/bash\ntrap 'echo graceful > ended' TERM\necho > ready; while :; do sleep 0.1; done\n")
    eventually((local_cloud.root(instance_id) / "ready").exists)
    local_cloud.market.fail(instance_id)
    assert local_cloud.ended(instance_id)["StateReason"]["Code"] == "Server.InternalError"
    assert not (local_cloud.root(instance_id) / "ended").exists()
    assert details(local_cloud, WARNING, instance_id) == []


def test_metadata_wants_a_token_and_knows_the_instance(local_cloud: LocalCloud) -> None:
    tags = [{"ResourceType": "instance", "Tags": [{"Key": "dropforge:job", "Value": "a-1"}]}]
    instance_id = local_cloud.launch(TagSpecifications=tags)
    metadata = Metadata(local_cloud.metadata_url(instance_id))
    assert metadata.status("/latest/meta-data/instance-id", token="") == 401
    assert metadata.status("/latest/meta-data/instance-id", token="made-up") == 401
    assert metadata.get("/latest/meta-data/instance-id") == instance_id
    assert metadata.get("/latest/meta-data/placement/availability-zone") == "us-east-1a"
    assert metadata.get("/latest/meta-data/tags/instance/dropforge:job") == "a-1"
    assert metadata.get("/latest/meta-data/tags/instance") == "dropforge:job"
    assert metadata.status("/latest/meta-data/tags/instance/other") == 404
