"""A run on several GPUs, from the one process that was started: it prepares, starts a rank for each GPU through torchrun, and answers for them.

torchrun (torch.distributed.run's own launcher) starts the processes, names each its rank and the place to meet, and brings all
down when one ends badly. What it cannot tell apart - a stop, a failure with a name, a rank that was ended from outside - the ranks say
themselves in their last words (trainer/words.py). Imports torch inside.
"""

import os
import signal
import socket
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobspec.batches import least_micro_batch, micro_batches, undivided
from jobspec.checkpoint import Identity
from jobspec.marker import FailureCode
from jobspec.prepared import PreparedManifest
from jobspec.runfile import ProgressKind, RunFile
from trainer.checkpoints import CheckpointStore, Choice
from trainer.failures import TrainerFailure, too_large
from trainer.room import Room
from trainer.stop import StopRequested
from trainer.words import Ended, Word, Words, first_of

#: Methods whose full training is shared out over several GPUs; the others hold a second model beside, or a part that is drawn new.
SHARDED_METHODS = ("sft", "orpo")
#: Seconds that ranks have to end once one of them has ended badly; then they are ended by SIGKILL.
ENDING_S = 10


class RanksLost(Exception):
    """A rank was ended from outside; what it says names which."""


@dataclass(frozen=True, slots=True)
class Task:
    """What every rank is told. ``asked``: a multiprocessing event, set once the run is asked to stop."""

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


def check_sharding(run: RunFile, dtype: str) -> None:
    """What full training on several GPUs does not do: raises TrainerFailure with what to choose instead."""
    lacks = None
    if run.adapter.type != "full" or run.ranks == 1:
        return
    if dtype == "float16":
        lacks = "training.dtype float16, whose gradient scaler knows no shards: choose bfloat16 or float32"
    elif run.method not in SHARDED_METHODS:
        lacks = f"method {run.method}, only for {' and '.join(SHARDED_METHODS)}: choose adapter.type lora, or an instance type with one GPU"
    if lacks:
        raise TrainerFailure(FailureCode.TRAINER_ERROR, f"adapter.type full on several GPUs is not for {lacks}.")


def micro_batches_of(run: RunFile) -> tuple[int, ...]:
    """The sizes to try, the largest first. Raises TrainerFailure where the run cannot be split over its GPUs."""
    check_sharding(run, run.training.dtype)
    least = least_micro_batch(run.method, run.kto)
    whole = run.training.global_batch_size
    if told := undivided(whole, run.ranks, least if run.ranks > 1 else 1):
        raise TrainerFailure(FailureCode.TRAINER_ERROR, f"{told}. Change it, or take an instance type with another number of GPUs.")
    return micro_batches(whole, run.training.micro_batch_size, run.ranks, least)


def check_ranks(run: RunFile, choice: Choice) -> None:
    """Raises TrainerFailure (identity_changed) where the checkpoint cannot be continued on this number of GPUs."""
    if choice.folder is not None and run.adapter.type == "full" and (choice.ranks == 1) is not (run.ranks == 1):
        raise TrainerFailure(
            FailureCode.IDENTITY_CHANGED,
            f"{choice.folder.name} was made by {choice.ranks} GPUs or processes, this run has {run.ranks}: adapter.type full keeps its optimizer otherwise on "
            "one than on several, and starting it afresh would change the training. Take an instance type with as many GPUs, or submit a new job.",
        )


def train_together(room: Room, data: PreparedManifest, identity: Identity, store: CheckpointStore, choice: Choice) -> None:
    """Train and finish on ``run.ranks`` processes. Raises StopRequested, TrainerFailure, RanksLost."""
    from torch.multiprocessing import get_context

    sizes = micro_batches_of(room.run)
    carried = choice.carried.micro_batch_size if choice.carried else None
    if carried in sizes:
        sizes = (carried,)
    asked = get_context("spawn").Event()
    room.stop.relay(asked.set)
    for size, smaller in zip(sizes, [*sizes[1:], None], strict=True):
        room.stop.check("starting the ranks")
        with tempfile.TemporaryDirectory(prefix="dropforge-ranks-") as folder:
            task = Task(room.run, room.root, data, identity, choice, frozenset(store.distrusted), size, Path(folder), asked)
            told = _ended(room, task)
        if told is None:
            return
        if smaller is None:
            raise TrainerFailure(FailureCode.OUT_OF_MEMORY, too_large(room.run, size, told))
        room.log.write(ProgressKind.WARNING, f"a micro-batch of {size} of the longest rows does not fit into memory; {smaller} is tried: {told}")


def _ended(room: Room, task: Task) -> str | None:
    """Start the ranks and wait for their end: None once they completed, else why the micro-batch was too large for them."""
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import elastic_launch

    from trainer.process import run_rank

    deaths: dict[int, int] = {}
    try:
        elastic_launch(_config(task.run), run_rank)(task)
    except ChildFailedError as failed:
        deaths = {rank: failure.exitcode for rank, failure in failed.failures.items() if failure.exitcode < 0}
    finally:
        room.stop.listen()  # torchrun put handlers of its own in this one's place
    ranks = range(task.run.processes)
    said = {rank: found for rank in ranks if (found := Words(task.words).of(rank)) is not None}
    return _verdict(said, sorted(set(ranks) - said.keys()), deaths)


def _verdict(said: dict[int, Word], silent: list[int], deaths: dict[int, int]) -> str | None:
    if failed := first_of(said, Ended.FAILED):
        rank, word = failed
        raise TrainerFailure(word.failure or FailureCode.TRAINER_ERROR, word.message if rank == 0 else f"rank {rank}: {word.message}")
    if large := first_of(said, Ended.TOO_LARGE):
        return large[1].message
    if silent or first_of(said, Ended.LOST):
        named = ", ".join(f"rank {rank} was ended by {signal.Signals(-deaths[rank]).name}" if rank in deaths else f"rank {rank} ended" for rank in silent)
        raise RanksLost(f"{named or 'a rank of another instance ended'} without a last word, so the others were ended too; the last checkpoint counts")
    if stopped := first_of(said, Ended.INTERRUPTED):
        raise StopRequested(stopped[1].message)
    return None


def _config(run: RunFile) -> Any:
    from torch.distributed.launcher.api import LaunchConfig

    _choose_network()
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // run.processes)))
    return LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=run.processes,
        run_id=run.job_id,
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0",  # any free port
        local_addr="127.0.0.1",
        max_restarts=0,  # the agent restarts, from the last checkpoint
        start_method="spawn",
        signals_to_handle="SIGINT",  # SIGTERM stays a stop request
        shutdown_timeout=ENDING_S,
    )


def _choose_network() -> None:
    """Gloo and NCCL look for an interface of their own choice, by the host's name; a container without a network has the loopback alone."""
    if any(name == "lo" for _, name in socket.if_nameindex()):
        os.environ["GLOO_SOCKET_IFNAME"] = os.environ["NCCL_SOCKET_IFNAME"] = "lo"
