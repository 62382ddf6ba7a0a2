"""Failures with a named code: what every exception that reaches the last door is turned into."""

import errno
import shutil
from collections.abc import Iterator
from pathlib import Path

from jobspec.marker import Failure, FailureCode
from jobspec.runfile import RunFile

#: A disk with less than this free could not hold what was being written, whatever the writer called its error.
FULL_DISK_BYTES = 1024 * 1024
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
#: How CUDA, its libraries (cuBLAS, cuDNN) and the CPU allocator say it.
_NO_MEMORY = ("out of memory", "STATUS_ALLOC_FAILED", "can't allocate memory")
MAX_MESSAGE = 2000


class TrainerFailure(Exception):
    """What was wrong, where, and what to do: the user reads ``str()`` of it."""

    def __init__(self, code: FailureCode, message: str) -> None:
        super().__init__(message)
        self.code = code


def failure_of(error: BaseException, folder: Path, run: RunFile) -> Failure:
    """The named failure for any exception; ``folder`` is where the run writes (its disk may be full)."""
    if isinstance(error, TrainerFailure):
        return Failure(code=error.code, message=str(error)[:MAX_MESSAGE])
    if is_disk_full(error, folder):
        free_mib = shutil.disk_usage(folder).free // 1024**2
        message = f"the disk of the run folder is full ({free_mib} MiB free): use a larger volume, or a smaller checkpoint.keep or adapter.r. {_line(error)}"
        return Failure(code=FailureCode.DISK_FULL, message=message[:MAX_MESSAGE])
    if is_out_of_memory(error):
        return Failure(code=FailureCode.OUT_OF_MEMORY, message=_memory_message(error, run)[:MAX_MESSAGE])
    return Failure(code=FailureCode.TRAINER_ERROR, message=f"the trainer stopped on an error of its own: {_line(error)}"[:MAX_MESSAGE])


def is_disk_full(error: BaseException, folder: Path) -> bool:
    """True where the error, or what it was raised from, comes of a full disk.

    torch reports a full disk as a RuntimeError of its zip writer without a number, so the disk itself is asked as well.
    """
    for cause in _chain(error):
        if isinstance(cause, OSError) and cause.errno in _NO_SPACE:
            return True
        if "No space left on device" in str(cause):
            return True
    writer_failed = any("PytorchStreamWriter" in str(c) or "inline_container" in str(c) or "iostream" in str(c) for c in _chain(error))
    return writer_failed and shutil.disk_usage(folder).free < FULL_DISK_BYTES


def is_out_of_memory(error: BaseException) -> bool:
    """True for the GPU's and the CPU allocator's ways of saying that memory ran out."""
    for cause in _chain(error):
        if isinstance(cause, MemoryError) or type(cause).__name__ == "OutOfMemoryError":
            return True
        if isinstance(cause, RuntimeError) and any(words in str(cause) for words in _NO_MEMORY):
            return True
    return False


def _memory_message(error: BaseException, run: RunFile) -> str:
    micro_batch = run.training.micro_batch_size
    smaller = f"training.micro_batch_size {max(1, micro_batch // 2)} (now {micro_batch}; the global batch stays the same)"
    remedies = ([smaller] if micro_batch > 1 else []) + memory_remedies(run)
    return f"memory ran out. Try {', '.join(remedies)}. {_line(error)}"


def memory_remedies(run: RunFile) -> list[str]:
    """What of a run's settings takes less memory, the cheapest change first; the micro-batch aside."""
    remedies = [] if run.training.gradient_checkpointing else ["training.gradient_checkpointing: true"]
    lighter = {"full": "adapter.type lora or qlora", "lora": "adapter.type qlora", "qlora": ""}[run.adapter.type]
    remedies += [lighter] if lighter else []
    remedies.append(f"a smaller training.max_length (now {run.training.max_length})")
    if run.grpo is not None:
        remedies.append(f"a smaller grpo.max_completion_length (now {run.grpo.max_completion_length})")
    return [*remedies, "an instance type with more GPU memory"]


def too_large(run: RunFile, micro_batch: int, told: str) -> str:
    """What to tell where the longest rows do not fit, whatever the micro-batch."""
    told = f" {told}" if told else ""
    return f"the longest rows do not fit into memory, not even with a micro-batch of {micro_batch}. Try {', '.join(memory_remedies(run))}.{told}"


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:600]}"


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__
