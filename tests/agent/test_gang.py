"""Two instances that train together, as their agents see it; that their trainers stop at the same step is tests/trainer/test_nodes.py's."""

import json
from typing import Any

import pytest

from agent.orders import gpus_of
from agent.world import AgentExit
from jobspec.heartbeat import Phase
from jobspec.marker import FailureCode, Outcome
from jobspec.ticket import Gang
from tests.agent.cloud import FIRST, JOB, SECOND, Cloud, Instance, until, writer
from tests.agent.conftest import Launch

ADDRESSES = ("10.0.1.7", "10.0.1.9")
#: Twice the work of one instance, on a machine that may be busy.


def gang(cloud: Cloud, **changes: Any) -> None:
    """Tickets for two instances, of which the first leads."""
    members = (writer(FIRST), writer(SECOND))
    for rank, instance in enumerate((FIRST, SECOND)):
        told = Gang(size=2, rank=rank, leader_address=ADDRESSES[0], members=members, addresses=ADDRESSES)
        cloud.ticket(instance, gang=told, **changes)


def trains(cloud: Cloud, instance: Instance, name: str) -> bool:
    return (instance.folders.run / "progress.jsonl").exists() and cloud.heartbeat(name).step >= 3


def run_file(instance: Instance) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((instance.folders.run / "run.json").read_text())
    return found


def test_the_leader_alone_publishes_and_marks_and_the_member_ends_with_it(cloud: Cloud, launch: Launch) -> None:
    gang(cloud)
    leader, member = launch(FIRST), launch(SECOND)
    member.start()
    until(lambda: member.host.starts == 1 and cloud.heartbeat(SECOND).phase is Phase.WAITING)  # its trainer is done: it waits
    leader.start()
    assert leader.join() is AgentExit.FINISHED
    assert member.join() is AgentExit.FINISHED
    marker = cloud.marker(FIRST)
    assert marker is not None
    assert marker.outcome is Outcome.COMPLETED
    assert cloud.marker(SECOND) is None
    assert cloud.whole_checkpoints(FIRST)
    assert cloud.whole_checkpoints(SECOND) == {}
    assert not [key for key in cloud.keys(f"runs/{JOB}/{writer(SECOND)}/") if "/final/" in key]
    assert cloud.heartbeat(SECOND).phase is Phase.FINISHED
    for rank, instance in enumerate((leader, member)):
        assert [run_file(instance)[name] for name in ("nodes", "node_rank", "rendezvous")] == [2, rank, "10.0.1.7:29400"]
        assert (instance.folders.control / "gang").read_text().split() == list(ADDRESSES)


@pytest.mark.parametrize("warned", [FIRST, SECOND])
def test_a_notice_at_one_of_them_is_a_last_save_by_the_leader_and_a_hand_over_of_both(cloud: Cloud, launch: Launch, warned: str) -> None:
    cloud.orders(step_s=0.02, save_every=1000)
    gang(cloud, max_steps=5000)
    both = {name: launch(name) for name in (FIRST, SECOND)}
    for instance in both.values():
        instance.start()
    until(lambda: all(trains(cloud, instance, name) for name, instance in both.items()))
    both[warned].imds.interrupt(30)
    (other,) = [instance for name, instance in both.items() if name != warned]
    until((both[warned].folders.run / "stop").exists)
    (other.folders.run / "stop").touch()  # the trainers agree to stop
    assert [instance.join() for instance in both.values()] == [AgentExit.HANDED_OVER] * 2
    assert [cloud.marker(name) for name in both] == [None, None]
    assert [cloud.heartbeat(name).phase for name in both] == [Phase.HANDED_OVER] * 2
    last = cloud.heartbeat(FIRST)
    assert set(cloud.whole_checkpoints(FIRST)) == {last.step}
    assert cloud.whole_checkpoints(SECOND) == {}


def test_a_member_that_cannot_take_part_ends_the_gang_with_its_reason(cloud: Cloud, launch: Launch) -> None:
    cloud.orders(step_s=0.02)
    gang(cloud, max_steps=5000)
    leader, member = launch(FIRST), launch(SECOND, free=lambda _: 10)
    leader.start()
    member.start()
    assert member.join() is AgentExit.FINISHED
    assert leader.join() is AgentExit.FINISHED
    marker = cloud.marker(FIRST)
    assert marker is not None
    assert marker.failure is not None
    assert marker.failure.code is FailureCode.DISK_FULL
    assert marker.failure.message.startswith("instance 1 of 2: ")


def test_a_stop_order_ends_both_and_only_the_leader_says_so(cloud: Cloud, launch: Launch) -> None:
    cloud.orders(step_s=0.02, save_every=1000)
    gang(cloud, max_steps=5000)
    both = {name: launch(name) for name in (FIRST, SECOND)}
    for instance in both.values():
        instance.start()
    until(lambda: all(trains(cloud, instance, name) for name, instance in both.items()))
    for name in both:
        cloud.order_stop(instance_id=name)
    assert [instance.join() for instance in both.values()] == [AgentExit.FINISHED] * 2
    marker = cloud.marker(FIRST)
    assert marker is not None
    assert marker.outcome is Outcome.STOPPED
    assert cloud.marker(SECOND) is None


def test_a_trainer_of_a_member_that_died_is_started_again_in_place(cloud: Cloud, launch: Launch) -> None:
    cloud.orders(step_s=0.02)
    gang(cloud, max_steps=400)
    leader, member = launch(FIRST), launch(SECOND)
    leader.start()
    member.start()
    until(lambda: trains(cloud, member, SECOND))
    member.host.kill_trainer()
    until(lambda: member.host.starts == 2)
    assert leader.join() is AgentExit.FINISHED
    assert member.join() is AgentExit.FINISHED
    assert cloud.marker(SECOND) is None


def test_all_gpus_of_the_instance_train(cloud: Cloud, launch: Launch) -> None:
    cloud.ticket()
    instance = launch()
    instance.imds.instance_type = "g5.12xlarge"
    assert instance.run() is AgentExit.FINISHED
    assert run_file(instance)["processes"] == 4


@pytest.mark.parametrize(
    ("instance_type", "method", "adapter", "gpus"),
    [
        ("g5.xlarge", "sft", "lora", 1),
        (None, "sft", "lora", 1),
        ("x9.huge", "sft", "lora", 1),
        ("p4d.24xlarge", "dpo", "lora", 8),
        ("p4d.24xlarge", "sft", "full", 8),
        ("p4d.24xlarge", "dpo", "full", 1),
    ],
)
def test_as_many_gpus_train_as_the_instance_has_and_the_method_can(cloud: Cloud, instance_type: str | None, method: str, adapter: str, gpus: int) -> None:
    ticket = cloud.ticket(manifest={"method": method, "adapter": {"type": adapter}})
    assert gpus_of(instance_type, ticket.manifest) == gpus
