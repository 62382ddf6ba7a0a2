"""What the generators of pages share: write the page, or with ``--check`` only look whether it is what its source says."""

import sys
from pathlib import Path


def write_or_check(target: Path, wanted: str, source: str) -> int:
    """The exit status: 1 where ``--check`` found a difference. ``source`` is what the page is made from, for the message."""
    if "--check" not in sys.argv[1:]:
        target.write_text(wanted)
        return 0
    if target.exists() and target.read_text() == wanted:
        return 0
    print(f"{target} is not what {source} says; run: make generate", file=sys.stderr)
    return 1
