"""Which rows each rank reads: a step's rows are the same whatever the number of GPUs, dealt out evenly. No torch.

A step takes the next ``global_batch`` rows of the epoch's order. They are cut into micro-batches, as many as are a multiple of the
ranks, and rank r takes every ``ranks``-th of them, beginning with the r-th: accelerate's own way to share out a loader. So no row is
left out, none is read twice but where an epoch's last rows do not go round, and a checkpoint made with two GPUs is continued with
four where it ended.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Order = Callable[[int], Sequence[int]]


@dataclass(frozen=True, slots=True)
class Deal:
    """``order(epoch)``: every row once, as the epoch reads them."""

    order: Order
    global_batch: int
    micro_batch: int
    ranks: int

    def epoch(self, epoch: int) -> list[list[int]]:
        """The epoch's micro-batches, each its rows; in every round of ``ranks`` of them each rank has one."""
        order = self.order(epoch)
        steps = (order[begin : begin + self.global_batch] for begin in range(0, len(order), self.global_batch))
        return [rows for step in steps for rows in dealt(step, self.micro_batch, self.ranks)]


def dealt(rows: Sequence[int], micro_batch: int, ranks: int) -> list[list[int]]:
    """One step's rows in micro-batches of at most so many, evenly, as many as are a multiple of ``ranks``.

    Where an epoch's last step has fewer rows than micro-batches, the first of them come again until each micro-batch has one, which is
    for less than ``ranks`` rows: a rank without a row would wait for ever. Packed rows need none of this (trainer/packing.py).
    """
    count = math.ceil(math.ceil(len(rows) / micro_batch) / ranks) * ranks
    filled = list(itertools.islice(itertools.cycle(rows), max(count, len(rows))))
    bounds = [round(part * len(filled) / count) for part in range(count + 1)]
    return [filled[begin:end] for begin, end in itertools.pairwise(bounds)]


def shared(rows: int, batch: int, rank: int, ranks: int) -> list[tuple[list[int], bool]]:
    """A rank's batches of rows that are read once, in order, each with whether it counts.

    Every rank gets equally many: those that would go without get the first batch again, not to be counted.
    """
    batches = [list(range(begin, min(begin + batch, rows))) for begin in range(0, rows, batch)]
    mine = range(rank, math.ceil(len(batches) / ranks) * ranks, ranks)
    return [(batches[at], True) if at < len(batches) else (batches[0], False) for at in mine]
