"""The folder of the base model: what must lie in it, and its digest. Safetensors only; no code from it is ever run."""

import hashlib
import json
from pathlib import Path
from typing import Any

from jobspec.marker import FailureCode
from trainer.digests import files_sha256
from trainer.failures import TrainerFailure
from trainer.stop import StopSignal

INDEX_NAME = "model.safetensors.index.json"
MAX_JSON_BYTES = 256 * 1024**2
#: What decides the arithmetic: configuration, weights, tokenizer, template. Not the model card.
_COUNTED = (".json", ".safetensors", ".model", ".txt", ".jinja")
_UNSAFE = (".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".gguf", ".onnx")


def check_base_model(folder: Path, name: str) -> dict[str, Any]:
    """The model's configuration, once the folder holds all it must. Raises TrainerFailure (model_missing, model_invalid)."""
    if not (folder / "config.json").is_file():
        what = "no config.json in it" if folder.is_dir() else "no such folder"
        raise TrainerFailure(FailureCode.MODEL_MISSING, f"the base model {name} is not in {folder.name}/ ({what}). Check the model's location in the manifest.")
    config = _json(folder / "config.json")
    if not isinstance(config, dict):
        raise TrainerFailure(FailureCode.MODEL_INVALID, "the base model's config.json is not a JSON object")
    if not (folder / "tokenizer.json").is_file():
        raise TrainerFailure(FailureCode.MODEL_INVALID, "the base model has no tokenizer.json (a fast tokenizer): save it with tokenizer.save_pretrained(...)")
    for shard in _shards(folder):
        _check_shard(shard)
    return config


def _shards(folder: Path) -> list[Path]:
    present = sorted(folder.glob("*.safetensors"))
    index = folder / INDEX_NAME
    if index.is_file():
        weight_map = _json(index).get("weight_map", {})
        missing = sorted({str(shard) for shard in weight_map.values()} - {path.name for path in present})
        if missing:
            raise TrainerFailure(FailureCode.MODEL_INVALID, f"the base model lacks {', '.join(missing[:5])}, named in {INDEX_NAME}: copy the whole model again")
    if not present:
        other = sorted(path.name for path in folder.iterdir() if path.suffix in _UNSAFE)
        found = f"found {', '.join(other[:5])}" if other else "found no weights at all"
        raise TrainerFailure(
            FailureCode.MODEL_INVALID,
            f"the base model has no *.safetensors ({found}). Only safetensors are read, because other formats can run code: "
            "convert it once with model.save_pretrained(folder, safe_serialization=True).",
        )
    return present


def _check_shard(path: Path) -> None:
    """The header of a safetensors file against its size: finds a file that was cut off (format: huggingface/safetensors README)."""
    size = path.stat().st_size
    with path.open("rb") as file:
        header_size = int.from_bytes(file.read(8), "little")
        problem = None
        if size < 8 or header_size > min(size - 8, MAX_JSON_BYTES):
            problem = "its header is damaged"
        else:
            try:
                header = json.loads(file.read(header_size))
                ends = [entry["data_offsets"][1] for key, entry in header.items() if key != "__metadata__"]
                if 8 + header_size + max(ends, default=0) != size:
                    problem = f"it has {size} bytes, its header tells of {8 + header_size + max(ends, default=0)}"
            except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
                problem = "its header is damaged"
    if problem:
        raise TrainerFailure(FailureCode.MODEL_INVALID, f"the base model's {path.name} is not whole: {problem}. Copy the model again.")


def _json(path: Path) -> Any:
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise ValueError(f"larger than {MAX_JSON_BYTES} bytes")
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise TrainerFailure(FailureCode.MODEL_INVALID, f"the base model's {path.name} is not readable JSON: {error}") from None


def folder_sha256(folder: Path, stop: StopSignal) -> str:
    """One digest of every counted file's name and content, in order of names."""
    digest = hashlib.sha256()
    counted = sorted(path for path in folder.iterdir() if path.is_file() and path.suffix in _COUNTED and not path.name.startswith("."))
    for path, found in zip(counted, files_sha256(counted, stop), strict=True):
        digest.update(f"{found}  {path.name}\n".encode())
    return digest.hexdigest()
