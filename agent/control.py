"""The agent's side of ``control/``: asks ``bootstrap.sh`` for a trainer, and reads how one ended.

``trainer.start`` holds a request number; ``trainer.exit`` answers ``<number> <exit status>``. The latest number decides:
a request above the last answered one is a trainer that runs or is about to. So an agent that was ended and started again
reads from the folder whether it has a trainer, and never asks for two.
"""

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from agent.settings import Folders
from jobspec.base import Document, Step
from jobspec.runfile import RunFile
from jobspec.wire import UnreadableDocument, dump, load

RUN_FILE = "run.json"
_EXIT = re.compile(r"(\d{1,6}) (\d{1,3})\s*")
_REQUEST = re.compile(r"(\d{1,6})\s*")


@dataclass(frozen=True, slots=True)
class Ended:
    request: int
    status: int


class Restarts(Document):
    """How often the trainer was started again in place without a step forward since ``step``."""

    count: int = 0
    step: Step = 0


def write_whole(path: Path, body: bytes) -> None:
    """``path`` appears with all of ``body``, on the disk, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.new")
    with aside.open("wb") as file:
        file.write(body)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


class TrainerDesk:
    def __init__(self, folders: Folders) -> None:
        self._folders = folders

    def _path(self, name: str) -> Path:
        return self._folders.control / f"trainer.{name}"

    def _latest_request(self) -> int:
        return max(self._number("start"), self._number("running"), ended.request if (ended := self.ended()) else 0)

    def _number(self, name: str) -> int:
        found = _REQUEST.fullmatch(_text(self._path(name)))
        return int(found[1]) if found else 0

    def asked(self) -> bool:
        """True once any trainer was asked for: the job is staged."""
        return self._latest_request() > 0

    def ended(self) -> Ended | None:
        """The last answer, whether or not a newer request stands."""
        found = _EXIT.fullmatch(_text(self._path("exit")))
        return Ended(int(found[1]), int(found[2])) if found else None

    def over(self) -> Ended | None:
        """How the latest trainer ended; None while one runs or is about to."""
        # The answer is written before the request is removed, so an answer read first is never older than what is read next.
        ended = self.ended()
        return ended if ended is not None and ended.request >= self._latest_request() else None

    def start(self) -> None:
        """Ask for a trainer (again). A stop file of an earlier request must not stop this one."""
        (self._folders.run / "stop").unlink(missing_ok=True)
        self._path("kill").unlink(missing_ok=True)
        write_whole(self._path("start"), f"{self._latest_request() + 1}\n".encode())

    def asked_at(self) -> datetime | None:
        """When the trainer that runs was asked for; None where none does."""
        for name in ("running", "start"):
            with suppress(OSError):  # bootstrap.sh moves the one to the other, as old as it was
                return datetime.fromtimestamp(self._path(name).stat().st_mtime, UTC)
        return None

    def ask_to_stop(self) -> None:
        write_whole(self._folders.run / "stop", b"")

    def end_now(self) -> None:
        """For a trainer that does not stop in time."""
        write_whole(self._path("kill"), b"")

    def write_run_file(self, run: RunFile) -> None:
        write_whole(self._folders.run / RUN_FILE, dump(run))

    def restarts(self) -> Restarts:
        try:
            return load(Restarts, self._path("restarts").read_bytes())
        except (OSError, UnreadableDocument):
            return Restarts()

    def remember_restarts(self, restarts: Restarts) -> None:
        write_whole(self._path("restarts"), dump(restarts))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return ""
