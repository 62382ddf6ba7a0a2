"""The training image, which bootstrap.sh pulls while this agent stages: whether it is there, and made of what this agent was made of.

``control/image`` has one word: ``pulling``, ``failed``, or what the training image was built of. Without the file bootstrap.sh is older
than it, and the agent runs from the training image itself.
"""

import logging
import re
import time
from collections.abc import Callable
from pathlib import Path

from agent.settings import Folders
from agent.staging import StagingFailed
from agent.store import Check
from jobspec.marker import FailureCode

PULLING, FAILED = "pulling", "failed"
#: A digest of code and pins that Dockerfile.gpu puts into both images; bootstrap.sh reads the training image's.
BUILD = Path(__file__).parents[1] / "build"
#: Where there is no such file, as bootstrap.sh says it too: a source tree, or an image of one's own making.
UNKNOWN = "unknown"
_OURS = re.compile(r"^\S+ dropforge: ")

log = logging.getLogger(__name__)


class OtherBuild(Exception):
    """The training image is of another build than this agent: what the one writes the other may not read."""


def own_build() -> str:
    try:
        return BUILD.read_text(encoding="ascii").strip() or UNKNOWN
    except (OSError, UnicodeDecodeError):
        return UNKNOWN


class TrainingImage:
    def __init__(self, folders: Folders, check: Check, sleep: Callable[[float], None]) -> None:
        self._folders, self._check, self._sleep, self._own = folders, check, sleep, own_build()

    def _told(self) -> str | None:
        try:
            return (self._folders.control / "image").read_text(encoding="ascii", errors="replace").strip()
        except FileNotFoundError:
            return None

    @property
    def is_coming(self) -> bool:
        return self._told() == PULLING

    def wait(self, longest_s: float, every_s: float) -> None:
        """Until it is there. Raises StagingFailed where it cannot be had, OtherBuild, Summoned."""
        began = time.monotonic()
        while (told := self._told()) == PULLING:
            self._check()
            if time.monotonic() - began >= longest_s:
                raise StagingFailed(FailureCode.IMAGE_NOT_PULLED, f"the training image was still being pulled {longest_s:.0f} s after all else was staged")
            self._sleep(every_s)
        if told == FAILED:
            raise StagingFailed(FailureCode.IMAGE_NOT_PULLED, f"the training image could not be pulled: {self._reason()}")
        if told not in (None, self._own):
            raise OtherBuild(f"this agent is of build {self._own:.12}, the training image of build {told:.12}: the agent of the training image takes over")

    def _reason(self) -> str:
        """Docker's last word in bootstrap.sh's log."""
        try:
            lines = (self._folders.logs / "bootstrap.log").read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            lines = []
        said = [line.strip() for line in lines if line.strip() and not _OURS.match(line)]
        return f"{said[-1][:500]}; see logs/bootstrap.log, and `dropforge doctor`" if said else "see logs/bootstrap.log"
