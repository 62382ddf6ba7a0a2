"""Whether the usual AWS settings name the local cloud of this machine: it then has files and a spot market to turn to."""

import os
from pathlib import Path

from dropforge.local.state import home, load


def local_home() -> Path | None:
    """The local cloud's folder, where the endpoint in use is its own; None for an account, or for somebody else's emulator."""
    state = load(home())
    return home() if state is not None and os.environ.get("AWS_ENDPOINT_URL", "").rstrip("/") == state.endpoint else None
