"""The story of a run, from the run file to an exit code: data, identity, checkpoint, model, training, final folder.

Everything that can be refused is refused before torch is imported. Every way out writes one last progress line:
COMPLETED, INTERRUPTED or FAILED.
"""

import shutil
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobspec.checkpoint import Identity
from jobspec.marker import FailureCode
from jobspec.runfile import ExitCode, ProgressKind, RunFile, TrainerResults
from jobspec.wire import UnreadableDocument, load
from trainer.checkpoints import Carried, CheckpointStore, Choice
from trainer.failures import TrainerFailure, failure_of
from trainer.finish import PROBE_TOKENS, RESULTS_NAME, Measured, write_final
from trainer.identity import identity_of
from trainer.prepare import Prepared, prepare, read_all
from trainer.progress import Now, ProgressLog
from trainer.stop import StopRequested, StopSignal

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Room:
    """What every part of a run shares: its file, its folder, its log, its stop signal, its clocks."""

    run: RunFile
    root: Path
    log: ProgressLog
    stop: StopSignal
    now: Now
    clock: Clock


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
    room = Room(run, root, ProgressLog(root / run.progress_file, now), stop, now, clock)
    stop.watch(root / run.stop_file)
    try:
        if only_prepare:
            prepare(run, root, read_all(run, root, room.stop), room.log, room.stop)
        else:
            _run(room)
    except StopRequested as stopped:
        room.log.write(ProgressKind.INTERRUPTED, str(stopped))
        return ExitCode.INTERRUPTED
    except Exception as error:  # the last door: every failure becomes one line with a named code
        return _failed(room, error)
    return ExitCode.COMPLETED


def _failed(room: Room, error: Exception) -> ExitCode:
    failure = failure_of(error, room.root, room.run.training.micro_batch_size)
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
    if (run.method, run.adapter.type) != ("sft", "lora"):
        raise TrainerFailure(FailureCode.TRAINER_ERROR, f"this trainer does not know `method: {run.method}` with `adapter.type: {run.adapter.type}` yet")
    rows = read_all(run, root, stop)
    identity = identity_of(run, root, rows.data_sha256, stop)
    if _already_finished(room, identity):
        return
    store = CheckpointStore(root / run.checkpoints_dir, run.checkpoint.keep, room.now)
    store.open()
    choice = store.choose(identity, stop)
    data = prepare(run, root, rows, room.log, stop)
    stop.check("loading the model")
    _train(room, data, identity, store, choice)


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


def _train(room: Room, data: Prepared, identity: Identity, store: CheckpointStore, choice: Choice) -> None:
    """Load, resume or measure first, train to the end or to a stop, measure again, finish."""
    from trainer.train import RunWatch, build_trainer, load_base_model, resolve_dtype, total_steps_of, trl_settings

    run, stop, started = room.run, room.stop, room.clock()
    total_steps = total_steps_of(run.training, len(data.train))
    carried = choice.carried or Carried(dtype=resolve_dtype(run.training.dtype))
    model = load_base_model(room.root / run.model_dir, carried.dtype)
    stop.check("loading the model")
    settings = trl_settings(run.training, total_steps, carried.dtype, store.folder)
    trainer = build_trainer(run, model, data.tokenizer, data.train, data.held_out, settings, carried)
    _refuse_small_disk(store, trainer.model)
    _report_start(room, trainer, carried.dtype, choice, total_steps, room.clock() - started)
    if choice.folder is None:
        trainer.carried = _measure_before(room, data, trainer, carried.dtype)
    watch = RunWatch(trainer, run, room.log, stop, room.clock)
    trainer.add_callback(watch)

    def publish(write: Callable[[Path], None], step: int, total: int) -> Path:
        began = room.clock()
        folder = store.publish(write, job_id=run.job_id, step=step, total_steps=total, identity=identity)
        room.log.write(ProgressKind.CHECKPOINT, folder.name, step=step, total_steps=total, seconds=round(room.clock() - began, 3))
        return folder

    trainer.publish = publish
    _step_to_end(trainer, choice, total_steps)
    if watch.interrupted:
        raise StopRequested(f"stopped at a step boundary, saved as step {trainer.state.global_step} of {total_steps}")
    _finish(room, data, trainer, identity, choice)


def _step_to_end(trainer: Any, choice: Choice, total_steps: int) -> None:
    from transformers import TrainerState, set_seed

    if choice.folder is None:
        set_seed(trainer.args.seed)  # whatever was measured before drew no numbers from the training's
        trainer.train()
    elif choice.step < total_steps:
        trainer.train(resume_from_checkpoint=str(choice.folder))
    else:  # only the finish is missing; transformers would take one more step
        trainer._load_from_checkpoint(str(choice.folder))
        trainer.state = TrainerState.load_from_json(str(choice.folder / "trainer_state.json"))


def _refuse_small_disk(store: CheckpointStore, model: Any) -> None:
    """Before any work: the checkpoints that will be kept, the one being written and the final folder must fit."""
    from trainer.train import CHECKPOINT_BYTES_PER_PARAMETER

    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    present = sum(path.stat().st_size for path in store.folder.rglob("*") if path.is_file())
    needed = trained * CHECKPOINT_BYTES_PER_PARAMETER * (store.keep + 2) - present
    free = shutil.disk_usage(store.folder).free
    if free < needed:
        raise TrainerFailure(
            FailureCode.DISK_FULL,
            f"the disk has {free // 1024**2} MiB free, but {store.keep} checkpoints, one in the making and the final folder need about "
            f"{needed // 1024**2} MiB more. Use a larger volume, or a smaller checkpoint.keep or adapter.r.",
        )


def _report_start(room: Room, trainer: Any, dtype: str, choice: Choice, total_steps: int, seconds: float) -> None:
    trained, whole = trainer.model.get_nb_trainable_parameters()
    message = f"{trained:,} of {whole:,} parameters are trained, on {trainer.args.device.type} in {dtype}"
    room.log.write(ProgressKind.STARTED, message, step=choice.step, total_steps=total_steps, seconds=round(seconds, 3))
    passed = f"; passed over {'; '.join(choice.passed_over)}" if choice.passed_over else ""
    if choice.folder is not None:
        room.log.write(ProgressKind.RESUMED, f"from {choice.folder.name}, the newest whole checkpoint{passed}", step=choice.step, total_steps=total_steps)
    elif passed:
        room.log.write(ProgressKind.RESUMED, f"from the start: no whole checkpoint{passed}", total_steps=total_steps)


def _measure_before(room: Room, data: Prepared, trainer: Any, dtype: str) -> Carried:
    loss = _eval(room, trainer, "before training", 0)
    return Carried(dtype=dtype, eval_loss_before=loss, sample_before=_sample(room, data, trainer, "before", 0))


def _eval(room: Room, trainer: Any, when: str, step: int) -> float | None:
    from trainer.measure import eval_loss

    began = room.clock()
    loss = eval_loss(trainer, room.stop)
    if loss is not None:
        room.log.write(ProgressKind.EVAL, f"held out, {when}", step=step, loss=loss, seconds=round(room.clock() - began, 3))
    return loss


def _sample(room: Room, data: Prepared, trainer: Any, when: str, step: int) -> str:
    from trainer.measure import answer

    began, probe = room.clock(), data.probe
    said = answer(trainer, data.tokenizer, probe.prompt, special_tokens=probe.special_tokens, max_length=room.run.training.max_length, stop=room.stop)
    room.log.write(ProgressKind.SAMPLE, f"{when}: {probe.question} -> {said}", step=step, seconds=round(room.clock() - began, 3))
    return said


def _finish(room: Room, data: Prepared, trainer: Any, identity: Identity, choice: Choice) -> None:
    steps = trainer.state.global_step
    loss_after = _eval(room, trainer, "after training", steps)
    _sample(room, data, trainer, "after", steps)
    began = room.clock()
    measured = Measured(
        steps=steps,
        first_step=choice.step,
        tokens=int(trainer.state.num_input_tokens_seen),
        eval_loss_before=trainer.carried.eval_loss_before,
        eval_loss_after=loss_after,
        data_sha256=identity.data_sha256,
        model_sha256=identity.model_sha256,
        data_report=data.report,
        samples=data.manifest.samples,
        dtype=trainer.carried.dtype,
    )
    results, difference = write_final(room.run, room.root, trainer, data.tokenizer, data.probe_ids(PROBE_TOKENS), measured)
    message = f"{room.run.final_dir}/ loads back with plain peft (largest logit difference {difference:.2g}); adapter sha256 {results.adapter_sha256}"
    room.log.write(ProgressKind.COMPLETED, message, step=steps, total_steps=steps, loss=results.train_loss, seconds=round(room.clock() - began, 3))
