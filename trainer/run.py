"""A run from its file to an exit code: data, identity, checkpoint; then, in ``story``, model, training, final folder.

Everything that can be refused is refused before torch is imported. Every way out writes one last progress line:
COMPLETED, INTERRUPTED or FAILED; only where a rank was ended from outside (exit code LOST) it is a WARNING, for nothing is over.
"""

import os
import sys
import traceback
from pathlib import Path

from jobspec.checkpoint import Identity
from jobspec.marker import FailureCode
from jobspec.runfile import ExitCode, ProgressKind, RunFile, TrainerResults
from jobspec.wire import UnreadableDocument, load
from trainer.checkpoints import CheckpointStore
from trainer.failures import TrainerFailure, failure_of
from trainer.finish import RESULTS_NAME
from trainer.gguf import check_converter
from trainer.identity import identity_of
from trainer.launch import RanksLost, train_together
from trainer.prepare import prepare, read_all
from trainer.progress import Now, ProgressLog
from trainer.room import Clock, Room
from trainer.sharding import check_ranks, micro_batches_of
from trainer.stages import Stages
from trainer.stop import StopRequested, StopSignal


def run_file(path: Path, now: Now, clock: Clock, stop: StopSignal, *, only_prepare: bool = False) -> ExitCode:
    """Do what the run file at ``path`` asks, or only its data checks. ``clock`` is monotonic seconds; ``stop`` may listen already."""
    root = path.resolve().parent
    try:
        run = load(RunFile, path.read_bytes()).resolved()
    except (OSError, UnreadableDocument) as error:
        message = f"the run file {path.name} is not readable: {error}"
        ProgressLog(root / "progress.jsonl", now).write(ProgressKind.FAILED, message, failure=FailureCode.TRAINER_ERROR)
        sys.stderr.write(message + "\n")
        return ExitCode.FAILED
    room = Room(run, root, ProgressLog(root / run.progress_file, now), stop, now, clock, Stages(clock()))
    stop.watch(root / run.stop_file)
    try:
        if only_prepare:
            prepare(run, root, read_all(run, root, room.stop), room.log, room.stop)
        else:
            _run(room)
    except StopRequested as stopped:
        room.log.write(ProgressKind.INTERRUPTED, str(stopped))
        return ExitCode.INTERRUPTED
    except RanksLost as lost:
        sys.stderr.write(f"{lost}\n")
        room.log.write(ProgressKind.WARNING, str(lost))
        return ExitCode.LOST
    except Exception as error:  # the last door: every failure becomes one line with a named code
        return _failed(room, error)
    return ExitCode.COMPLETED


def _failed(room: Room, error: Exception) -> ExitCode:
    failure = failure_of(error, room.root, room.run)
    if not isinstance(error, TrainerFailure):
        traceback.print_exception(error)
    sys.stderr.write(f"{failure.code.value}: {failure.message}\n")
    try:
        room.log.write(ProgressKind.FAILED, failure.message, failure=failure.code)
    except OSError as full:  # a full disk takes no progress line either; the exit code still tells
        sys.stderr.write(f"the progress file takes no more lines: {full}\n")
    return ExitCode.FAILED


def _run(room: Room) -> None:
    run, root, stop = room.run, room.root, room.stop
    stop.check("starting")
    micro_batches_of(run)
    check_converter(run)
    rows = read_all(run, root, stop)
    identity = identity_of(run, root, rows.data_sha256, stop)
    if _already_finished(room, identity):
        return
    store = CheckpointStore(root / run.checkpoints_dir, run.checkpoint.keep, room.now)
    store.open()
    choice = store.choose(identity, stop)
    check_ranks(run, choice)
    data = prepare(run, root, rows, room.log, stop)
    room.stage_over("prepare")
    stop.check("loading the model")
    if run.ranks > 1:
        train_together(room, data.manifest, identity, store, choice)
        return
    # Read by CUDA once torch is imported. One process, one GPU.
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")
    from trainer.story import train

    train(room, data, identity, store, choice)


def _already_finished(room: Room, identity: Identity) -> bool:
    """True where an earlier start of the same run file published its final folder: the same command may be given again."""
    final = room.root / room.run.final_dir
    if not final.exists():
        return False
    try:
        results = load(TrainerResults, (final / RESULTS_NAME).read_bytes())
    except (OSError, UnreadableDocument) as error:
        raise TrainerFailure(FailureCode.TRAINER_ERROR, f"{room.run.final_dir}/ exists but holds no readable results: {error}. Move it away.") from None
    if (results.data_sha256, results.model_sha256) != (identity.data_sha256, identity.model_sha256):
        raise TrainerFailure(FailureCode.IDENTITY_CHANGED, f"{room.run.final_dir}/ is the result of another model or data set. Move it away.")
    room.log.write(ProgressKind.COMPLETED, "finished by an earlier start", step=results.steps, total_steps=results.steps)
    return True
