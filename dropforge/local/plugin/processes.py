"""Local processes: the process tree of one instance, and the sweep that proves that none is left. Linux only (/proc)."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Literal

_INIT = Path(__file__).with_name("init.py")
_MARGIN_S = 8.0


class Session:
    """An instance's processes under their own ``init``; see there for what the orders do."""

    def __init__(self, command: list[str], *, env: dict[str, str], root: Path, grace_s: float) -> None:
        self._mark, self._grace_s = f"DROPFORGE_ROOT={root}", grace_s
        # -I -S: this interpreter's own packages and settings have no place in an instance.
        init = [sys.executable, "-I", "-S", str(_INIT), str(grace_s), *command]
        with (root / "console.log").open("ab") as console:
            # init's input stays open as long as the emulator lives, and tells it when not.
            self._init = subprocess.Popen(init, stdin=subprocess.PIPE, stdout=console, stderr=subprocess.STDOUT, env=env, cwd=root, start_new_session=True)  # noqa: S603 - the command is the stack's own user data

    @property
    def pid(self) -> int:
        return self._init.pid

    def order(self, word: Literal["stop", "fail"]) -> None:
        """Ask for the end; returns at once. Ending an ended session is no error."""
        if self._init.stdin is not None:
            with contextlib.suppress(OSError, ValueError):
                self._init.stdin.write(word.encode())
                self._init.stdin.flush()

    def wait(self) -> None:
        """Until the user data has ended, by itself or by order."""
        self._init.wait()

    def close(self) -> None:
        """Until nothing is left, by force where it must be."""
        try:
            self._init.wait(self._grace_s + _MARGIN_S)
        except subprocess.TimeoutExpired:
            self._init.kill()
            self._init.wait()
        if self._init.stdin is not None:
            with contextlib.suppress(OSError):
                self._init.stdin.close()
        end_marked(self._mark)


def marked(mark: str) -> set[int]:
    """Processes whose first environment holds the text ``mark`` (``NAME=value`` or the start of it), this one excepted."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if any(item.startswith(mark.encode()) for item in (entry / "environ").read_bytes().split(b"\0")):
                    found.add(int(entry.name))
    return found


def end_marked(mark: str, *, within_s: float = 5.0) -> set[int]:
    """SIGKILL every marked process; returns those still there after ``within_s`` seconds."""
    until = time.monotonic() + within_s
    while left := marked(mark):
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() >= until:
            return left
        time.sleep(0.02)
    return set()
