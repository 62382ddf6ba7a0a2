"""Several ranks, here two processes on the CPU over gloo: they take the steps of one, stop together, go down together, and go on with the same bits."""

import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.trainer.rig import do_run, lines, make_run, results, resumable_copy
from tests.trainer.test_process import start, wait_for_step
from trainer.checkpoints import verify

pytestmark = pytest.mark.torch

LORA = {"r": 4, "alpha": 8, "dropout": 0.1}
FULL = {"type": "full"}
ADAPTERS: dict[str, dict[str, Any]] = {"lora": LORA, "full": FULL}
PATIENCE_S = 600


def ranks_of(process: subprocess.Popen[bytes]) -> list[int]:
    """The processes of the ranks, in order: torch starts them one after the other."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return sorted(int(pid) for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes())


def run_to(folder: Path, code: int) -> None:
    assert start(folder).wait(PATIENCE_S) == code, (folder / "trainer.log").read_text()


def losses(folder: Path) -> list[float]:
    return [entry["loss"] for entry in curve(folder) if "loss" in entry]


def curve(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "final/metrics.jsonl").read_text().splitlines()]


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


class Wholes(dict[str, Path]):
    """Uninterrupted runs of two ranks, for an adapter and for every weight, each made when it is first asked for."""

    def __init__(self, model: Path, folder: Path) -> None:
        super().__init__()
        self._model, self._folder = model, folder

    def __missing__(self, name: str) -> Path:
        settings: dict[str, Any] = {"adapter": ADAPTERS[name], "checkpoint": {"interval": 1, "keep": 20}, "training": {"max_steps": 30}}
        make_run(self._folder / name, self._model, processes=2, **settings)
        run_to(self._folder / name, 0)
        self[name] = self._folder / name
        return self[name]


@pytest.fixture(scope="module")
def wholes(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Wholes:
    """Copy them; do not change them."""
    return Wholes(tiny_model, tmp_path_factory.mktemp("wholes"))


@pytest.mark.parametrize(("name", "adapter"), [("lora", LORA), ("full", FULL)])
def test_a_run_stopped_at_one_rank_and_killed_at_another_step_ends_with_the_bits_of_one_that_was_not(
    wholes: Wholes, tiny_model: Path, tmp_path: Path, name: str, adapter: dict[str, Any]
) -> None:
    make_run(tmp_path, tiny_model, adapter=adapter, processes=2, checkpoint={"interval": 1}, training={"max_steps": 30})
    process = start(tmp_path)
    wait_for_step(process, tmp_path, 4, PATIENCE_S)
    os.kill(ranks_of(process)[1], signal.SIGTERM)  # the second rank alone is told
    assert process.wait(PATIENCE_S) == 75, (tmp_path / "trainer.log").read_text()
    stopped_at = lines(tmp_path, "step")[-1]["step"]
    assert lines(tmp_path)[-1]["kind"] == "interrupted"
    manifest = verify(tmp_path / f"checkpoints/step-{stopped_at:08d}")
    assert manifest.identity.world_size == 2
    assert {"rng_state_0.pth", "rng_state_1.pth"} <= {file.path for file in manifest.files}

    process = start(tmp_path)
    wait_for_step(process, tmp_path, stopped_at + 3, PATIENCE_S)
    first, second = ranks_of(process)
    os.kill(second, signal.SIGKILL)
    assert process.wait(PATIENCE_S) == 74, (tmp_path / "trainer.log").read_text()
    assert gone(first)
    assert "rank 1" in lines(tmp_path)[-1]["message"]

    run_to(tmp_path, 0)
    assert results(tmp_path)["weights_sha256"] == results(wholes[name])["weights_sha256"]
    assert curve(tmp_path) == curve(wholes[name])


def test_the_end_of_the_starting_process_is_the_end_of_its_ranks(tiny_model: Path, tmp_path: Path) -> None:
    make_run(tmp_path, tiny_model, processes=2, training={"max_steps": 1000})
    process = start(tmp_path)
    wait_for_step(process, tmp_path, 1, PATIENCE_S)
    pids = ranks_of(process)
    process.kill()
    process.wait(PATIENCE_S)
    while not all(gone(pid) for pid in pids):  # the suite's own time limit ends this
        time.sleep(0.01)


@pytest.mark.parametrize(("name", "adapter"), [("lora", LORA | {"dropout": 0}), ("full", FULL)])
def test_two_ranks_take_the_steps_of_one_and_each_can_go_on_where_the_other_ended(
    wholes: Wholes, tiny_model: Path, tmp_path: Path, name: str, adapter: dict[str, Any]
) -> None:
    """38 rows, 8 a step: the last step of an epoch has 6, and the epoch is passed six times."""
    alone, together, changed = tmp_path / "alone", tmp_path / "together", tmp_path / "changed"
    settings: dict[str, Any] = {"adapter": adapter, "checkpoint": {"interval": 1, "keep": 20}, "training": {"max_steps": 30}}
    assert do_run(make_run(alone, tiny_model, **settings)) == 0
    if name == "full":
        together = wholes["full"]
        run_file = resumable_copy(together, changed, 30)
    else:
        make_run(together, tiny_model, processes=2, **settings)
        process = start(together)
        wait_for_step(process, together, 4, PATIENCE_S)
        (together / "stop").touch()  # however fast the machine is, a checkpoint from the middle
        assert process.wait(PATIENCE_S) == 75, (together / "trainer.log").read_text()
        (together / "stop").unlink()
        run_file = resumable_copy(together, changed, 30)
        run_to(together, 0)
    assert losses(together) == pytest.approx(losses(alone), rel=2e-4)
    assert results(together)["tokens"] == results(alone)["tokens"]
    for when in ("before", "after"):
        assert results(together)[f"eval_loss_{when}"] == pytest.approx(results(alone)[f"eval_loss_{when}"], rel=2e-4)

    run_file.write_text(json.dumps(json.loads(run_file.read_text()) | {"processes": 1}))
    code = do_run(run_file)
    if name == "full":
        assert code == 1
        assert "was made by 2 GPUs or processes, this run has 1" in lines(changed)[-1]["message"]
        return
    assert code == 0, lines(changed)[-1]
    resumed = lines(changed, "resumed")[-1]
    assert 4 <= resumed["step"] < 30
    assert "made by 2 GPUs or processes and continued by 1" in resumed["message"]
    assert losses(changed) == pytest.approx(losses(alone), rel=2e-4)


def test_one_process_is_gone_on_with_by_two(tiny_model: Path, tmp_path: Path) -> None:
    """Without packing, whose order of rows is another."""
    alone, changed = tmp_path / "alone", tmp_path / "changed"
    settings: dict[str, Any] = {"adapter": LORA | {"dropout": 0}, "training": {"max_steps": 12, "packing": False}}
    steady = iter(range(10**9))
    assert do_run(make_run(alone, tiny_model, checkpoint={"interval": 600, "keep": 20}, **settings), clock=lambda: next(steady) * 600.0) == 0
    path = resumable_copy(alone, changed, 3)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"processes": 2}))
    run_to(changed, 0)
    assert lines(changed, "resumed")[-1]["step"] == 3
    assert losses(changed) == pytest.approx(losses(alone), rel=2e-4)
    assert results(changed)["tokens"] == results(alone)["tokens"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_two_instances_stop_together_go_down_together_and_end_with_the_bits_of_one_with_two_ranks(wholes: Wholes, tiny_model: Path, tmp_path: Path) -> None:
    """Two runs with folders of their own on this machine's loopback; only the first has checkpoints, and sends them to the second."""
    rendezvous, nodes = f"127.0.0.1:{free_port()}", [tmp_path / "first", tmp_path / "second"]
    for rank, folder in enumerate(nodes):
        settings: dict[str, Any] = {"adapter": LORA, "checkpoint": {"interval": 1}, "training": {"max_steps": 30}}
        make_run(folder, tiny_model, nodes=2, node_rank=rank, rendezvous=rendezvous, **settings)

    def begin() -> list[subprocess.Popen[bytes]]:
        return [start(folder) for folder in reversed(nodes)][::-1]  # the second waits for the first

    def codes(processes: list[subprocess.Popen[bytes]]) -> list[int]:
        return [process.wait(PATIENCE_S) for process in processes]

    processes = begin()
    wait_for_step(processes[0], nodes[0], 4, PATIENCE_S)
    (nodes[1] / "stop").touch()
    assert codes(processes) == [75, 75], (nodes[0] / "trainer.log").read_text()
    stopped_at = [lines(folder, "step")[-1]["step"] for folder in nodes]
    assert stopped_at[0] == stopped_at[1]
    assert not (nodes[1] / "checkpoints" / f"step-{stopped_at[0]:08d}").exists()
    (nodes[1] / "stop").unlink()

    processes = begin()
    wait_for_step(processes[0], nodes[0], stopped_at[0] + 3, PATIENCE_S)
    processes[1].kill()  # its rank ends with it
    assert codes(processes) == [74, -signal.SIGKILL], (nodes[0] / "trainer.log").read_text()
    assert "the last checkpoint counts" in lines(nodes[0])[-1]["message"]

    assert codes(begin()) == [0, 0], (nodes[0] / "trainer.log").read_text()
    assert results(nodes[0])["weights_sha256"] == results(wholes["lora"])["weights_sha256"]
    assert curve(nodes[0]) == curve(wholes["lora"])
    assert not (nodes[1] / "final").exists()
    assert lines(nodes[1])[-1]["kind"] == "completed"


def test_an_instance_that_waits_for_the_others_hears_a_stop(tiny_model: Path, tmp_path: Path) -> None:
    make_run(tmp_path, tiny_model, nodes=2, node_rank=1, rendezvous=f"127.0.0.1:{free_port()}")
    process = start(tmp_path)
    deadline = time.monotonic() + PATIENCE_S
    while not lines(tmp_path, "data"):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    (tmp_path / "stop").touch()
    assert process.wait(PATIENCE_S) == 75
