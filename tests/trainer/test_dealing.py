"""Which rank reads which rows, and how a run on several GPUs is split, refused and answered for: without torch."""

import itertools
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from jobspec.batches import micro_batches, undivided
from jobspec.marker import FailureCode
from jobspec.runfile import RunFile
from tests.trainer.rig import do_run, failure, lines, make_run
from trainer import launch
from trainer.dealing import Deal, dealt, shared
from trainer.failures import TrainerFailure
from trainer.launch import RanksLost, _verdict
from trainer.packing import plan_packing
from trainer.ranks import Ranks, SharedStop
from trainer.stop import StopRequested, StopSignal
from trainer.words import Ended, Words, word

AT = datetime(2026, 11, 25, tzinfo=UTC)

sizes = some.tuples(some.integers(1, 60), some.integers(1, 4), some.integers(1, 4), some.integers(1, 4))


@given(sizes)
def test_a_step_reads_the_same_rows_whatever_the_number_of_ranks(drawn: tuple[int, int, int, int]) -> None:
    rows, micro_batch, accumulation, ranks = drawn
    whole = micro_batch * accumulation * ranks
    epoch = Deal(lambda epoch: list(np.random.default_rng(epoch).permutation(rows)), whole, micro_batch, ranks).epoch(3)
    order = list(np.random.default_rng(3).permutation(rows))
    assert len(epoch) % ranks == 0
    assert all(1 <= len(each) <= micro_batch for each in epoch)
    read = [row for each in epoch for row in each]
    assert list(dict.fromkeys(read)) == order
    # Only an epoch's last rows, where they do not go round.
    again = len(read) - rows
    assert again < ranks
    assert not again or (rows % whole) % ranks


@given(sizes)
def test_every_held_out_row_counts_once_and_every_rank_has_as_many_batches(drawn: tuple[int, int, int, int]) -> None:
    rows, batch, _, ranks = drawn
    shares = [shared(rows, batch, rank, ranks) for rank in range(ranks)]
    assert len({len(share) for share in shares}) == 1
    assert sorted(row for share in shares for batch, counts in share for row in batch if counts) == list(range(rows))


@given(sizes, some.lists(some.integers(1, 40), min_size=1, max_size=60))
def test_packed_rows_come_once_each_with_a_micro_batch_for_every_rank(drawn: tuple[int, int, int, int], lengths: list[int]) -> None:
    _, lines_of, accumulation, ranks = drawn
    settings: dict[str, Any] = {"global_batch": lines_of * accumulation * ranks, "lines": lines_of, "capacity": max(lengths), "seed": 1, "epochs": 2}
    sizes = np.array(lengths)
    plan = plan_packing(sizes, **settings, ranks=ranks, stop=StopSignal())
    alone = plan_packing(sizes, **settings, stop=StopSignal())
    epoch = plan.epoch(1)
    assert len(epoch) == plan.micro_batches
    assert len(epoch) % ranks == 0
    assert sorted(row for lines in epoch for line in lines for row in line) == list(range(len(lengths)))
    assert all(len(lines) <= lines_of for lines in epoch)
    step = plan.accumulation * ranks
    first, first_alone = (
        {row for lines in of[:count] for line in lines for row in line} for of, count in ((epoch, step), (alone.epoch(1), alone.accumulation))
    )
    assert first == first_alone


def test_a_share_of_rows_is_dealt_evenly() -> None:
    assert dealt(list(range(6)), 4, 2) == [[0, 1, 2], [3, 4, 5]]
    assert dealt(list(range(8)), 2, 2) == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert dealt([7], 4, 2) == [[7], [7]]


@pytest.mark.parametrize(
    ("whole", "wanted", "ranks", "least", "expected"),
    [(16, 4, 4, 1, (4, 2, 1)), (16, 4, 8, 1, (2, 1)), (12, 6, 1, 1, (6, 3, 1)), (24, 8, 2, 1, (6, 3, 1)), (24, 8, 2, 2, (6, 3)), (6, 4, 4, 1, ())],
)
def test_the_micro_batch_divides_each_gpus_share(whole: int, wanted: int, ranks: int, least: int, expected: tuple[int, ...]) -> None:
    assert micro_batches(whole, wanted, ranks, least) == expected


def test_a_global_batch_that_cannot_be_split_is_refused_with_the_nearest_that_can(tmp_path: Path) -> None:
    assert undivided(16, 4) is None
    told = undivided(6, 4)
    assert told is not None
    assert told.endswith("cannot be split evenly over 4 GPUs: the nearest that can is 4 or 8")
    assert str(undivided(3, 4)).endswith("is 4")
    assert "2 rows of a micro-batch at least for each: the nearest that can is 8 or 16" in str(undivided(12, 4, 2))
    assert do_run(make_run(tmp_path, processes=3)) == 1
    code, message = failure(tmp_path)
    assert code == "trainer_error"
    assert "training.global_batch_size 8 cannot be split evenly over 3 GPUs: the nearest that can is 6 or 9" in message


@pytest.mark.parametrize(("fields", "told"), [({"method": "dpo"}, "method dpo"), ({"training": {"dtype": "float16"}}, "training.dtype float16")])
def test_full_training_on_several_gpus_is_refused_where_it_is_not_done(tmp_path: Path, fields: dict[str, Any], told: str) -> None:
    assert do_run(make_run(tmp_path, processes=2, adapter={"type": "full"}, **fields)) == 1
    assert told in failure(tmp_path)[1]


def test_what_was_a_failure_of_one_rank_is_the_failure_of_the_run() -> None:
    lost, failed = word(Ended.LOST, AT, "closed by peer"), word(Ended.FAILED, AT + timedelta(seconds=1), "CUDA out of memory", FailureCode.OUT_OF_MEMORY)
    with pytest.raises(TrainerFailure, match=r"rank 1: CUDA out of memory") as raised:
        _verdict({0: lost, 1: failed}, [], {})
    assert raised.value.code is FailureCode.OUT_OF_MEMORY
    with pytest.raises(RanksLost, match="rank 1 was ended by SIGKILL"):
        _verdict({0: lost}, [1], {1: -9})
    with pytest.raises(RanksLost, match="rank 1 ended without a word"):
        _verdict({0: lost}, [1], {})
    with pytest.raises(StopRequested, match="at a step boundary"):
        _verdict({rank: word(Ended.INTERRUPTED, AT, "at a step boundary") for rank in range(2)}, [], {})
    assert _verdict({rank: word(Ended.COMPLETED, AT) for rank in range(2)}, [], {}) is None


def test_last_words_are_whole_or_not_there(tmp_path: Path) -> None:
    words = Words(tmp_path)
    words.say(0, word(Ended.COMPLETED, AT))
    (tmp_path / "rank-1.json").write_text('{"ended": "comp')
    assert words.of(0) == word(Ended.COMPLETED, AT)
    assert words.of(1) is None
    assert words.of(2) is None


def test_a_micro_batch_that_is_too_large_for_one_rank_is_halved_for_all(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []

    def ended(_room: Any, task: Any, _meeting: Any) -> str | None:
        tried.append(task.micro_batch)
        return "CUDA out of memory" if task.micro_batch > most else None

    monkeypatch.setattr(launch, "_ended", ended)
    most = 1
    path = make_run(tmp_path, tiny_model, processes=2)
    assert do_run(path) == 0
    assert tried == [4, 2, 1]
    assert ["a micro-batch of 4" in line["message"] for line in lines(tmp_path, "warning")] == [True, False]
    most = 0
    assert do_run(path) == 1
    assert failure(tmp_path)[0] == "out_of_memory"
    assert "not even with a micro-batch of 1" in failure(tmp_path)[1]


def test_a_stop_that_one_rank_hears_is_agreed_on_once() -> None:
    class Two(Ranks):
        size = 2
        other, asked = False, 0

        def any(self, flag: bool) -> bool:
            self.asked += 1
            return flag or self.other

    ranks, own = Two(), StopSignal()
    stop = SharedStop(ranks, own)
    assert not stop.requested()
    ranks.other = True
    assert not stop.asked()  # not before all have looked
    assert stop.requested()
    assert stop.requested()
    assert stop.asked()
    assert ranks.asked == 2  # what is agreed needs no further word


def test_a_run_file_says_how_many_train(tmp_path: Path) -> None:
    run = RunFile.model_validate(json.loads(make_run(tmp_path, processes=4).read_text()))
    assert run.ranks == 4
    assert [run.model_copy(update={"processes": count}).ranks for count in itertools.islice(itertools.count(1), 2)] == [1, 2]
