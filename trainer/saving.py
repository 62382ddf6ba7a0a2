"""A save beside the training: a copy in host memory at a step's end, then written, digested and published by a thread, one at a time.

What keeps the training waiting is the copy alone. The thread touches nothing but the copy and its own staging folder; whatever
goes wrong in it is raised in the training's thread at the next look. A save that is due while one is being written is put off, never
queued: two of them would only be late together. The last save before a stop takes no copy, for nothing moves any more: it waits
for the one that is being written (so that there is never less than before), and is written at once. Where the host has no memory
for a copy, every save is written so, and the training waits.

Imports torch at its top: import this file inside a function.
"""

import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from jobspec.checkpoint import Identity
from jobspec.marker import FailureCode
from jobspec.saves import Costs
from trainer import host
from trainer.checkpoints import CheckpointStore, Draft
from trainer.failures import TrainerFailure

Write = Callable[[Path], None]
#: Called with a tensor or any nest of containers that holds some; gives what may be read while the training goes on.
Keep = Callable[[str, Any], Any]
#: Fills a staging folder with what is small, and gives what writes the rest of it, from what was kept.
Fill = Callable[[Path, Keep], Write]


@dataclass(frozen=True, slots=True)
class Landed:
    """A save that is whole on the disk. ``put_off``: steps that it was due before it could begin."""

    step: int
    total_steps: int
    folder: Path
    bytes: int
    costs: Costs
    beside: bool
    put_off: int


class HostCopies:
    """Copies of tensors in host memory, which is taken once and used for every save (pinned where they come from a GPU)."""

    def __init__(self) -> None:
        self._kept: dict[str, torch.Tensor] = {}

    def __call__(self, name: str, value: Any) -> Any:
        """``value`` with every tensor in it copied; tensors that share their memory share that of the copy. Complete when it returns."""
        copied = self._copy(name, value, {})
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return copied

    def missing_bytes(self, state: Callable[[], Any]) -> int:
        """Host memory that copying what ``state`` gives would take anew: all of it, or nothing once it was copied."""
        return 0 if self._kept else sum(tensor.numel() * tensor.element_size() for tensor in _tensors(state()))

    def _copy(self, name: str, value: Any, seen: dict[Any, torch.Tensor]) -> Any:
        if isinstance(value, torch.Tensor):
            place = (value.untyped_storage().data_ptr(), value.storage_offset(), value.shape, value.stride())
            if value.numel() == 0 or place not in seen:
                seen[place] = self._into_kept(name, value.detach())
            return seen[place]
        if isinstance(value, dict):
            return {key: self._copy(f"{name}/{key}", each, seen) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return type(value)([self._copy(f"{name}/{at}", each, seen) for at, each in enumerate(value)])
        return value

    def _into_kept(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        kept = self._kept.get(name)
        if kept is None or kept.shape != tensor.shape or kept.dtype != tensor.dtype:
            kept = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
            self._kept[name] = kept
        return kept.copy_(tensor, non_blocking=True)


def _tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return [tensor for each in inside for tensor in _tensors(each)]


def as_it_is(_name: str, value: Any) -> Any:
    """Keeps nothing: for a save that is written while nothing moves."""
    return value


@dataclass(slots=True)
class _Writing:
    """The save that is being written, or was and is not yet spoken of."""

    draft: Draft
    began: float
    stall_s: float
    put_off: int
    thread: threading.Thread | None = None
    folder: Path | None = None
    ended: float = 0.0
    error: BaseException | None = None


@dataclass(slots=True)
class Saver:
    """``state()`` gives what a save would copy, to be measured; ``report`` is called in the training's thread for each save that landed.

    ``newest``: the step of the newest checkpoint, at first the one resumed from. ``closing``: the training is about to end.
    """

    store: CheckpointStore
    job_id: str
    identity: Identity
    clock: Callable[[], float]
    state: Callable[[], Any]
    report: Callable[[Landed], None]
    newest: int = 0
    closing: bool = False
    costs: Costs | None = None
    saves: int = 0
    stalled_s: float = 0.0
    _bytes: int = 0
    _put_off: int = 0
    _copies: HostCopies = field(default_factory=HostCopies)
    _writing: _Writing | None = None

    def free_to_save(self) -> bool:
        """False while one is being written: the save that is due is put off. Raises what went wrong with the last one."""
        self.settle()
        self._put_off += self._writing is not None
        return self._writing is None

    def save(self, step: int, total_steps: int, fill: Fill) -> None:
        """Save ``step``, unless it is saved. Raises TrainerFailure (disk_full), and whatever a writer raised."""
        began = self.clock()
        self.wait()
        if step == self.newest:
            return
        self._refuse_full_disk()
        beside = not self.closing and self._copies.missing_bytes(self.state) <= host.free_memory_bytes() // 2
        draft = self.store.draft(job_id=self.job_id, step=step, total_steps=total_steps, identity=self.identity)
        try:
            write = fill(draft.folder, self._copies if beside else as_it_is)
        except BaseException:
            shutil.rmtree(draft.folder, ignore_errors=True)
            raise
        writing = self._writing = _Writing(draft, began, self.clock() - began, self._put_off)
        self._put_off = 0
        if beside:
            writing.thread = threading.Thread(target=self._write, args=(writing, write), name=f"save of step {step}")
            writing.thread.start()
        else:
            self._write(writing, write)
            writing.stall_s = writing.ended - began
            self.settle()

    def _write(self, writing: _Writing, write: Write) -> None:
        try:
            writing.folder = self.store.publish(writing.draft, write)
        except BaseException as error:  # it is raised by settle, in the training's thread
            writing.error = error
        writing.ended = self.clock()

    def settle(self) -> None:
        """Speak of the save that was being written, if it is done: report it, or raise what went wrong."""
        writing = self._writing
        if writing is None or (writing.thread is not None and writing.thread.is_alive()):
            return
        self._writing = None
        self.saves += 1
        self.stalled_s += writing.stall_s
        if writing.error is not None:
            raise writing.error
        assert writing.folder is not None
        self.newest = writing.draft.step
        self.costs = Costs(writing.stall_s, writing.ended - writing.began)
        self._bytes = sum(path.stat().st_size for path in writing.folder.iterdir())
        beside = writing.thread is not None
        self.report(Landed(writing.draft.step, writing.draft.total_steps, writing.folder, self._bytes, self.costs, beside, writing.put_off))

    def wait(self) -> None:
        """Until nothing is being written. Raises what went wrong with what was."""
        if self._writing is not None and self._writing.thread is not None:
            self._writing.thread.join()
        self.settle()

    def _refuse_full_disk(self) -> None:
        """Before anything is written: the next is as large as the last, and nothing older is deleted before it is whole."""
        free = shutil.disk_usage(self.store.folder).free
        if free < self._bytes:
            raise TrainerFailure(
                FailureCode.DISK_FULL,
                f"the disk has {free // 1024**2} MiB free, the next checkpoint needs {self._bytes // 1024**2} MiB beside the {self.store.keep} kept. "
                "Use a larger volume, or a smaller checkpoint.keep or adapter.r.",
            )
