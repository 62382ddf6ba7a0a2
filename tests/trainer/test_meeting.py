"""Where instances meet, two of them in this process: whose word counts, who is gone, and what is told of how each ended."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from jobspec.runfile import RunFile
from tests.trainer.test_ranks import free_port
from trainer.stop import StopRequested, StopSignal
from trainer.words import Ended, word

pytestmark = pytest.mark.torch

AT = datetime(2026, 11, 25, tzinfo=UTC)


def quickly(seconds: float) -> None:
    """In place of a second's sleep: what is waited for comes from another thread."""
    threading.Event().wait(seconds / 1000)


@pytest.fixture
def meet() -> Callable[[], tuple[Any, Any]]:
    """Meetings of the leader and of a member of one new run."""
    from trainer.meeting import Meeting

    def meet() -> tuple[Any, Any]:
        rendezvous = f"127.0.0.1:{free_port()}"
        runs = [RunFile(job_id="job-1", model_reference="x", nodes=2, node_rank=rank, rendezvous=rendezvous) for rank in range(2)]
        leader, member = (Meeting(run, StopSignal(), quickly) for run in runs)
        return leader, member

    return meet


def test_all_take_what_the_leader_says_once_all_are_there(meet: Callable[[], tuple[Any, Any]]) -> None:
    leader, member = meet()
    assert leader.name == member.name != ""
    assert leader.assemble("4") == "4"
    assert member.assemble("2") == "4"


def test_an_instance_that_is_silent_for_half_a_minute_is_gone_unless_it_said_that_it_is_done(meet: Callable[[], tuple[Any, Any]]) -> None:
    leader, member = meet()
    heard: dict[int, tuple[int, float]] = {}
    member._look({}, 0.0)  # it is there
    assert leader._look(heard, 0.0) is None
    assert leader._look(heard, 30.0) is None
    found = leader._look(heard, 30.5)
    assert found is not None
    assert found.ended is Ended.LOST
    assert "instance 1 has said nothing for 30 s" in found.message
    member._look({}, 31.0)
    assert leader._look(heard, 61.0) is None  # it was heard again
    member.leave(word(Ended.COMPLETED, AT))
    assert leader._look(heard, 1000.0) is None


@pytest.mark.parametrize("ends", [Ended.FAILED, Ended.TOO_LARGE, Ended.LOST])
def test_how_an_instance_ended_badly_is_known_to_the_others(meet: Callable[[], tuple[Any, Any]], ends: Ended) -> None:
    leader, member = meet()
    told = threading.Event()
    leader.watch(told.set)
    member.leave(word(ends, AT, "CUDA out of memory"))
    found = leader.ended(60)
    assert told.wait(60)
    assert found is not None
    assert (found.ended, found.message) == (ends, "instance 1: CUDA out of memory")


def test_a_leader_that_is_gone_is_lost(meet: Callable[[], tuple[Any, Any]]) -> None:
    from trainer.meeting import Lost

    leader, member = meet()
    leader._store = None  # with the last reference its store ends
    with pytest.raises(Lost, match="instance 0 is gone"):
        member.assemble("2")


def test_a_start_that_is_over_is_not_joined_again(meet: Callable[[], tuple[Any, Any]], tmp_path: Path) -> None:
    from trainer.meeting import Meeting

    leader, member = meet()
    member.leave(word(Ended.LOST, AT, "it ended"))
    stop = StopSignal()
    stop.watch(tmp_path / "stop")

    def and_stop(_seconds: float) -> None:
        (tmp_path / "stop").touch()

    with pytest.raises(StopRequested, match="waiting for the other instances"):
        Meeting(member._run, stop, and_stop)
    assert leader.name
