"""The last words of ranks: how each process of a run ended, in a file of its own, for the process that started them to read.

No torch here. A rank that leaves no word was ended from outside.
"""

from datetime import datetime
from enum import StrEnum
from pathlib import Path

from jobspec.base import Document, Text, UtcTime
from jobspec.marker import FailureCode
from jobspec.wire import UnreadableDocument, dump, load
from trainer.durable import write_durably


class Ended(StrEnum):
    COMPLETED = "completed"
    INTERRUPTED = "interrupted"
    TOO_LARGE = "too_large"  # the micro-batch, in the rehearsal: a smaller one is to be tried
    LOST = "lost"  # another rank went away
    FAILED = "failed"


class Word(Document):
    ended: Ended
    at: UtcTime
    message: Text = ""
    failure: FailureCode | None = None


class Words:
    """The folder of one start's last words."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def say(self, rank: int, word: Word) -> None:
        whole = self._folder / f"rank-{rank}.json"
        write_durably(whole.with_suffix(".new"), dump(word))
        whole.with_suffix(".new").rename(whole)

    def of(self, rank: int) -> Word | None:
        try:
            return load(Word, (self._folder / f"rank-{rank}.json").read_bytes())
        except (OSError, UnreadableDocument):
            return None


def first_of(words: dict[int, Word], ended: Ended) -> tuple[int, Word] | None:
    """Who ended so first, and its word."""
    so = [(word.at, rank) for rank, word in words.items() if word.ended is ended]
    return (min(so)[1], words[min(so)[1]]) if so else None


def word(ended: Ended, at: datetime, message: str = "", failure: FailureCode | None = None) -> Word:
    return Word(ended=ended, at=at, message=message[:2000], failure=failure)
