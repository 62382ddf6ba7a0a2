"""The tiny model and one finished run, made once for all of the trainer's tests."""

import os
from pathlib import Path
from typing import Any

import pytest

from tests.tiny_model import make_tiny_model
from tests.trainer.rig import do_run, make_run, save_each_step
from trainer.__main__ import ENVIRONMENT

# Before any test imports a library that reads it. One thread: on shared cores a second one waits more than it works.
os.environ.update({**ENVIRONMENT, "OMP_NUM_THREADS": "1"})


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="session")
def whole_run(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an uninterrupted run with a checkpoint of each of its ten steps. Copy it; do not change it."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    path = make_run(folder, tiny_model, checkpoint={"interval": 600, "keep": 20})
    assert do_run(path, clock=save_each_step()) == 0
    return folder


@pytest.fixture
def four_bits_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """bitsandbytes computes nf4 on a CPU as well, slowly: so qlora's whole path is walked here, past the refusal."""
    from trainer import model

    make = model.four_bits

    def allowed(dtype: str) -> Any:
        with monkeypatch.context() as patched:
            patched.setattr(model.torch.cuda, "is_available", lambda: True)
            return make(dtype)

    monkeypatch.setattr(model, "four_bits", allowed)
