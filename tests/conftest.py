"""For every test: no deadline on an example, for a machine that is busy is not a bug; and the documents' site, built once."""

from pathlib import Path

import pytest
from hypothesis import settings

from tests.documents import built

settings.register_profile("house", deadline=None)
settings.load_profile("house")


@pytest.fixture(scope="session")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the site; whoever asks for it bears ``needs_mkdocs``."""
    folder = tmp_path_factory.mktemp("documents")
    done = built(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder
