"""Files forced to disk before anyone is told of them: who reads one after a crash reads it whole."""

import os
from pathlib import Path

from jobspec.base import FileDigest
from trainer.digests import files_sha256


def sealed(folder: Path) -> list[FileDigest]:
    """Make every file below ``folder`` readable to the agent and durable; their sizes and sha256, in order of paths."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in paths:
        path.chmod(0o644)  # safetensors writes 0600
        with path.open("rb") as file:
            os.fsync(file.fileno())
    return [
        FileDigest(path=path.relative_to(folder).as_posix(), size=path.stat().st_size, sha256=found)
        for path, found in zip(paths, files_sha256(paths), strict=True)
    ]


def write_durably(path: Path, body: bytes) -> None:
    """Write a file and force it to disk."""
    with path.open("wb") as file:
        file.write(body)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Force a folder's entries to disk: after a rename, before anyone is told of it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
