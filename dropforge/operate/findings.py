"""What a check found: one line with a verdict, what it means, and the command that mends it."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from dropforge.stack import Deployment


class Verdict(StrEnum):
    OK = "ok"
    #: Works, but somebody should know.
    WARNING = "warning"
    BROKEN = "broken"
    #: Could not be looked at: rights or an answer are missing. Never taken for ok.
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Finding:
    """``means`` is a sentence for a person; ``mend`` a command to copy, empty where nothing is to be done."""

    check: str
    verdict: Verdict
    means: str
    mend: str = ""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def ok(check: str, means: str) -> Finding:
    return Finding(check, Verdict.OK, means)


def warning(check: str, means: str, mend: str = "") -> Finding:
    return Finding(check, Verdict.WARNING, means, mend)


def broken(check: str, means: str, mend: str = "") -> Finding:
    return Finding(check, Verdict.BROKEN, means, mend)


def unknown(check: str, means: str, mend: str = "") -> Finding:
    return Finding(check, Verdict.UNKNOWN, means, mend)


@dataclass(frozen=True, slots=True)
class Check:
    """A look at one thing. It may raise what boto3 raises: ``doctor`` says what that means."""

    name: str
    look: Callable[[Deployment], Iterator[Finding]]
