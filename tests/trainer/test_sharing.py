"""What the ranks of two instances agree on before they train, here two threads with a folder each."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from jobspec.checkpoint import Identity
from jobspec.marker import FailureCode
from tests.trainer.rig import START
from tests.trainer.test_checkpoints import IDENTITY, publish
from trainer.checkpoints import CheckpointStore, Choice, verify
from trainer.failures import TrainerFailure
from trainer.ranks import Ranks
from trainer.sharing import agreed


class Pair:
    """What two threads have said to each other."""

    def __init__(self) -> None:
        self.barrier = threading.Barrier(2, timeout=60)
        self.said: list[Any] = [None, None]
        self.spoil = lambda body: body


class Thread(Ranks):
    """One rank of a pair; ``spoil`` is what the network does to a file."""

    size = 2

    def __init__(self, pair: Pair, rank: int) -> None:
        self._pair, self.rank = pair, rank

    def gather(self, value: Any) -> list[Any]:
        self._pair.said[self.rank] = value
        self._pair.barrier.wait()
        found = list(self._pair.said)
        self._pair.barrier.wait()
        return found

    def any(self, flag: bool) -> bool:
        return any(self.gather(flag))

    def of_first(self, value: Any) -> Any:
        return self.gather(value)[0]

    def copy(self, source: Path, size: int, target: Path | None) -> None:
        body = self.of_first(source.read_bytes() if self.first else None)
        assert len(body) == size
        if target is not None:
            target.write_bytes(self._pair.spoil(body))


class Nodes:
    """The folders of a leader, which chose its checkpoint, and of a member, which chose what it has."""

    def __init__(self, folder: Path) -> None:
        self.stores = [CheckpointStore(folder / name / "checkpoints", 2, lambda: START) for name in ("leader", "member")]
        for store in self.stores:
            store.open()
        self.pair = Pair()

    def agree(self, *choices: Choice, identities: tuple[Identity, Identity] = (IDENTITY, IDENTITY)) -> list[Choice]:
        """What each of the two threads comes to. Raises what one of them raised."""

        def one(rank: int) -> Choice:
            try:
                return agreed(Thread(self.pair, rank), identities[rank], choices[rank], self.stores[rank].folder, writes=True)
            except BaseException:
                self.pair.barrier.abort()  # the other does not wait
                raise

        with ThreadPoolExecutor(2) as threads:
            both = [threads.submit(one, rank) for rank in range(2)]
            failed = [error for each in both if (error := each.exception()) is not None and not isinstance(error, threading.BrokenBarrierError)]
            if failed:
                raise failed[0]
            return [each.result() for each in both]


@pytest.fixture
def nodes(tmp_path: Path) -> Nodes:
    return Nodes(tmp_path)


def chosen(folder: Path) -> Choice:
    return Choice(folder, 3, None, (), 2)


def body(folder: Path) -> bytes:
    return (folder / "optimizer.pt").read_bytes()


def test_the_leaders_checkpoint_is_brought_to_the_member_and_chosen_there(nodes: Nodes) -> None:
    leaders = publish(nodes.stores[0], 3)
    older = publish(nodes.stores[1], 1)
    first, second = nodes.agree(chosen(leaders), chosen(older))
    assert first.folder == leaders
    assert second.folder == nodes.stores[1].folder / "step-00000003"
    assert (second.step, second.ranks) == (3, 2)
    assert verify(second.folder).step == 3
    assert body(second.folder) == body(leaders)
    assert body(older)  # nothing else of the member's is touched


def test_another_checkpoint_of_the_same_step_gives_way_to_the_leaders(nodes: Nodes) -> None:
    leaders, others = publish(nodes.stores[0], 3), publish(nodes.stores[1], 3)
    assert body(others) != body(leaders)
    nodes.agree(chosen(leaders), chosen(others))
    assert body(others) == body(leaders)


def test_a_checkpoint_that_did_not_arrive_whole_is_refused_and_is_not_there(nodes: Nodes) -> None:
    nodes.pair.spoil = lambda sent: sent[:-1] + bytes([sent[-1] ^ 1])
    with pytest.raises(TrainerFailure, match="the leader's checkpoint did not arrive whole") as raised:
        nodes.agree(chosen(publish(nodes.stores[0], 3)), Choice(None, 0, None, (), 2))
    assert raised.value.code is FailureCode.TRAINER_ERROR
    assert not (nodes.stores[1].folder / "step-00000003").exists()


def test_a_member_with_a_checkpoint_begins_anew_where_the_leader_does(nodes: Nodes) -> None:
    mine = publish(nodes.stores[1], 3)
    for choice in nodes.agree(Choice(None, 0, None, (), 2), chosen(mine)):
        assert choice.folder is None


def test_instances_with_other_rows_do_not_train_together(nodes: Nodes) -> None:
    other = IDENTITY.model_copy(update={"data_sha256": "c" * 64})
    with pytest.raises(TrainerFailure, match="other runs before them") as raised:
        nodes.agree(Choice(None, 0, None, (), 2), Choice(None, 0, None, (), 2), identities=(IDENTITY, other))
    assert raised.value.code is FailureCode.IDENTITY_CHANGED


@pytest.mark.torch
def test_each_rank_of_another_number_draws_anew_and_the_same_at_each_start() -> None:
    from types import SimpleNamespace

    import torch

    from trainer.gathered import Gathered

    def seed(rank: int, step: int = 3, size: int = 2) -> int:
        trainer: Any = Gathered()
        trainer.ranks, trainer.ranks_before = SimpleNamespace(size=size, rank=rank), 1
        trainer.args, trainer.state = SimpleNamespace(seed=7), SimpleNamespace(global_step=step)
        torch.manual_seed(0)
        trainer._load_rng_state("/nowhere")
        return torch.initial_seed()

    assert seed(0) == seed(0)
    assert len({seed(0), seed(1), seed(0, step=4), seed(0, size=4), 0}) == 5


@pytest.mark.torch
def test_each_rank_of_a_new_run_draws_its_own_dropout() -> None:
    from types import SimpleNamespace

    import torch

    from trainer.story import _step_to_end

    seeds = []
    for rank in range(2):
        trainer = SimpleNamespace(args=SimpleNamespace(seed=7), ranks=SimpleNamespace(rank=rank), train=lambda: seeds.append(torch.initial_seed()))
        _step_to_end(trainer, Choice(None, 0, None, (), 1), 10)
    assert seeds == [7, 8]
