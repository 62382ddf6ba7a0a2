"""The folder of prepared data: found again by its key, verified whole before it is used, published by one rename."""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from jobspec.base import FileDigest
from jobspec.marker import FailureCode
from jobspec.prepared import PREPARED_MANIFEST_NAME, PreparedManifest
from jobspec.runfile import RunFile
from jobspec.wire import UnreadableDocument, dump, load
from trainer.checkpoints import STAGING_PREFIX
from trainer.digests import file_sha256
from trainer.durable import sealed, sync_folder, write_durably
from trainer.failures import TrainerFailure
from trainer.files import check_file
from trainer.stop import StopSignal

#: Raised with every change of what this version of the trainer would write for the same rows.
PREPARE_VERSION = 1
TRAIN_NAME, HELD_OUT_NAME = "train.arrow", "held_out.arrow"
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja")
_LIBRARIES = ("transformers", "tokenizers")
#: Settings of ``training`` that decide what is in the files.
_SETTINGS = ("max_length", "max_truncated_fraction", "loss_on", "seed")


def data_sha256(run: RunFile, root: Path, stop: StopSignal) -> str:
    """One digest of every data file's content, role and weight. Raises TrainerFailure for a missing file."""
    digest = hashlib.sha256()
    for role, sources in (("train", run.train_sources()), ("eval", run.eval_sources())):
        for source in sources:
            for file in source.files:
                check_file(root / file, source.called or file)
                digest.update(f"{role} {source.weight} {file_sha256(root / file, stop)}\n".encode())
    return digest.hexdigest()


def prepared_key(run: RunFile, root: Path, data: str) -> str:
    """What the prepared files are made of: rows, tokenizer, template, settings, libraries, our own version."""
    tokenizer = {name: file_sha256(root / run.model_dir / name) for name in _TOKENIZER_FILES if (root / run.model_dir / name).is_file()}
    facts = {
        "version": PREPARE_VERSION,
        "data": data,
        "tokenizer": tokenizer,
        "method": run.method,
        "format": run.data_format,
        "columns": run.columns.named(),
        "eval_fraction": None if run.eval_sources() else run.eval_fraction,
        "training": run.training.model_dump(mode="json", include=set(_SETTINGS)),
        "libraries": {name: version(name) for name in _LIBRARIES},
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def find_prepared(folder: Path, key: str, stop: StopSignal) -> tuple[PreparedManifest | None, str]:
    """The manifest of whole prepared data with this key; or None, and why what lies there is not used (empty: nothing lies there)."""
    if not folder.exists():
        return None, ""
    try:
        found = load(PreparedManifest, (folder / PREPARED_MANIFEST_NAME).read_bytes())
    except (OSError, UnreadableDocument) as error:
        return None, f"its {PREPARED_MANIFEST_NAME} is not readable ({type(error).__name__})"
    if found.key != key:
        return None, "it is of other rows, another tokenizer or other settings"
    for file in found.files:
        path = folder / file.path
        if not _same(path, file, stop):
            return None, f"{file.path} is not what was written"
    return found, ""


def _same(path: Path, file: FileDigest, stop: StopSignal) -> bool:
    return not path.is_symlink() and path.is_file() and path.stat().st_size == file.size and file_sha256(path, stop) == file.sha256


def publish_prepared(folder: Path, write: Callable[[Path], PreparedManifest]) -> PreparedManifest:
    """Let ``write`` fill a folder aside and give its manifest, then put it in the place of whatever was there. Gives the manifest with its files."""
    for left in folder.parent.glob(f"{STAGING_PREFIX}{folder.name}-*"):
        shutil.rmtree(left)
    staging = folder.parent / f"{STAGING_PREFIX}{folder.name}-{uuid.uuid4().hex}"
    try:
        staging.mkdir(parents=True)
        manifest = write(staging)
        manifest = manifest.model_copy(update={"files": tuple(sealed(staging))})
        write_durably(staging / PREPARED_MANIFEST_NAME, dump(manifest))
        (staging / PREPARED_MANIFEST_NAME).chmod(0o644)
        sync_folder(staging)
        if folder.is_dir():
            shutil.rmtree(folder)
        os.rename(staging, folder)
    except OSError as error:
        if isinstance(error, NotADirectoryError | FileExistsError):
            raise TrainerFailure(
                FailureCode.TRAINER_ERROR, f"{folder.name} in the run folder is in the way of the prepared data: {error}. Move it away."
            ) from None
        raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    sync_folder(folder.parent)
    return manifest
