"""What the local cloud's parts printed: functions an entry for each invocation, instances and the emulator lines."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dropforge.local.state import LocalCloudError

FOLLOW_EVERY_S = 0.5


def entries(folder: Path, function: str | None, *, follow: bool) -> Iterator[dict[str, Any]]:
    """Invocations in the order they ended, of all functions or of those whose name contains ``function``."""
    read: dict[Path, int] = {}
    while True:
        fresh = []
        for path in sorted((folder / "logs").glob("*.jsonl")):
            if function is None or function.lower() in path.stem.lower():
                lines = path.read_text().splitlines()
                fresh += [json.loads(line) for line in lines[read.get(path, 0) :]]
                read[path] = len(lines)
        yield from sorted(fresh, key=lambda entry: float(entry["at"]))
        if not follow:
            return
        time.sleep(FOLLOW_EVERY_S)


def lines_of(path: Path, *, follow: bool) -> Iterator[str]:
    """The whole lines of a file; of one that is written to, each once its end is there. Raises LocalCloudError where there is none."""
    begun = ""
    try:
        with path.open(errors="replace") as text:
            while True:
                for piece in text:
                    begun += piece
                    if begun.endswith("\n"):
                        yield begun.removesuffix("\n")
                        begun = ""
                if not follow:
                    break
                time.sleep(FOLLOW_EVERY_S)
    except FileNotFoundError:
        raise LocalCloudError(f"There is no {path}. `dropforge local status` lists the instances.") from None
    if begun:
        yield begun
