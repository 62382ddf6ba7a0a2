"""The matrix of deaths in a small form, and that its eyes are open."""

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from bench import forked
from bench.matrix import HEADER, ROWS, Series, compare, matrix
from tests.tiny_model import make_tiny_model
from tests.trainer.rig import do_run, make_run

pytestmark = pytest.mark.torch


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_ended_at_random_moments_again_and_again_ends_with_the_same_bits(number: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    (found,) = matrix([ROWS[0]], endings=2, seed=1, steps=12, signals=(number,))
    assert found.hit.total() == 2
    assert found.runs >= 1
    assert found.different == []
    assert found.line().count("|") == HEADER.splitlines()[0].count("|")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("matrix")
    folder = base / "whole"
    assert do_run(make_run(folder, make_tiny_model(base / "model"), training={"max_steps": 2})) == 0
    (folder / forked.ORDER_NAME).write_text("1 0 aa\n1 1 bb\n2 0 cc\n2 1 dd\n")
    return folder


def _other_order(folder: Path) -> None:
    (folder / forked.ORDER_NAME).write_text("1 0 bb\n1 1 aa\n2 0 cc\n2 1 dd\n")


def _twice_otherwise(folder: Path) -> None:
    with (folder / forked.ORDER_NAME).open("a") as file:
        file.write("2 0 ee\n")


def _row_lost(folder: Path) -> None:
    (folder / forked.ORDER_NAME).write_text("1 0 aa\n1 1 bb\n2 0 cc\n")


def _other_loss(folder: Path) -> None:
    path = folder / "final/metrics.jsonl"
    path.write_text(path.read_text().replace('"loss": ', '"loss": 1', 1))


def _other_weights(folder: Path) -> None:
    path = folder / "final/results.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "weights_sha256": "0" * 64}))


@pytest.mark.parametrize(
    ("plant", "seen"),
    [
        (lambda _: None, []),
        (_other_order, ["data"]),
        (_twice_otherwise, ["data"]),
        (_row_lost, ["data"]),
        (_other_loss, ["losses"]),
        (_other_weights, ["weights"]),
    ],
)
def test_other_weights_losses_or_data_are_seen(whole: Path, tmp_path: Path, plant: Callable[[Path], None], seen: list[str]) -> None:
    folder = tmp_path / "run"
    shutil.copytree(whole, folder, symlinks=True)
    plant(folder)
    found = Series(ROWS[0], signal.SIGKILL)
    compare(found, folder, whole)
    assert [one.split(": ")[1] for one in found.different] == seen
