"""A base model that is missing, unsafe or not whole is refused before anything is loaded."""

import json
import struct
from pathlib import Path

import pytest

from jobspec.marker import FailureCode
from tests.trainer.rig import do_run, failure, make_run
from trainer.base_model import check_base_model, folder_sha256
from trainer.failures import TrainerFailure
from trainer.stop import StopRequested, StopSignal


def shard(values: int = 4) -> bytes:
    header = json.dumps({"w": {"dtype": "F32", "shape": [values], "data_offsets": [0, 4 * values]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(4 * values)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"max_position_embeddings": 512}')
    (folder / "tokenizer.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(shard())
    return folder


def refused(folder: Path) -> tuple[FailureCode, str]:
    with pytest.raises(TrainerFailure) as raised:
        check_base_model(folder, "hub/name")
    return raised.value.code, str(raised.value)


def test_a_whole_safetensors_model_passes(model: Path) -> None:
    assert check_base_model(model, "hub/name") == {"max_position_embeddings": 512}


def test_a_missing_folder_and_a_missing_configuration_are_a_missing_model(model: Path, tmp_path: Path) -> None:
    assert refused(tmp_path / "none")[0] is FailureCode.MODEL_MISSING
    (model / "config.json").unlink()
    assert refused(model)[0] is FailureCode.MODEL_MISSING


def test_a_model_of_pickled_weights_is_refused_with_the_way_to_convert_it(model: Path) -> None:
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    code, message = refused(model)
    assert code is FailureCode.MODEL_INVALID
    assert "pytorch_model.bin" in message
    assert "safe_serialization=True" in message


@pytest.mark.parametrize("size", [3, 8, 30, len(shard()) - 1])
def test_a_shard_that_was_cut_off_is_found_by_its_header(model: Path, size: int) -> None:
    (model / "model.safetensors").write_bytes(shard()[:size])
    code, message = refused(model)
    assert code is FailureCode.MODEL_INVALID
    assert "model.safetensors is not whole" in message


def test_a_shard_named_in_the_index_must_be_there(model: Path) -> None:
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}))
    assert "lacks model-2.safetensors" in refused(model)[1]


@pytest.mark.parametrize("text", ["[1]", "{oops", "[" * 100_000])
def test_a_configuration_that_is_no_json_object_is_refused(model: Path, text: str) -> None:
    (model / "config.json").write_text(text)
    assert refused(model)[0] is FailureCode.MODEL_INVALID


def test_a_model_without_a_fast_tokenizer_is_refused(model: Path) -> None:
    (model / "tokenizer.json").unlink()
    assert "tokenizer.json" in refused(model)[1]


def test_the_digest_changes_with_weights_tokenizer_and_configuration_but_not_with_the_card(model: Path, tmp_path: Path) -> None:
    stop = StopSignal(tmp_path / "stop")
    first = folder_sha256(model, stop)
    (model / "README.md").write_text("a card")
    assert folder_sha256(model, stop) == first
    (model / "tokenizer.json").write_text('{"changed": 1}')
    assert folder_sha256(model, stop) != first


def test_a_stop_request_is_honoured_while_computing_digests(model: Path, tmp_path: Path) -> None:
    (tmp_path / "stop").touch()
    with pytest.raises(StopRequested):
        folder_sha256(model, StopSignal(tmp_path / "stop"))


def test_a_missing_model_ends_as_a_failed_line(tmp_path: Path) -> None:
    assert do_run(make_run(tmp_path / "run")) == 1
    assert failure(tmp_path / "run")[0] == "model_missing"
