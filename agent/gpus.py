"""What the machine's driver tells of its GPUs, as means over a sliding window of training.

``bootstrap.sh`` asks ``nvidia-smi`` on the machine and leaves the answer in ``gpus.csv``. Not NVML in this process: the container that
holds the credentials then needs no GPU device and no driver library, nothing more is in the image, and a driver that hangs (it does,
after some Xid errors) hangs no heartbeat. What is not told is not reported; it is never taken for nothing done.
"""

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from jobspec.heartbeat import GpuUse

#: The window is kept in so many slices, however long it is.
SLICES = 60
#: After this long without a new answer nothing is known any more.
SILENT_S = 60.0
#: A line has some 30 bytes, and no machine has more than 16 GPUs.
MAX_BYTES = 4096
MAX_GPUS = 64


@dataclass(slots=True)
class _Sums:
    """One GPU in one slice of time."""

    percent: float = 0.0
    count: int = 0
    memory_mib: float = 0.0
    memory_total_mib: float = 0.0

    def add(self, other: "_Sums") -> None:
        self.percent += other.percent
        self.count += other.count
        self.memory_mib = max(self.memory_mib, other.memory_mib)
        self.memory_total_mib = other.memory_total_mib


@dataclass(slots=True)
class _Slice:
    since_s: float
    gpus: dict[int, _Sums] = field(default_factory=dict)

    def add(self, gpus: dict[int, _Sums]) -> None:
        for index, sums in gpus.items():
            self.gpus.setdefault(index, _Sums()).add(sums)


class GpuWatch:
    """``take()`` is called every few seconds of training. ``clock`` gives seconds that never go back."""

    def __init__(self, answers: Path, window_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._answers = answers
        self._window_s = window_s
        self._clock = clock
        self._slices: deque[_Slice] = deque()
        self._seen_ns = 0
        self._last_s = 0.0

    def take(self) -> tuple[GpuUse, ...]:
        """Take in the newest answer; each GPU's use over the window so far. Empty while the driver tells nothing."""
        now, told = self._clock(), self._new_answer()
        if told:
            self._last_s = now
            if not self._slices or now - self._slices[-1].since_s >= self._window_s / SLICES:
                self._slices.append(_Slice(now))
            self._slices[-1].add(told)
            while len(self._slices) > 1 and self._slices[1].since_s <= now - self._window_s:
                self._slices.popleft()
        elif now - self._last_s >= SILENT_S:
            self._slices.clear()
        return self._use()

    def _use(self) -> tuple[GpuUse, ...]:
        if not self._slices:
            return ()
        whole = _Slice(self._slices[0].since_s)
        for one in self._slices:
            whole.add(one.gpus)
        window_s = round(min(self._window_s, self._last_s - whole.since_s), 1)
        return tuple(
            GpuUse(
                index=index,
                percent=round(sums.percent / sums.count, 2),
                memory_mib=sums.memory_mib,
                memory_total_mib=sums.memory_total_mib,
                window_s=window_s,
            )
            for index, sums in sorted(whole.gpus.items())
        )

    def _new_answer(self) -> dict[int, _Sums]:
        """The answer by GPU, where it is a new one."""
        try:
            written_ns = self._answers.stat().st_mtime_ns
            if written_ns == self._seen_ns:
                return {}
            with self._answers.open(encoding="ascii", errors="replace") as file:
                text = file.read(MAX_BYTES)
        except OSError:
            return {}
        first, self._seen_ns = self._seen_ns == 0, written_ns
        # What lay there before the training began may be of any time.
        return {} if first else dict(sums for line in text.splitlines()[:MAX_GPUS] if (sums := _read(line)) is not None)


def _read(line: str) -> tuple[int, _Sums] | None:
    """A line of ``--query-gpu=index,utilization.gpu,memory.used,memory.total``; None where a part is ``[N/A]`` or anything else."""
    try:
        index, percent, used, total = (float(part) for part in line.split(","))
    except ValueError:
        return None
    sound = all(math.isfinite(part) and part >= 0 for part in (index, percent, used, total)) and index <= 255 and percent <= 100
    return (int(index), _Sums(percent, 1, used, total)) if sound else None
