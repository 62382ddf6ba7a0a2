"""The processes that train together, one for each GPU, as any part of the trainer sees them. Rank 0 writes and decides; the others follow.

Whatever all ranks do in the same order they may do through :class:`Ranks`. No torch here: ``trainer.group`` has the ranks of a real group.
"""

from typing import Any

from trainer.stop import StopSignal


class Ranks:
    """One process alone: what any rank says is what it says itself."""

    rank = 0
    size = 1

    @property
    def first(self) -> bool:
        """True in the one process that writes files and progress lines."""
        return self.rank == 0

    def any(self, flag: bool) -> bool:
        """True in every rank where it is true in any. Every rank must ask, at the same place."""
        return flag

    def of_first(self, value: Any) -> Any:
        """Rank 0's value, in every rank."""
        return value

    def gather(self, value: Any) -> list[Any]:
        """Every rank's value in order of ranks, in every rank."""
        return [value]


ALONE = Ranks()


class SharedStop(StopSignal):
    """A stop that one rank was asked for is a stop of all, at the same look: every rank must look at the same places."""

    def __init__(self, ranks: Ranks, own: StopSignal) -> None:
        super().__init__()
        self._ranks, self._own, self._agreed = ranks, own, False

    def asked(self) -> bool:
        return self._agreed or self._own.asked()

    def requested(self) -> bool:
        self._agreed = self._agreed or self._ranks.any(self._own.asked())
        return self._agreed
