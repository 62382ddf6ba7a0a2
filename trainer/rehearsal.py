"""The worst case first: two optimizer steps and one evaluation on the longest rows, in a trainer of their own that is thrown away.

What runs out of memory then runs out in the first minute, not hours in at the longest row. Where it does, the micro-batch is
halved under the same global batch. The second step is the fullest moment: the optimizer's state is there, gradients of an
earlier micro-batch too. Nothing of it reaches the run: the model is loaded again afterwards, and every draw begins at the seed.

A resume keeps the micro-batch that was found (dropout draws for each micro-batch), so it rehearses nothing. On a CPU nothing
is rehearsed either: there the system ends a process that takes too much, and no one is asked.
"""

import gc
from dataclasses import replace
from typing import Any

import torch
from transformers import TrainerCallback

from jobspec.batches import least_micro_batch, micro_batches
from jobspec.marker import FailureCode
from jobspec.runfile import ProgressKind
from trainer.failures import TrainerFailure, is_out_of_memory, too_large
from trainer.measure import measure
from trainer.progress import ProgressLog
from trainer.stop import StopSignal
from trainer.tables import lengths_of
from trainer.train import Setup, build_trainer

STEPS = 2
#: Rows that may be the longest once tokenised: so many of the longest as they stand are looked at.
CANDIDATES = 16


class TooLarge(Exception):
    """The micro-batch does not fit; says what the allocator said."""


def needed() -> bool:
    return torch.cuda.is_available()


def fitting(setup: Setup, train: Any, held_out: Any, log: ProgressLog, stop: StopSignal) -> Setup:
    """``setup`` with the largest micro-batch that fits: the manifest's, or halved. Raises TrainerFailure (out_of_memory), StopRequested."""
    run = setup.run
    sizes = micro_batches(run.training.global_batch_size, run.training.micro_batch_size, least=least_micro_batch(run.method, run.kto))
    for size, smaller in zip(sizes, [*sizes[1:], None], strict=True):
        told = _rehearsed(setup.with_micro_batch(size), train, held_out, stop)
        if told is None:
            return setup.with_micro_batch(size)
        if smaller is not None:
            log.write(ProgressKind.WARNING, f"a micro-batch of {size} of the longest rows does not fit into memory; {smaller} is tried: {told}")
    raise TrainerFailure(FailureCode.OUT_OF_MEMORY, too_large(run, sizes[-1], told or ""))


def rehearse_together(setup: Setup, train: Any, held_out: Any, stop: StopSignal) -> None:
    """One size, by every rank at once. Raises TooLarge: memory that is full on one rank leaves the others waiting, so all start anew."""
    told = _rehearsed(setup, train, held_out, stop)
    if told is not None:
        raise TooLarge(told)


def _rehearsed(setup: Setup, train: Any, held_out: Any, stop: StopSignal) -> str | None:
    """None where it fits, else what the allocator said. No reference to the error is kept: its frames hold the memory that was full."""
    told = None
    try:
        _rehearse(setup, train, held_out, stop)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        told = " ".join(str(error).split())[:300]
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return told


def _rehearse(setup: Setup, train: Any, held_out: Any, stop: StopSignal) -> None:
    run, size = setup.run, setup.micro_batch_size
    if run.method != "grpo":  # there a step's answers are drawn all at once: only the whole global batch is the worst case
        ranks = setup.ranks.size
        accumulated = min(2, run.training.global_batch_size // (size * ranks))
        # A packed line is no longer than the longest row: the worst case is that of rows that are not packed.
        worst = {"global_batch_size": size * accumulated * ranks, "packing": False}
        run = run.model_copy(update={"training": run.training.model_copy(update=worst)})
    trainer = build_trainer(replace(setup, run=run), _longest(train), _longest(held_out), STEPS, stop)
    trainer.train_dataset = _repeated(trainer.train_dataset, STEPS * run.training.global_batch_size)
    if trainer.eval_dataset is not None:
        trainer.eval_dataset = _repeated(trainer.eval_dataset, trainer.args.per_device_eval_batch_size * setup.ranks.size)
    if run.method == "grpo":
        trainer.generation_config.min_new_tokens = trainer.max_completion_length  # the longest answers, whatever the model would say
    trainer.add_callback(_StopBetweenSteps(stop))
    trainer.train()
    measure(trainer, run.method, stop, setup.ranks)


def _longest(rows: Any) -> Any:
    """The rows that stand longest, CANDIDATES at most."""
    if rows is None:
        return None
    sizes = lengths_of(rows).tolist() if "input_ids" in rows.column_names else [_written(row) for row in rows]
    order = sorted(range(len(sizes)), key=lambda at: -sizes[at])
    return rows.select(order[:CANDIDATES])


def _written(row: dict[str, Any]) -> int:
    return sum(len(value) if value and isinstance(value, list) and isinstance(value[0], int) else len(str(value)) for value in row.values())


def _repeated(rows: Any, count: int) -> Any:
    """The longest row of a prepared data set, ``count`` times."""
    longest = max(range(len(rows)), key=lambda at: padded_length(rows[at]))
    return rows.select([longest] * count)


def padded_length(row: dict[str, Any]) -> int:
    """Tokens that a prepared row makes its batch wide: the prompt and the longest that comes with it; characters where nothing is tokenised."""
    columns = {name: value for name, value in row.items() if isinstance(value, list) and value and isinstance(value[0], int)}
    if not columns:
        return _written(row)
    prompt = len(columns.pop("prompt_ids", ()))
    return prompt + max((len(value) for value in columns.values()), default=0)


class _StopBetweenSteps(TrainerCallback):
    def __init__(self, stop: StopSignal) -> None:
        self._stop = stop

    def on_substep_end(self, *args: Any, **kwargs: Any) -> None:
        self._stop.check("rehearsing the longest rows")

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self._stop.check("rehearsing the longest rows")
