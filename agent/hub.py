"""Fetches a model from the Hugging Face hub: ``python -m agent.hub ID REVISION FOLDER``, a process of its own.

A process, because a download of many gigabytes must end at once when the instance is interrupted. The revision is a
commit; only weights in safetensors, configuration and tokenizer files are taken, never code or pickles.
"""

import sys

from agent.model_files import ALLOWED_PATTERNS

EXIT_MISSING = 4


def main(repository: str, revision: str, folder: str) -> int:
    """0: fetched. EXIT_MISSING: no such model or revision, or a gated one. Anything else is raised."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    try:
        snapshot_download(repository, revision=revision, local_dir=folder, allow_patterns=list(ALLOWED_PATTERNS))
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        # GatedRepoError is a RepositoryNotFoundError.
        sys.stderr.write(f"{str(error).splitlines()[0][:300]}\n")
        return EXIT_MISSING
    return 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:4]))
