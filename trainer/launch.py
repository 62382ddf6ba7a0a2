"""A run on several GPUs, from the one process that was started: it prepares, starts a rank for each GPU through torchrun, and answers for them.

torchrun (torch.distributed.run's own launcher) starts the processes, names each its rank and the place to meet, and brings all
down when one ends badly. What it cannot tell apart - a stop, a failure with a name, a rank that was ended from outside - the ranks say
themselves in their last words (trainer/words.py). Imports torch inside.
"""

import os
import signal
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jobspec.checkpoint import Identity
from jobspec.marker import FailureCode
from jobspec.prepared import PreparedManifest
from jobspec.runfile import ProgressKind, RunFile
from trainer.checkpoints import CheckpointStore, Choice
from trainer.failures import TrainerFailure, too_large
from trainer.network import choose_network
from trainer.room import Room
from trainer.sharding import micro_batches_of
from trainer.stages import Stages
from trainer.stop import StopRequested
from trainer.words import Ended, Word, Words, first_of, word

#: Seconds that ranks have to end once one of them has ended badly; then they are ended by SIGKILL.
ENDING_S = 10


class RanksLost(Exception):
    """A rank was ended from outside; what it says names which."""


@dataclass(frozen=True, slots=True)
class Task:
    """What every rank is told. ``asked`` and ``gone``: multiprocessing events, set once the run is asked to stop, and once another instance is gone."""

    run: RunFile
    root: Path
    data: PreparedManifest
    identity: Identity
    choice: Choice
    #: Names of checkpoints that were passed over.
    distrusted: frozenset[str]
    micro_batch: int
    words: Path
    asked: Any
    gone: Any
    stages: Stages
    #: Of the start that the instances agreed on; empty on one instance.
    name: str = ""


def train_together(room: Room, data: PreparedManifest, identity: Identity, store: CheckpointStore, choice: Choice) -> None:
    """Train and finish on ``run.ranks`` processes, ``run.processes`` of them here. Raises StopRequested, TrainerFailure, RanksLost."""
    from torch.multiprocessing import get_context

    run, sizes = room.run, micro_batches_of(room.run)
    carried = choice.carried.micro_batch_size if choice.carried else None
    size: int | None = carried if carried in sizes else sizes[0]
    spawn = get_context("spawn")
    task = Task(run, room.root, data, identity, choice, frozenset(store.distrusted), sizes[0], Path(), spawn.Event(), spawn.Event(), room.stages)
    room.stop.relay(task.asked.set)
    while size is not None:
        room.stop.check("starting the ranks")
        with tempfile.TemporaryDirectory(prefix="dropforge-ranks-") as folder:
            size, told = _started(room, replace(task, words=Path(folder)), size)
        if told is None:
            if not run.leads:
                room.log.write(ProgressKind.COMPLETED, "instance 0 has the result")
            return
        smaller = next((other for other in sizes if other < size), None)
        if smaller is not None:
            room.log.write(ProgressKind.WARNING, f"a micro-batch of {size} of the longest rows does not fit into memory; {smaller} is tried: {told}")
        size = smaller
    raise TrainerFailure(FailureCode.OUT_OF_MEMORY, too_large(run, sizes[-1], told or ""))


def _started(room: Room, task: Task, size: int) -> tuple[int, str | None]:
    """One start of the ranks: with which micro-batch (of several instances the leader says it), and why that was too large, if it was."""
    if task.run.nodes == 1:
        return size, _ended(room, replace(task, micro_batch=size), None)
    from trainer.meeting import Lost, Meeting

    last = word(Ended.LOST, room.now(), "it ended")
    meeting = None
    try:
        meeting = Meeting(task.run, room.stop, time.sleep)
        size = int(meeting.assemble(str(size)))
        meeting.watch(task.gone.set)
        told = _ended(room, replace(task, micro_batch=size, name=meeting.name), meeting)
        last = word(Ended.TOO_LARGE, room.now(), told) if told is not None else word(Ended.COMPLETED, room.now())
    except Lost as lost:
        raise RanksLost(str(lost)) from None
    except StopRequested:
        last = word(Ended.INTERRUPTED, room.now())
        raise
    except TrainerFailure as failed:
        last = word(Ended.FAILED, room.now(), str(failed), failed.code)
        raise
    except RanksLost as lost:
        last = word(Ended.LOST, room.now(), str(lost))
        raise
    finally:
        if meeting is not None:
            meeting.leave(last)
        task.gone.clear()
    return size, told


def _ended(room: Room, task: Task, meeting: Any) -> str | None:
    """Start the ranks and wait for their end: None once they completed, else why the micro-batch was too large for them."""
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import elastic_launch

    from trainer.process import run_rank

    deaths: dict[int, int] = {}
    try:
        elastic_launch(_config(task), run_rank)(task)
    except ChildFailedError as failed:
        deaths = {failure.local_rank: failure.exitcode for failure in failed.failures.values() if failure.exitcode < 0}
    finally:
        room.stop.listen()  # torchrun put handlers of its own in this one's place
    ranks = range(task.run.processes)
    said = {rank: found for rank in ranks if (found := Words(task.words).of(rank)) is not None}
    silent = sorted(set(ranks) - said.keys())
    # An instance whose ranks miss another's asks that one why, which may still be bringing down its own.
    within_s = 2.0 * ENDING_S if not silent and first_of(said, Ended.LOST) else 0.0
    return _verdict(said, silent, deaths, meeting.ended(within_s) if meeting is not None else None)


def _verdict(said: dict[int, Word], silent: list[int], deaths: dict[int, int], elsewhere: Word | None = None) -> str | None:
    """What the ranks' last words, by local rank, and another instance's come to. Gives why the micro-batch was too large, where it was."""
    if failed := first_of(said, Ended.FAILED):
        rank, last = failed
        raise TrainerFailure(last.failure or FailureCode.TRAINER_ERROR, last.message if rank == 0 else f"rank {rank}: {last.message}")
    if elsewhere is not None and elsewhere.ended is Ended.FAILED:
        raise TrainerFailure(elsewhere.failure or FailureCode.TRAINER_ERROR, elsewhere.message)
    if large := first_of(said, Ended.TOO_LARGE):
        return large[1].message
    if elsewhere is not None and elsewhere.ended is Ended.TOO_LARGE:
        return elsewhere.message
    if silent or elsewhere is not None or first_of(said, Ended.LOST):
        named = [f"rank {rank} was ended by {signal.Signals(-deaths[rank]).name}" if rank in deaths else f"rank {rank} ended without a word" for rank in silent]
        named += [elsewhere.message] if elsewhere is not None and not silent else []
        raise RanksLost(f"{', '.join(named) or 'the connection between the ranks broke'}: the others were ended too, and the last checkpoint counts")
    if stopped := first_of(said, Ended.INTERRUPTED):
        raise StopRequested(stopped[1].message)
    return None


def _config(task: Task) -> Any:
    from torch.distributed.launcher.api import LaunchConfig

    run = task.run
    choose_network(run)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // run.processes)))
    together = {"rdzv_backend": "static", "rdzv_endpoint": run.rendezvous, "rdzv_configs": {"rank": run.node_rank, "timeout": 300}}
    # Any free port of the loopback.
    alone = {"rdzv_backend": "c10d", "rdzv_endpoint": "127.0.0.1:0", "local_addr": "127.0.0.1"}
    make: Any = LaunchConfig
    return make(
        min_nodes=run.nodes,
        max_nodes=run.nodes,
        nproc_per_node=run.processes,
        run_id=task.name or run.job_id,
        max_restarts=0,  # the agent restarts, from the last checkpoint
        start_method="spawn",
        signals_to_handle="SIGINT",  # SIGTERM stays a stop request
        shutdown_timeout=ENDING_S,
        **(together if run.nodes > 1 else alone),
    )
