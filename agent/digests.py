"""Sizes and sha256 of files that somebody else may have written: regular files only, links refused."""

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from jobspec.base import FileDigest

CHUNK_BYTES = 1024 * 1024
#: hashlib leaves the interpreter to others meanwhile, so each of these has a core; more than that the disk does not feed.
MAX_HASHERS = 8


class NotAFile(ValueError):
    """A link, a folder, a device or nothing where a regular file should be."""


def hashers(files: int) -> ThreadPoolExecutor:
    """Threads to compute the digests of so many files in. Leaving the block waits for what has begun."""
    return ThreadPoolExecutor(max(1, min(files, os.cpu_count() or 1, MAX_HASHERS)), thread_name_prefix="digest")


def sha256_of(path: Path, check: Callable[[], None] | None = None) -> str:
    """Hexadecimal sha256; ``check`` is called between chunks and may raise. Raises NotAFile, OSError."""
    digest = hashlib.sha256()
    try:
        # O_NOFOLLOW: the last part of the path must not be a link to a file outside of the run folder.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError as error:
        raise NotAFile(f"{path.name}: {error.strerror}") from None
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise NotAFile(f"{path.name}: not a regular file")
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            if check is not None:
                check()
    return digest.hexdigest()


def digest_of(path: Path, name: str) -> FileDigest:
    """The digest of ``path`` under ``name``. Raises NotAFile, and ValidationError for a name the contract refuses."""
    sha256 = sha256_of(path)
    return FileDigest(path=name, size=path.stat().st_size, sha256=sha256)


def damage(folder: Path, files: tuple[FileDigest, ...], check: Callable[[], None] | None = None) -> str | None:
    """The first way in which ``folder`` is not what ``files`` says, or None. Sizes first: they are cheap."""
    for file in files:
        path = folder / file.path
        if leaves(folder, path):
            return f"{file.path} leads out of its folder"
        if not path.is_file() or path.is_symlink():
            return f"{file.path} is missing"
        if path.stat().st_size != file.size:
            return f"{file.path} has {path.stat().st_size} bytes, should have {file.size}"
    with hashers(len(files)) as pool:
        for file, found in zip(files, pool.map(lambda one: sha256_of(folder / one.path, check), files), strict=True):
            if found != file.sha256:
                return f"{file.path} does not have its sha256"
    return None


def regular_files(folder: Path) -> Iterator[Path]:
    """Every regular file below ``folder``, in order; links are passed over, also links to folders."""
    for root, folders, names in os.walk(folder, followlinks=False):
        folders.sort()
        for name in sorted(names):
            path = Path(root, name)
            if path.is_file() and not path.is_symlink():
                yield path


def leaves(folder: Path, path: Path) -> bool:
    """True where ``path`` is, through links, outside of ``folder``."""
    return not path.resolve().is_relative_to(folder.resolve())
