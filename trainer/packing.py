"""Packing: several short rows on one line of a micro-batch instead of padding, without changing what a step learns.

Each optimizer step reads the same ``global_batch_size`` rows that it would read without packing, and the loss is the mean
over their supervised tokens either way: packing changes speed, not the training. No token is dropped, no row is cut, and
a row sees no other row on its line (trainer/packed.py).

Rows of a step are laid on lines of at most ``capacity`` tokens: best fit, longest first, says how many lines the fullest
step needs, and so how many micro-batches every step has; each step's rows are then spread evenly over as many lines as they
need, longest first onto the shortest line, so that little is padded. Every order hangs on the seed and the epoch alone, so
that a resume finds its place by counting. No torch.
"""

import bisect
import heapq
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trainer.stop import StopSignal

#: Rows of one line, as indices into the training rows.
Line = list[int]
Lengths = npt.NDArray[np.int64]
_STOP_STEPS = 2000


@dataclass(frozen=True, slots=True)
class PackingPlan:
    """``lengths``: tokens of each training row. ``accumulation``: micro-batches of a rank in every step but an epoch's last, which may have fewer."""

    lengths: Lengths
    global_batch: int
    lines: int
    capacity: int
    seed: int
    accumulation: int
    ranks: int = 1

    @property
    def micro_batches(self) -> int:
        """Of one epoch."""
        whole, rest = divmod(len(self.lengths), self.global_batch)
        return whole * self._of_a_step(self.global_batch) + self._of_a_step(rest)

    def _of_a_step(self, rows: int) -> int:
        """Micro-batches of a step of so many rows: as many as are a multiple of the ranks."""
        return math.ceil(min(self.accumulation * self.ranks, rows) / self.ranks) * self.ranks

    def epoch(self, epoch: int) -> list[list[Line]]:
        """The epoch's micro-batches, each its lines; in every round of ``ranks`` of them each rank has one, which may be without a line."""
        return [lines for rows in _steps(self.lengths, self.global_batch, self.seed, epoch) for lines in self._micro_batches(rows)]

    def filled(self) -> float:
        """Share of the first epoch's computed tokens that are rows' tokens; the rest is padding."""
        computed = 0
        for lines in self.epoch(0):
            computed += len(lines) * max((int(self.lengths[line].sum()) for line in lines), default=0)
        return float(self.lengths.sum()) / computed

    def _micro_batches(self, rows: npt.NDArray[np.int64]) -> Iterator[list[Line]]:
        given = self._of_a_step(len(rows))
        wanted = min(given, len(rows))
        lines = lay_out(rows.tolist(), self.lengths, wanted, self.capacity)
        while len(lines) < wanted:  # a micro-batch without a row would be none
            longest = max(range(len(lines)), key=lambda at: len(lines[at]))
            lines.append([lines[longest].pop()])
        # Lines of about one length together: a micro-batch is padded to its longest.
        lines.sort(key=lambda line: -sum(self.lengths[row] for row in line))
        bounds = [round(part * len(lines) / wanted) for part in range(wanted + 1)]
        for begin, end in itertools.pairwise(bounds):
            yield lines[begin:end]
        yield from ([] for _ in range(given - wanted))


def plan_packing(lengths: Lengths, *, global_batch: int, lines: int, capacity: int, seed: int, epochs: int, stop: StopSignal, ranks: int = 1) -> PackingPlan:
    """The plan for so many epochs: no step of them has more than ``lines`` lines in a micro-batch."""
    most = 1
    for epoch in range(epochs):
        for at, rows in enumerate(_steps(lengths, global_batch, seed, epoch)):
            if at % _STOP_STEPS == 0:
                stop.check("packing the rows")
            # Best fit leaves one line at most half empty: it needs no more than this, so most steps need no closer look.
            if math.ceil(2 * int(lengths[rows].sum()) / capacity) > most * lines:
                most = max(most, math.ceil(len(best_fit(rows.tolist(), lengths, capacity)) / lines))
    return PackingPlan(lengths, global_batch, lines, capacity, seed, math.ceil(most / ranks), ranks)


def _steps(lengths: Lengths, global_batch: int, seed: int, epoch: int) -> Iterator[npt.NDArray[np.int64]]:
    order = np.random.default_rng((seed, epoch)).permutation(len(lengths))
    for begin in range(0, len(order), global_batch):
        yield order[begin : begin + global_batch]


def best_fit(rows: Line, lengths: Lengths, capacity: int) -> list[Line]:
    """Best-fit decreasing: each row, longest first, on the fullest line that still has room. At most 11/9 of the fewest lines, and one."""
    lines: list[Line] = []
    room: list[tuple[int, int]] = []  # room left and line, in order
    for row in sorted(rows, key=lambda row: (-lengths[row], row)):
        length = int(lengths[row])
        at = bisect.bisect_left(room, (length, -1))
        if at == len(room):
            lines.append([row])
            bisect.insort(room, (capacity - length, len(lines) - 1))
        else:
            left, line = room.pop(at)
            lines[line].append(row)
            bisect.insort(room, (left - length, line))
    return lines


def lay_out(rows: Line, lengths: Lengths, at_least: int, capacity: int) -> list[Line]:
    """The rows on as many lines as best fit needs, and ``at_least`` so many, spread evenly; as best fit has them where that would pass ``capacity``."""
    fitted = best_fit(rows, lengths, capacity)
    count = max(at_least, len(fitted))
    spread: list[Line] = [[] for _ in range(count)]
    shortest = [(0, at) for at in range(count)]
    for row in sorted(rows, key=lambda row: (-lengths[row], row)):
        filled, at = heapq.heappop(shortest)
        spread[at].append(row)
        heapq.heappush(shortest, (filled + int(lengths[row]), at))
    return fitted if max(filled for filled, _ in shortest) > capacity else spread
