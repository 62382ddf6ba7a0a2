"""One rank of a run on several GPUs: a process that torchrun started. Its last word goes into a file; rank 0 also writes all else."""

import ctypes
import gc
import os
import signal
import sys
import threading
import time
import traceback
from datetime import UTC, datetime
from typing import Any

from trainer.stop import StopRequested, StopSignal

#: prctl(2): the signal to get when the parent ends.
PR_SET_PDEATHSIG = 1


class _Asked(StopSignal):
    """A SIGTERM of this rank, the run's stop file, or what the starting process was asked for."""

    def __init__(self, event: Any) -> None:
        super().__init__()
        self._event = event

    def asked(self) -> bool:
        return super().asked() or self._event.is_set()


def run_rank(task: Any) -> int:
    """Entry point of a rank; ``task`` is a :class:`trainer.launch.Task`. Gives an exit code; a rank that ended badly does not return."""
    stop = _Asked(task.asked)
    stop.listen()
    stop.watch(task.root / task.run.stop_file)
    _die_with_parent()
    from trainer.words import Words, word

    if task.run.nodes > 1:
        threading.Thread(target=_end_when_gone, args=(task,), daemon=True).start()

    ended, message, failure = _run(task, stop)
    Words(task.words).say(int(os.environ["LOCAL_RANK"]), word(ended, datetime.now(UTC), message, failure))
    if ended in ("failed", "lost", "too_large"):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)  # an orderly end would wait for ranks that wait for this one
    return 0


def _end_when_gone(task: Any) -> None:
    """A rank that waits for another instance's in a GPU's queue would wait for minutes: this thread does not."""
    from trainer.words import Ended, Words, word

    task.gone.wait()
    Words(task.words).say(int(os.environ["LOCAL_RANK"]), word(Ended.LOST, datetime.now(UTC), "another instance is gone"))
    os._exit(1)


def _die_with_parent() -> None:
    """A rank whose starter was ended must not go on writing into the folder that the next start takes over."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _run(task: Any, stop: StopSignal) -> tuple[Any, str, Any]:
    from trainer.failures import failure_of
    from trainer.rehearsal import TooLarge
    from trainer.words import Ended

    try:
        _train(task, stop)
    except StopRequested as stopped:
        return Ended.INTERRUPTED, str(stopped), None
    except TooLarge as large:
        return Ended.TOO_LARGE, str(large), None
    except Exception as error:  # the last door of a rank, as run_file's is of a run
        if _lost_another(error):
            return Ended.LOST, str(error), None
        failure = failure_of(error, task.root, task.run)
        traceback.print_exception(error)
        return Ended.FAILED, failure.message, failure.code
    return Ended.COMPLETED, "", None


def _lost_another(error: Exception) -> bool:
    """True where the group broke: gloo and NCCL report a peer that is gone as an error of the call that waited for it."""
    import torch.distributed as dist

    told = str(error)
    broken = isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and any(words in told for words in ("gloo", "Gloo", "NCCL", "by peer")))
    return broken and "out of memory" not in told


def _train(task: Any, stop: StopSignal) -> None:
    from trainer.checkpoints import CheckpointStore
    from trainer.group import Group
    from trainer.prepare import open_prepared
    from trainer.progress import ProgressLog, Silence
    from trainer.ranks import SharedStop
    from trainer.room import Room
    from trainer.sharing import agreed
    from trainer.story import train

    group = Group(task.name)
    now = lambda: datetime.now(UTC)  # noqa: E731 - the one clock, made where the process starts
    run, root = task.run, task.root
    here = int(os.environ["LOCAL_RANK"]) == 0  # on each instance one rank tells of the steps
    log = ProgressLog(root / run.progress_file, now) if here else Silence(root / run.progress_file, now)
    room = Room(run, root, log, SharedStop(group, stop), now, time.monotonic, task.stages, group)
    store = CheckpointStore(root / run.checkpoints_dir, run.checkpoint.keep, now, set(task.distrusted))
    choice = agreed(group, task.identity, task.choice, store.folder, writes=here)
    train(room, open_prepared(run, root, task.data), task.identity, store, choice, micro_batch=task.micro_batch)
    gc.collect()
    group.leave()
