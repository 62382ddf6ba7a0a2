"""The walk of a spot warning through the warned instance and its replacement, as docs/architecture.md tells it."""

from agent.world import AgentExit
from jobspec.heartbeat import Phase
from tests.agent.cloud import SECOND, Cloud, until
from tests.agent.conftest import Launch
from tests.walks import missed, steps, walked


def test_a_warned_instance_hands_over_as_the_page_tells_it(cloud: Cloud, launch: Launch) -> None:
    cloud.orders(save_every=1000, hold_at=8)
    cloud.ticket(max_steps=1_000_000)
    first = launch()
    with walked() as calls:
        first.start()
        until(lambda: (first.folders.run / "progress.jsonl").exists() and cloud.heartbeat().step == 8)
        noticed = len(calls)
        first.imds.interrupt(60)
        assert first.join() is AgentExit.HANDED_OVER
    assert cloud.heartbeat().phase is Phase.HANDED_OVER
    told = steps("On the warned instance")
    assert len(told) > 7
    assert missed(told, calls[noticed:]) == []


def test_the_replacement_goes_on_as_the_page_tells_it(cloud: Cloud, launch: Launch) -> None:
    cloud.orders(save_every=5)
    cloud.ticket(max_steps=20)
    assert launch().run() is AgentExit.FINISHED
    cloud.replacement(until_s=120, max_steps=20)
    with walked() as calls:
        assert launch(SECOND).run() is AgentExit.FINISHED
    told = steps("On the replacement")
    assert len(told) > 3
    assert missed(told, calls) == []
