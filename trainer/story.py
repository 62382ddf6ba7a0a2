"""The story of a run once its data is good: rehearse, load, measure, train to the end or to a stop, measure again, finish.

Imports torch and TRL at its top: import this file inside a function.
"""

import shutil
from contextlib import suppress
from typing import Any

import torch
from transformers import TrainerState, set_seed

from jobspec.checkpoint import Identity
from jobspec.marker import FailureCode
from jobspec.runfile import ProgressKind
from trainer import rehearsal
from trainer.card import Measured
from trainer.checkpoints import Carried, CheckpointStore, Choice, Measurement
from trainer.evaluation import Evaluator
from trainer.failures import TrainerFailure
from trainer.finish import write_final
from trainer.gathered import is_sharded
from trainer.measure import answer, measure
from trainer.model import parameter_counts, resolve_dtype
from trainer.pacing import Pace
from trainer.prepare import Prepared
from trainer.room import Room
from trainer.saving import Landed, Saver
from trainer.sharding import check_sharding
from trainer.stop import StopRequested
from trainer.train import CHECKPOINT_BYTES_PER_PARAMETER, Setup, build_trainer, in_order
from trainer.watch import StoppedEarly, Watch
from trainer.weights import unsharded


def train(room: Room, data: Prepared, identity: Identity, store: CheckpointStore, choice: Choice, *, micro_batch: int | None = None) -> None:
    """Train and finish; of several ranks each takes the same way, with the ``micro_batch`` that all were given.

    Raises StopRequested once a stop was honoured, TrainerFailure, and what the libraries raise.
    """
    room.stage_over("import")
    run, stop, started = room.run, room.stop, room.stages.since
    rows, held_out = in_order(run, data.train), in_order(run, data.held_out)
    setup = _setup(room, data, store, choice, rows, held_out, micro_batch)
    stop.check("loading the model")
    total_steps = setup.total_steps()
    trainer = build_trainer(setup, rows, held_out, total_steps, stop)
    if room.ranks.first:  # who alone writes
        _refuse_small_disk(store, trainer.model)
    room.stage_over("load")
    _report_start(room, trainer, setup, choice, total_steps, room.stages.since - started)
    trainer.carried = choice.carried or _measure_before(room, data, trainer, setup)
    evaluator = Evaluator(run, trainer, lambda step: _evaluate(room, trainer, step), choice.folder)
    pace = Pace(run, room.root, room.now, room.clock)
    room.stage_over("measure")
    trainer.saver = _saver(room, trainer, store, identity, pace, choice.step)
    watch = Watch(trainer, room, pace, evaluator.after)
    trainer.add_callback(watch)
    trainer.ranks_before = choice.ranks
    try:
        _step_to_end(trainer, choice, total_steps)
        if watch.interrupted:
            raise StopRequested(f"stopped at a step boundary, saved as step {trainer.state.global_step} of {total_steps}")
        _finish(room, data, trainer, identity, choice, evaluator)
    finally:
        trainer.saver.wait()  # also where something else went wrong: what is half written now is worth its end


def _setup(room: Room, data: Prepared, store: CheckpointStore, choice: Choice, rows: Any, held_out: Any, given: int | None) -> Setup:
    """What the first start of the run decided, or decides now: the arithmetic of this hardware and the micro-batch that fits."""
    run, carried = room.run, choice.carried
    dtype = carried.dtype if carried else resolve_dtype(run.training.dtype)
    check_sharding(run, dtype)
    micro_batch = given or (carried.micro_batch_size if carried and carried.micro_batch_size else run.training.micro_batch_size)
    setup = Setup(run, room.root, data, dtype, micro_batch, store.folder, room.ranks)
    # With another number of GPUs than before, other memory is needed.
    if not rehearsal.needed() or (carried is not None and choice.ranks == room.ranks.size):
        return setup
    if room.ranks.size == 1:
        return rehearsal.fitting(setup, rows, held_out, room.log, room.stop)
    rehearsal.rehearse_together(setup, rows, held_out, room.stop)
    return setup


def _saver(room: Room, trainer: Any, store: CheckpointStore, identity: Identity, pace: Pace, newest: int) -> Saver:
    def report(landed: Landed) -> None:
        upcoming = pace.next(landed.costs)
        how = f"the training waited {landed.costs.stall_s:.2g} s" + ("" if landed.beside else ", for there was no copy of it")
        late = f"; put off for {landed.put_off} steps, while the one before was written" if landed.put_off else ""
        room.log.write(
            ProgressKind.CHECKPOINT,
            f"{landed.folder.name}, {landed.bytes / 1024**2:.1f} MiB: {how}{late}. The next in {upcoming.seconds:.0f} s: {upcoming.reason}",
            step=landed.step,
            total_steps=landed.total_steps,
            seconds=round(landed.costs.write_s, 3),
            stall_s=round(landed.costs.stall_s, 3),
            next_s=round(upcoming.seconds, 1),
        )

    return Saver(store, room.run.job_id, identity, room.clock, trainer.saved_state, report, newest)


def _step_to_end(trainer: Any, choice: Choice, total_steps: int) -> None:
    if choice.folder is None:
        set_seed(trainer.args.seed + trainer.ranks.rank)  # whatever was measured before drew no numbers from the training's
        trainer.train()
    elif choice.step < total_steps and not trainer.carried.evaluations.stopped_early:
        with suppress(StoppedEarly):
            trainer.train(resume_from_checkpoint=str(choice.folder))
    else:  # only the finish is missing; transformers would take one more step
        trainer._load_from_checkpoint(str(choice.folder))
        trainer.state = TrainerState.load_from_json(str(choice.folder / "trainer_state.json"))


def _refuse_small_disk(store: CheckpointStore, model: Any) -> None:
    """Before any work: the checkpoints that will be kept, the one being written and the final folder must fit."""
    trained, _ = parameter_counts(model)
    present = sum(path.stat().st_size for path in store.folder.rglob("*") if path.is_file())
    needed = trained * CHECKPOINT_BYTES_PER_PARAMETER * (store.keep + 2) - present
    free = shutil.disk_usage(store.folder).free
    if free < needed:
        raise TrainerFailure(
            FailureCode.DISK_FULL,
            f"the disk has {free // 1024**2} MiB free, but {store.keep} checkpoints, one in the making and the final folder need about "
            f"{needed // 1024**2} MiB more. Use a larger volume, or a smaller checkpoint.keep or adapter.r.",
        )


def _report_start(room: Room, trainer: Any, setup: Setup, choice: Choice, total_steps: int, seconds: float) -> None:
    trained, whole = parameter_counts(trainer.model)
    micro_batch, accumulated, plan = setup.micro_batch_size, trainer.args.gradient_accumulation_steps, getattr(trainer, "plan", None)
    lines = f"{accumulated} x {micro_batch}" + (f" x {room.ranks.size} ranks" if room.ranks.size > 1 else "")
    whole_batch = room.run.training.global_batch_size
    rows = f"{whole_batch} rows a step, packed on {lines} lines ({plan.filled():.0%} filled)" if plan else f"{lines} rows a step"
    message = (
        f"{room.run.method}, {room.run.adapter.type}: {trained:,} of {whole:,} parameters are trained, on {trainer.args.device.type} in {setup.dtype}, {rows}"
    )
    if torch.cuda.is_available() and choice.folder is None:
        message += f"; the longest rows took {torch.cuda.max_memory_allocated() / 1024**3:.1f} GiB of GPU memory at most"
    room.log.write(ProgressKind.STARTED, message, step=choice.step, total_steps=total_steps, seconds=round(seconds, 3))
    passed = f"; passed over {'; '.join(choice.passed_over)}" if choice.passed_over else ""
    if choice.folder is not None:
        room.log.write(ProgressKind.RESUMED, f"from {choice.folder.name}, {_made(room, choice)}{passed}", step=choice.step, total_steps=total_steps)
    elif passed:
        room.log.write(ProgressKind.RESUMED, f"from the start: no whole checkpoint{passed}", total_steps=total_steps)


def _made(room: Room, choice: Choice) -> str:
    if choice.ranks == room.ranks.size:
        return "the newest whole checkpoint"
    changed = f"made by {choice.ranks} GPUs or processes and continued by {room.ranks.size}"
    return f"the newest whole checkpoint, {changed}: each step reads the rows that it would have read, dropout is drawn anew"


def _measure_before(room: Room, data: Prepared, trainer: Any, setup: Setup) -> Carried:
    before = _measured(room, trainer, "before training", 0) or Measurement()
    sample = _sample(room, data, trainer, "before", 0)
    return Carried(dtype=setup.dtype, adapter=room.run.adapter.type, micro_batch_size=setup.micro_batch_size, before=before, sample_before=sample)


def _measured(room: Room, trainer: Any, when: str, step: int) -> Measurement | None:
    began = room.clock()
    measurement = measure(trainer, room.run.method, room.stop, room.ranks)
    if measurement is not None:
        told = "".join(f", {name} {value:.4g}" for name, value in measurement.metrics.items())
        room.log.write(ProgressKind.EVAL, f"held out, {when}{told}", step=step, loss=measurement.loss, seconds=round(room.clock() - began, 3))
    return measurement


def _evaluate(room: Room, trainer: Any, step: int) -> Measurement | None:
    """An evaluation during training: reported, and in the curve."""
    measurement = _measured(room, trainer, "during training", step)
    if measurement is not None:
        found = {"loss": measurement.loss, **measurement.metrics}
        trainer.state.log_history.append({"step": step, **{f"eval_{name}": value for name, value in found.items() if value is not None}})
    return measurement


def _sample(room: Room, data: Prepared, trainer: Any, when: str, step: int) -> str:
    if room.run.method == "reward":
        return ""  # it scores, it does not speak
    began, most = room.clock(), room.run.training.max_length
    said = answer(trainer, data.tokenizer, data.probe_ids(most), max_length=most, stop=room.stop)
    room.log.write(ProgressKind.SAMPLE, f"{when}: {data.probe.question} -> {said}", step=step, seconds=round(room.clock() - began, 3))
    return said


def _finish(room: Room, data: Prepared, trainer: Any, identity: Identity, choice: Choice, evaluator: Evaluator) -> None:
    steps = trainer.state.global_step
    best_step = evaluator.take_best()
    after = _measured(room, trainer, "after training" if best_step is None else f"the best, of step {best_step}", steps) or Measurement()
    _sample(room, data, trainer, "after", steps)
    trainer.saver.wait()  # a checkpoint that could not be written fails the run, and not after it is said to be complete
    if is_sharded(trainer.model):
        trainer.model = unsharded(room.run, room.root / room.run.model_dir, trainer.model)
    if not room.ranks.first:
        return
    began = room.clock()
    measured = Measured(
        steps=steps,
        first_step=choice.step,
        best_step=best_step,
        tokens=int(trainer.state.num_input_tokens_seen),
        before=trainer.carried.before,
        after=after,
        data_sha256=identity.data_sha256,
        model_sha256=identity.model_sha256,
        data_report=data.report,
        samples=data.manifest.samples,
        dtype=trainer.carried.dtype,
        micro_batch_size=trainer.carried.micro_batch_size or room.run.training.micro_batch_size,
        stopped_early=trainer.carried.evaluations.stopped_early,
    )
    results, difference = write_final(room.run, room.root, trainer, data, measured)
    if results.gguf_problem:
        room.log.write(ProgressKind.WARNING, f"no GGUF file: {results.gguf_problem}; everything else is there", step=steps)
    message = f"{room.run.final_dir}/ loads back (largest logit difference {difference:.2g}); weights sha256 {results.weights_sha256}"
    message += f"; {trainer.saver.saves} saves kept the training waiting for {trainer.saver.stalled_s:.2f} s"
    room.log.write(ProgressKind.COMPLETED, message, step=steps, total_steps=steps, loss=results.train_loss, seconds=round(room.clock() - began, 3))
