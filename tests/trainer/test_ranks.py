"""Several ranks, here two processes on the CPU over gloo: they take the steps of one, stop together, go down together, and go on with the same bits."""

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.trainer.forked import Forked, Plant
from tests.trainer.planted import Due, Held, Memory, Signalled, TooLong
from tests.trainer.rig import curve, do_run, lines, make_run, results, resumable_copy
from tests.trainer.test_process import start, wait_for_step
from trainer.checkpoints import verify

pytestmark = pytest.mark.torch

LORA = {"r": 4, "alpha": 8, "dropout": 0.1}
ADAPTERS: dict[str, dict[str, Any]] = {"lora": LORA, "full": {"type": "full"}}
#: 38 rows, 8 a step, two micro-batches of each rank: the last step of an epoch has 6, and the second epoch is passed.
TRAINING = {"max_steps": 12, "micro_batch_size": 2}
PATIENCE_S = 600

Begin = Callable[..., Forked]


@pytest.fixture(scope="module")
def begin() -> Iterator[Begin]:
    """Starts a run, what the test wants planted in its ranks; ends what a failed test leaves."""
    begun: list[Forked] = []

    def begin(folder: Path, *plants: Plant) -> Forked:
        begun.append(Forked(folder, *plants))
        return begun[-1]

    yield begin
    for each in begun:
        if each.poll() is None:
            each.kill()


def ended(process: Forked | subprocess.Popen[bytes], folder: Path, code: int) -> dict[str, Any]:
    """The last progress line, once the run has ended with that exit code."""
    assert process.wait(PATIENCE_S) == code, (folder / "trainer.log").read_text()
    return lines(folder)[-1]


def losses(folder: Path) -> list[float]:
    return [entry["loss"] for entry in curve(folder) if "loss" in entry]


class Wholes(dict[str, Path]):
    """Uninterrupted runs of two ranks, for an adapter and for every weight, each made when it is first asked for, with a checkpoint of each step."""

    def __init__(self, model: Path, folder: Path, begin: Begin) -> None:
        super().__init__()
        self._model, self._folder, self._begin = model, folder, begin

    def __missing__(self, name: str) -> Path:
        folder = self._folder / name
        make_run(folder, self._model, processes=2, adapter=ADAPTERS[name], checkpoint={"keep": 20}, training=TRAINING)
        ended(self._begin(folder, Due(0)), folder, 0)
        self[name] = folder
        return folder


@pytest.fixture(scope="module")
def wholes(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory, begin: Begin) -> Wholes:
    """Copy them; do not change them."""
    return Wholes(tiny_model, tmp_path_factory.mktemp("wholes"), begin)


@pytest.mark.parametrize("name", ["lora", "full"])
def test_a_run_stopped_within_steps_and_killed_at_one_rank_ends_with_the_bits_of_one_that_was_not(
    begin: Begin, wholes: Wholes, tiny_model: Path, tmp_path: Path, name: str
) -> None:
    make_run(tmp_path, tiny_model, adapter=ADAPTERS[name], processes=2, training=TRAINING)
    # The second rank alone is told, in both; the first alone decides whether the step is finished.
    told = ended(begin(tmp_path, Signalled(1, 3, signal.SIGTERM, within=True), TooLong(0)), tmp_path, 75)
    assert told["kind"] == "interrupted"
    assert "stopped within step 4" in told["message"]
    manifest = verify(tmp_path / "checkpoints/step-00000003")
    assert manifest.identity.world_size == 2
    assert {"rng_state_0.pth", "rng_state_1.pth"} <= {file.path for file in manifest.files}

    told = ended(begin(tmp_path, Signalled(1, 5, signal.SIGTERM, within=True), TooLong(1)), tmp_path, 75)
    assert "at a step boundary, saved as step 6" in told["message"]

    told = ended(begin(tmp_path, Signalled(1, 8, signal.SIGKILL)), tmp_path, 74)
    # Its signal is named where torchrun looked before the other rank, which had lost it, had gone as well.
    assert told["message"].startswith(("rank 1 was ended by SIGKILL:", "rank 1 ended without a word:"))

    ended(begin(tmp_path), tmp_path, 0)
    assert [line["step"] for line in lines(tmp_path, "resumed")] == [3, 6, 6]
    assert results(tmp_path)["weights_sha256"] == results(wholes[name])["weights_sha256"]
    assert curve(tmp_path) == curve(wholes[name])


def test_a_stop_of_the_starting_process_is_a_stop_of_its_ranks(begin: Begin, tiny_model: Path, tmp_path: Path) -> None:
    make_run(tmp_path, tiny_model, processes=2, training={"max_steps": 1_000_000, "packing": False})
    process = begin(tmp_path)
    wait_for_step(process, tmp_path, 1, PATIENCE_S)
    os.kill(process.pid, signal.SIGTERM)
    assert ended(process, tmp_path, 75)["kind"] == "interrupted"
    assert verify(tmp_path / f"checkpoints/step-{lines(tmp_path, 'step')[-1]['step']:08d}")


def test_the_end_of_the_starting_process_is_the_end_of_its_ranks(tiny_model: Path, tmp_path: Path) -> None:
    make_run(tmp_path, tiny_model, processes=2, training={"max_steps": 1_000_000, "packing": False})
    process = start(tmp_path)
    wait_for_step(process, tmp_path, 1, PATIENCE_S)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    ranks = [pid for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    assert len(ranks) == 2
    process.kill()
    process.wait(PATIENCE_S)
    while any(Path(f"/proc/{pid}").exists() for pid in ranks):  # the suite's own time limit ends this
        time.sleep(0.01)


def test_two_ranks_with_an_adapter_take_the_steps_of_one_which_can_go_on_where_they_ended(begin: Begin, tiny_model: Path, tmp_path: Path) -> None:
    alone, together, changed = tmp_path / "alone", tmp_path / "together", tmp_path / "changed"
    settings: dict[str, Any] = {"adapter": LORA | {"dropout": 0}, "checkpoint": {"keep": 20}, "training": TRAINING}
    assert do_run(make_run(alone, tiny_model, **settings)) == 0
    make_run(together, tiny_model, processes=2, **settings)
    ended(begin(together, Due(0)), together, 0)
    assert [line["step"] for line in lines(together, "checkpoint")] == list(range(1, 13))  # the first rank's clock decides
    same_steps(together, alone)
    run_file = resumable_copy(together, changed, 7)
    run_file.write_text(json.dumps(json.loads(run_file.read_text()) | {"processes": 1}))
    assert do_run(run_file) == 0, lines(changed)[-1]
    resumed = lines(changed, "resumed")[-1]
    assert resumed["step"] == 7
    assert "made by 2 GPUs or processes and continued by 1" in resumed["message"]
    assert losses(changed) == pytest.approx(losses(alone), rel=2e-4)


def same_steps(together: Path, alone: Path) -> None:
    """To the order of sums: the first step's to 1e-6, from which the next ones go further apart."""
    first, other = (next(entry for entry in curve(folder) if "loss" in entry) for folder in (together, alone))
    assert {name: first[name] for name in ("loss", "grad_norm")} == pytest.approx({name: other[name] for name in ("loss", "grad_norm")}, rel=1e-6)
    assert losses(together) == pytest.approx(losses(alone), rel=2e-4)
    assert results(together)["tokens"] == results(alone)["tokens"]
    for when in ("before", "after"):
        assert results(together)[f"eval_loss_{when}"] == pytest.approx(results(alone)[f"eval_loss_{when}"], rel=2e-4)


def test_two_ranks_that_train_every_weight_take_the_steps_of_one_which_cannot_go_on_with_their_optimizer(
    wholes: Wholes, tiny_model: Path, tmp_path: Path
) -> None:
    alone, changed = tmp_path / "alone", tmp_path / "changed"
    assert do_run(make_run(alone, tiny_model, adapter={"type": "full"}, checkpoint={"keep": 20}, training=TRAINING)) == 0
    same_steps(wholes["full"], alone)
    run_file = resumable_copy(wholes["full"], changed, 7)
    run_file.write_text(json.dumps(json.loads(run_file.read_text()) | {"processes": 1}))
    assert do_run(run_file) == 1
    assert "was made by 2 GPUs or processes, this run has 1" in lines(changed)[-1]["message"]


def test_one_process_is_gone_on_with_by_two(begin: Begin, tiny_model: Path, tmp_path: Path) -> None:
    """Without packing, whose order of rows is another."""
    alone, changed = tmp_path / "alone", tmp_path / "changed"
    settings: dict[str, Any] = {"adapter": LORA | {"dropout": 0}, "training": TRAINING | {"packing": False}}
    steady = iter(range(10**9))
    assert do_run(make_run(alone, tiny_model, checkpoint={"interval": 600, "keep": 20}, **settings), clock=lambda: next(steady) * 600.0) == 0
    path = resumable_copy(alone, changed, 3)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"processes": 2}))
    ended(begin(changed, Due(1)), changed, 0)
    assert [line["step"] for line in lines(changed, "checkpoint")] == [12]  # the second rank's clock decides nothing
    assert lines(changed, "resumed")[-1]["step"] == 3
    assert losses(changed) == pytest.approx(losses(alone), rel=2e-4)
    assert results(changed)["tokens"] == results(alone)["tokens"]


def test_memory_that_one_rank_lacks_halves_the_micro_batch_of_all_and_a_resume_keeps_it(begin: Begin, tiny_model: Path, tmp_path: Path) -> None:
    make_run(tmp_path, tiny_model, processes=2, training={"max_steps": 4, "micro_batch_size": 4})
    ended(begin(tmp_path, Memory(1, rows=2), Signalled(0, 2, signal.SIGTERM)), tmp_path, 75)
    (warning,) = lines(tmp_path, "warning")
    assert "a micro-batch of 4 of the longest rows does not fit into memory; 2 is tried" in warning["message"]
    ended(begin(tmp_path), tmp_path, 0)
    assert ["packed on 2 x 2 x 2 ranks lines" in line["message"] for line in lines(tmp_path, "started")] == [True, True]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_two_instances_stop_together_go_down_together_and_end_with_the_bits_of_one_with_two_ranks(
    begin: Begin, wholes: Wholes, tiny_model: Path, tmp_path: Path
) -> None:
    """Two runs with folders of their own on this machine's loopback; only the first has checkpoints, and sends them to the second."""
    rendezvous, nodes = f"127.0.0.1:{free_port()}", [tmp_path / "first", tmp_path / "second"]
    for rank, folder in enumerate(nodes):
        make_run(folder, tiny_model, nodes=2, node_rank=rank, rendezvous=rendezvous, adapter=LORA, training=TRAINING)

    def begin_both(*plants: Plant) -> list[Forked]:
        return [begin(folder, *plants) for folder in reversed(nodes)][::-1]  # the second waits for the first

    for process, folder in zip(begin_both(Signalled(1, 3, signal.SIGTERM)), nodes, strict=True):
        ended(process, folder, 75)
    assert [lines(folder, "step")[-1]["step"] for folder in nodes] == [4, 4]
    assert verify(nodes[0] / "checkpoints/step-00000004")
    assert not (nodes[1] / "checkpoints/step-00000004").exists()

    first, second = begin_both(Held(1, 8))
    wait_for_step(first, nodes[0], 8, PATIENCE_S)
    second.kill()
    assert "the last checkpoint counts" in ended(first, nodes[0], 74)["message"]
    assert verify(nodes[1] / "checkpoints/step-00000004")  # the first sent it

    for process, folder in zip(begin_both(), nodes, strict=True):
        assert ended(process, folder, 0)["kind"] == "completed"
    assert results(nodes[0])["weights_sha256"] == results(wholes["lora"])["weights_sha256"]
    assert curve(nodes[0]) == curve(wholes["lora"])
    assert not (nodes[1] / "final").exists()


def test_an_instance_that_waits_for_the_others_hears_a_stop(begin: Begin, tiny_model: Path, tmp_path: Path) -> None:
    make_run(tmp_path, tiny_model, nodes=2, node_rank=1, rendezvous=f"127.0.0.1:{free_port()}")
    process = begin(tmp_path)
    deadline = time.monotonic() + PATIENCE_S
    while not lines(tmp_path, "data"):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    (tmp_path / "stop").touch()
    ended(process, tmp_path, 75)
