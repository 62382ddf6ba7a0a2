"""Which files a model may have, and whether a folder holds a whole one. Safetensors only: a pickle can run code."""

import json
from fnmatch import fnmatchcase
from pathlib import Path

#: Weights, configuration, tokenizer, chat template. Nothing that is code.
ALLOWED_PATTERNS = ("*.safetensors", "*.json", "*.txt", "*.jinja", "tokenizer.model")
#: What training goes on from: the weights, and the results, which say what base they are of. Their shape is in the manifest.
ADAPTER_FILES = ("adapter_model.safetensors", "results.json")
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
_INDEX = "model.safetensors.index.json"
#: The format's own limit on the JSON header at the start of a file.
_MAX_HEADER_BYTES = 100_000_000


def is_allowed(name: str) -> bool:
    """True for a file that is taken: of the model's top folder, not hidden, of an allowed kind."""
    return "/" not in name and not name.startswith(".") and any(fnmatchcase(name, pattern) for pattern in ALLOWED_PATTERNS)


def lack(names: set[str]) -> str | None:
    """What a model's list of file names lacks to be loadable, or None."""
    if not any(name.endswith(".safetensors") for name in names):
        return "has no *.safetensors file; other formats can run code when loaded and are refused: convert with save_pretrained"
    if "config.json" not in names:
        return "has no config.json"
    if not any(name in names for name in _TOKENIZERS):
        return f"has no tokenizer (one of {', '.join(_TOKENIZERS)})"
    return None


def fault(folder: Path) -> str | None:
    """Why the model in ``folder`` cannot be loaded, as far as a look at the files can say; or None."""
    names = {path.name for path in folder.iterdir()}
    if missing := lack(names):
        return missing
    if _INDEX in names:
        try:
            shards = set(json.loads((folder / _INDEX).read_bytes())["weight_map"].values())
        except (ValueError, KeyError, TypeError, AttributeError):
            return f"has an unreadable {_INDEX}"
        if absent := sorted(str(shard) for shard in shards - names):
            return f"lacks {', '.join(absent[:5])}, which {_INDEX} names"
    for name in sorted(names):
        if name.endswith(".safetensors") and not _has_header(folder / name):
            return f"has {name}, which is not a whole safetensors file"
    return None


def _has_header(path: Path) -> bool:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        return 2 <= length <= min(_MAX_HEADER_BYTES, path.stat().st_size - 8) and file.read(1) == b"{"
