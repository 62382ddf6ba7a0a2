"""The trainer as a process: real signals at drawn steps, real deaths, and its adapter loaded by plain peft elsewhere."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.trainer.rig import lines, make_run, results
from trainer.checkpoints import verify

pytestmark = pytest.mark.torch

ROOT = Path(__file__).resolve().parents[2]
SEED = random.SystemRandom().randrange(2**32)

LOAD_BACK = """
import sys
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
base = AutoModelForCausalLM.from_pretrained(sys.argv[1])
ids = AutoTokenizer.from_pretrained(sys.argv[2]).apply_chat_template([{"role": "user", "content": "What?"}], return_tensors="pt", return_dict=True)["input_ids"]
before = base(ids).logits
after = PeftModel.from_pretrained(base, sys.argv[2])(ids).logits
assert "trainer" not in sys.modules and "trl" not in sys.modules
assert float((after - before).abs().max()) > 1e-3
"""


def start(folder: Path) -> subprocess.Popen[bytes]:
    with (folder / "trainer.log").open("ab") as log:
        return subprocess.Popen([sys.executable, "-m", "trainer", "run", str(folder / "run.json")], cwd=ROOT, env=os.environ, stdout=log, stderr=log)


def wait_for_step(process: subprocess.Popen[bytes], folder: Path, step: int, patience_s: float = 180) -> None:
    deadline = time.monotonic() + patience_s
    while not any(line["step"] >= step for line in lines(folder, "step")):
        assert process.poll() is None, (folder / "trainer.log").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_a_process_that_died_and_was_interrupted_ends_with_the_bits_of_one_that_was_not(tiny_model: Path, tmp_path: Path) -> None:
    draw = random.Random(SEED)
    dies, stops = draw.randint(2, 20), draw.randint(22, 35)
    print("seed", SEED, "SIGKILL at", dies, "SIGTERM at", stops)
    settings: dict[str, Any] = {"checkpoint": {"interval": 1}, "training": {"max_steps": 60, "micro_batch_size": 2}}
    whole, folder = tmp_path / "whole", tmp_path / "run"
    make_run(whole, tiny_model, **settings)
    make_run(folder, tiny_model, **settings)
    uninterrupted = start(whole)
    process = start(folder)
    wait_for_step(process, folder, dies)
    process.kill()
    assert process.wait(180) == -signal.SIGKILL

    process = start(folder)
    wait_for_step(process, folder, stops)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGTERM)  # the second is harmless
    assert process.wait(180) == 75, (folder / "trainer.log").read_text()
    stopped_at = max(line["step"] for line in lines(folder, "step"))
    assert verify(folder / f"checkpoints/step-{stopped_at:08d}").step == stopped_at
    assert lines(folder)[-1]["kind"] == "interrupted"

    process = start(folder)
    assert process.wait(180) == 0, (folder / "trainer.log").read_text()
    assert uninterrupted.wait(180) == 0, (whole / "trainer.log").read_text()
    assert lines(folder, "resumed")[-1]["step"] == stopped_at  # no step was lost to the interruption
    assert results(folder)["weights_sha256"] == results(whole)["weights_sha256"]
    assert (folder / "final/metrics.jsonl").read_bytes() == (whole / "final/metrics.jsonl").read_bytes()

    loaded = subprocess.run([sys.executable, "-c", LOAD_BACK, str(tiny_model), str(folder / "final")], capture_output=True, text=True, timeout=180, check=False)
    assert loaded.returncode == 0, loaded.stderr


def test_a_sigterm_in_the_first_second_is_a_stop_request_as_well(tiny_model: Path, tmp_path: Path) -> None:
    make_run(tmp_path, tiny_model)
    with (tmp_path / "trainer.log").open("ab") as log:
        script = "import os, signal, sys; from trainer.__main__ import main; from trainer.stop import StopSignal; listen = StopSignal.listen\n"
        script += "def and_get_it(stop):\n    listen(stop)\n    os.kill(os.getpid(), signal.SIGTERM)\n"
        script += "StopSignal.listen = and_get_it; sys.exit(main(['run', sys.argv[1]]))"
        done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "run.json")], cwd=ROOT, env=os.environ, stderr=log, timeout=60, check=False)
    assert done.returncode == 75
    assert [line["kind"] for line in lines(tmp_path)] == ["interrupted"]
