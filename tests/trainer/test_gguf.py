"""The GGUF file: made by llama.cpp's converter, here a stand-in that takes exactly what the real one does; refused before training where there is none."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.trainer.rig import do_run, failure, lines, make_run, results
from trainer.gguf import CONVERTER_NAME, CONVERTER_VARIABLE, convert

ADAPTER: dict[str, Any] = {"r": 4, "merge": True, "gguf": True}
TRAINING = {"max_steps": 1}

#: Takes what llama.cpp's takes: the model's folder, --outfile and --outtype; notes what it was given and what lay there.
STAND_IN = """
import argparse, json, pathlib
parser = argparse.ArgumentParser()
parser.add_argument("model", type=pathlib.Path)
parser.add_argument("--outfile", type=pathlib.Path, required=True)
parser.add_argument("--outtype", choices=["f32", "f16", "bf16", "q8_0", "tq1_0", "tq2_0", "auto"], default="auto")
asked = parser.parse_args()
config = json.loads((asked.model / "config.json").read_text())
given = {"outtype": asked.outtype, "outfile": asked.outfile.name, "files": sorted(path.name for path in asked.model.iterdir()), "dtype": config["dtype"]}
pathlib.Path(NOTES).write_text(json.dumps(given))
asked.outfile.write_bytes(b"GGUF" + b"0" * 60)
"""
REFUSES = """
import pathlib, sys
pathlib.Path(sys.argv[sys.argv.index("--outfile") + 1]).write_bytes(b"GG")
sys.exit("ERROR:hf-to-gguf:Model TinyForCausalLM is not supported")
"""


@pytest.fixture
def converter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / CONVERTER_NAME
    path.write_text(f"NOTES = {str(tmp_path / 'notes.json')!r}\n{STAND_IN}")
    monkeypatch.setenv(CONVERTER_VARIABLE, str(path))
    return path


@pytest.mark.torch
def test_the_merged_model_is_converted_as_llama_cpp_wants_it_and_lies_in_the_final_folder(converter: Path, tiny_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert do_run(make_run(folder, tiny_model, adapter=ADAPTER, training=TRAINING)) == 0, lines(folder)[-1]
    assert (folder / "final/model.gguf").read_bytes()[:4] == b"GGUF"
    given = json.loads((tmp_path / "notes.json").read_text())
    assert {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"} <= set(given.pop("files"))
    assert given == {"outtype": "auto", "outfile": "model.gguf", "dtype": "float32"}  # as the tiny base was published
    assert results(folder)["gguf_problem"] == ""
    assert "`model.gguf` is the merged model for llama.cpp" in (folder / "final/README.md").read_text()


@pytest.mark.torch
def test_a_converter_that_does_not_know_the_model_costs_the_file_and_not_the_run(converter: Path, tiny_model: Path, tmp_path: Path) -> None:
    converter.write_text(REFUSES)
    folder = tmp_path / "run"
    assert do_run(make_run(folder, tiny_model, adapter=ADAPTER, training=TRAINING)) == 0
    assert not (folder / "final/model.gguf").exists()
    assert (folder / "final/merged/model.safetensors").exists()
    (warning,) = lines(folder, "warning")
    for told in (warning["message"], results(folder)["gguf_problem"], (folder / "final/README.md").read_text()):
        assert "exit code 1 and no GGUF file: ERROR:hf-to-gguf:Model TinyForCausalLM is not supported" in told


def test_without_a_converter_the_run_is_refused_before_its_rows_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CONVERTER_VARIABLE, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert do_run(make_run(tmp_path / "run", adapter=ADAPTER)) == 1
    code, message = failure(tmp_path / "run")
    assert code == "trainer_error"
    assert "adapter.gguf needs llama.cpp's convert_hf_to_gguf.py, which this image does not hold" in message
    assert len(lines(tmp_path / "run")) == 1
    monkeypatch.setenv(CONVERTER_VARIABLE, str(tmp_path / "nowhere.py"))
    assert do_run(make_run(tmp_path / "run", adapter=ADAPTER)) == 1


def test_a_converter_on_the_path_is_found_and_run_as_the_program_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CONVERTER_VARIABLE, raising=False)
    program, target = tmp_path / CONVERTER_NAME, tmp_path / "model.gguf"
    program.write_text(f"#!{sys.executable}\nimport sys\nopen(sys.argv[3], 'wb').write(b'GGUF')\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert convert(tmp_path, target) == ""
    assert target.read_bytes() == b"GGUF"
    program.write_text(f"#!{sys.executable}\nimport sys\nopen(sys.argv[3], 'wb').write(b'nothing')\n")
    assert "ended with exit code 0 and no GGUF file" in convert(tmp_path, target)
    assert not target.exists()
