"""Fetches from the Hugging Face hub: ``python -m agent.hub model|dataset ID REVISION FOLDER PATTERN...``, a process of its own.

A process, because a download of many gigabytes must end at once when the instance is interrupted. The revision is a
commit; only files of the given patterns are taken: of a model weights in safetensors, configuration and tokenizer, never
code or pickles.
"""

import errno
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from agent.store import Absent, Check

EXIT_MISSING = 4
LOOK_S = 0.5


def main(kind: str, repository: str, revision: str, folder: str, *patterns: str) -> int:
    """0: fetched. EXIT_MISSING: no such repository or revision, or a gated one. Anything else is raised."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    try:
        snapshot_download(repository, repo_type=kind, revision=revision, local_dir=folder, allow_patterns=list(patterns))
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        # GatedRepoError is a RepositoryNotFoundError.
        sys.stderr.write(f"{str(error).splitlines()[0][:300]}\n")
        return EXIT_MISSING
    return 0


def fetch(kind: str, repository: str, revision: str, folder: Path, patterns: tuple[str, ...], home: Path, check: Check, sleep: Callable[[float], None]) -> None:
    """Fill ``folder``; ``home`` is the hub library's own. ``check`` is called meanwhile and may raise. Raises Absent, OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    # The image is offline for the trainer's sake; this one process is not.
    environment = {**os.environ, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HOME": str(home)}
    command = [sys.executable, "-m", "agent.hub", kind, repository, revision, str(folder), *patterns]
    # A file, not a pipe: whoever fills a pipe that nobody reads stands still, and a download of hours says much.
    with tempfile.TemporaryFile() as words:
        with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=words) as process:  # noqa: S603 - our own module; what it is given is held to patterns
            try:
                while process.poll() is None:
                    check()
                    sleep(LOOK_S)
            except BaseException:
                process.kill()
                raise
        words.seek(max(0, words.seek(0, os.SEEK_END) - 4000))
        told = words.read(4000).decode("utf-8", "replace").strip()[-500:]
    if process.returncode == EXIT_MISSING:
        raise Absent(f"the hub has no public {kind} {repository} at {revision}: {told}")
    if "No space left" in told:
        raise OSError(errno.ENOSPC, told)
    if process.returncode != 0:
        raise ConnectionError(f"the hub did not give {repository}@{revision}: {told}")


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
