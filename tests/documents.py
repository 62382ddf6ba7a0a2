"""The documents' site, built as `make docs` builds it."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MKDOCS = ROOT / ".venv-docs/bin/mkdocs"
needs_mkdocs = pytest.mark.skipif(not MKDOCS.exists(), reason="no .venv-docs: `make docs` makes it; the site was not built")


def built(folder: Path, repository: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [str(MKDOCS), "build", "--strict", "--config-file", str(repository / "mkdocs.yml"), "--site-dir", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
