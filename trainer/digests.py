"""The sha256 of files, as large as models are: read in pieces, several files at a time, and given up when the run is told to stop."""

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from trainer.stop import StopSignal

_CHUNK = 4 * 1024**2
#: Files whose digests are computed at a time, where there are so many cores.
MAX_HASHERS = 8


def file_sha256(path: Path, stop: StopSignal | None = None) -> str:
    """sha256 of a file's content, hex; looks for a stop request every few MiB."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            if stop is not None:
                stop.check("computing digests")
    return digest.hexdigest()


def files_sha256(paths: Sequence[Path], stop: StopSignal | None = None) -> list[str]:
    """The sha256 of each file, several at a time: hashlib leaves the interpreter to others meanwhile."""
    with ThreadPoolExecutor(max(1, min(len(paths), os.cpu_count() or 1, MAX_HASHERS))) as pool:
        return list(pool.map(lambda path: file_sha256(path, stop), paths))
