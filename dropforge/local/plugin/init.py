"""Process 1 of a local instance: runs the user data, adopts every orphan, and ends all of it when the instance ends.

Run as a script (``python -I -S init.py GRACE_S COMMAND...``), standard library only. It is a child subreaper (prctl(2)):
whatever detaches itself, changes its session or clears its environment still is its descendant, so nothing survives.
On its input it takes one word: ``stop`` (SIGTERM, then SIGKILL after GRACE_S seconds) or ``fail`` (SIGKILL at once, as
a failing host does). End of input means that the emulator is gone, and SIGTERM is a power-off from inside: both stop.
"""

import ctypes
import os
import select
import signal
import sys
import time
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
POLL_S = 0.05
#: A process that SIGKILL has not ended after this long is stuck in the kernel; EC2 would not wait for it either.
LAST_WAIT_S = 5.0


def main(arguments: list[str]) -> int:
    """Exit status 0: the user data ended by itself or powered off. 1: ended by order."""
    grace_s, command = float(arguments[0]), arguments[1:]
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    wakeup = _signals()
    os.environ["DROPFORGE_INIT"] = str(os.getpid())
    first = _start(command)
    while True:
        ready, _, _ = select.select([sys.stdin, wakeup], [], [])
        if wakeup in ready and signal.SIGTERM in os.read(wakeup, 512):
            _say("powering off")
            _end_everything(grace_s)
            return 0
        if _reap(first):
            _say("the user data ended: powering off")
            _end_everything(grace_s)
            return 0
        if sys.stdin in ready:
            word = os.read(sys.stdin.fileno(), 64).decode().strip()
            _say(f"ended from outside ({word or 'the emulator is gone'})")
            _end_everything(0.0 if word == "fail" else grace_s)
            return 1


def _signals() -> int:
    """A descriptor that becomes readable, with the signal's number, at SIGCHLD and SIGTERM."""
    readable, writable = os.pipe()
    for end in (readable, writable):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    return readable


def _start(command: list[str]) -> int:
    actions = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)]
    return os.posix_spawn(command[0], command, os.environ, file_actions=actions, setsid=True, setsigdef=[signal.SIGCHLD, signal.SIGTERM])


def _reap(first: int = 0) -> bool:
    """Collect what has ended; True if the first process was among it."""
    seen = False
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return seen
        if pid == 0:
            return seen
        seen = seen or pid == first


def _end_everything(grace_s: float) -> None:
    graceful = [(signal.SIGTERM, grace_s)] if grace_s > 0 else []
    for number, wait_s in (*graceful, (signal.SIGKILL, LAST_WAIT_S)):
        until = time.monotonic() + wait_s
        _signal_all(number)
        while _descendants():
            if time.monotonic() >= until:
                break
            if number == signal.SIGKILL:
                _signal_all(number)  # a process may have forked between the listing and its end
            _reap()
            time.sleep(POLL_S)
        _reap()


def _signal_all(number: int) -> None:
    for pid in _descendants():
        try:
            os.kill(pid, number)
            os.kill(pid, signal.SIGCONT)  # a stopped process cannot act on SIGTERM
        except ProcessLookupError:
            continue


def _descendants() -> set[int]:
    """Every living descendant of this process; the dead that nobody collected yet do not count."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            except OSError:
                continue
            if state != "Z":
                children.setdefault(int(parent), []).append(int(entry.name))
    found, pending = set(), [os.getpid()]
    while pending:
        for child in children.get(pending.pop(), []):
            found.add(child)
            pending.append(child)
    return found


def _say(text: str) -> None:
    sys.stdout.write(f"[instance] {text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
