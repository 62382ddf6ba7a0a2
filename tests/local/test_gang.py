"""Two instances that train one job together, in the local cloud: the loss of one is a hand-over of both."""

from pathlib import Path

import pytest

from dropforge.jobs.follow import Follower
from dropforge.local.market import Market
from dropforge.local.state import CloudState
from dropforge.stack import Stack
from tests.local.test_whole_flow import MANIFEST, drop, end_of, stack, until

__all__ = ["stack"]
pytestmark = [pytest.mark.local_cloud, pytest.mark.torch]


def test_two_instances_train_together_and_go_on_as_two_others_when_one_is_taken(stack: tuple[CloudState, Stack, Path], tmp_path: Path) -> None:
    state, there, home = stack
    name = drop(there, tmp_path, name="pair", compute={"instance_types": ["g5.xlarge"], "nodes": 2}, training=MANIFEST["training"] | {"max_steps": 400})
    follower, market = Follower(there, name), Market(state)

    def step() -> int:
        list(follower.look())
        return follower.heartbeats[1].step if 1 in follower.heartbeats else 0

    until(lambda: step() >= 5, "the gang's fifth step")
    assert follower.status is not None
    (first,) = follower.status.attempts
    assert len([machine for machine in market.instances() if machine.live]) == 2
    market.interrupt(first.others[0])
    status = end_of(there, home, name)
    assert (status.state, len(status.attempts)) == ("SUCCEEDED", 2), status.reason
    before, after = status.attempts
    assert (len(before.others), len(after.others)) == (1, 1)
    assert before.last_step is not None
    assert before.last_step >= 5
    assert after.first_step == before.last_step, "no step lost, none trained twice"
    until(lambda: all(machine.state == "terminated" for machine in market.instances()), "the end of every instance")
    assert len(market.instances()) == 4
