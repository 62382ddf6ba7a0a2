"""How long a job takes: floating point operations over what a GPU does of its peak. Guesses with a range; the lower end is a bound.

What a GPU reaches of its peak is taken from published rows (``../shared/facts/trainer.md``, section 3; recomputing counted):
NeMo AutoModel's LoRA on an H100 0.41; Qwen's own LoRA script on an A100 0.31 to 0.47; torchtune, compiled and packed, on an
RTX 4090 up to 0.75, the best of all. Short rows and small models reach less: the CPU cannot order kernels fast enough.
"""

import math
from dataclasses import dataclass

from jobspec.instances import GpuInstance
from planning.hardware import dtype_on, gpu_of, peak_flops
from planning.rows import FEWEST_CHARACTERS, MOST_CHARACTERS, TYPICAL_CHARACTERS, Rows
from planning.shape import Shape
from planning.workload import Workload

#: Share of a GPU's peak: slow, typical, and more than any published row.
SLOW, TYPICAL, BEST = 0.15, 0.35, 0.75
#: qlora's time over lora's: 1.35 on an A100 (Qwen README), 1.5 to 1.6 on an A10G (litgpt). DoRA's: a guess.
QLORA_SLOWER, DORA_SLOWER = 1.5, 1.4
#: Seconds that the CPU needs to order one decoder layer's kernels, forward and backward; and for one token of one layer when answering. Guesses.
LAYER_ORDER_S, LAYER_ANSWER_S = 2.5e-3, 6e-4
#: Further forward passes for each row: reference model, and kto's mismatched answers.
_MORE_FORWARDS = {"dpo": 1, "kto": 3}
#: Share of max_length that a row has where nothing is known of the data.
_UNKNOWN_SHARES = (0.02, 0.5, 1.0)


@dataclass(frozen=True, slots=True)
class Guess:
    """``least`` is a bound that holds; the job may well take more than ``most``."""

    least: float
    typical: float
    most: float

    def times(self, factor: float) -> "Guess":
        return Guess(self.least * factor, self.typical * factor, self.most * factor)


def flops_per_token(shape: Shape, work: Workload) -> float:
    """Floating point operations for one token, forward and backward, at rows of max_length. 2 for each parameter and pass."""
    matrices = 2 * shape.active_parameters
    # Queries times keys, and weights times values: 2 x 2 x length x width, halved as the mask is causal.
    attention = 2 * work.max_length * shape.query_width * shape.layers
    forward = matrices + attention
    # The gradient of the inputs costs a forward pass (attention: two), that of trained weights another.
    backward = matrices + 2 * attention + (matrices if work.adapter == "full" else 0)
    more = _MORE_FORWARDS.get(work.method, int(work.reference))
    return forward * (1 + more) + backward + (forward if work.gradient_checkpointing else 0)


def steps_of(work: Workload, rows: float) -> int:
    """Optimizer steps, as the trainer counts them from the rows that it does not hold out."""
    if work.max_steps is not None:
        return work.max_steps
    there = max(1, round(rows))
    held_out = min(max(1, round(there * work.eval_fraction)), there - 1) if work.eval_fraction else 0
    prompts = max(1, work.global_batch // work.generations)
    in_epoch = (there - held_out) // prompts if work.method == "grpo" else math.ceil((there - held_out) / prompts)
    return max(1, math.ceil(work.epochs * in_epoch))


def seconds_of(shape: Shape, work: Workload, rows: Rows | None, instance: GpuInstance) -> Guess:
    """Training seconds on one GPU of the type. Without ``rows`` (max_steps is given then) lengths are unknown, and the range is wide."""
    steps = steps_of(work, rows.number if rows is not None else 0)
    lengths = _lengths(work, rows)
    shares = (BEST, TYPICAL, SLOW)
    least, typical, most = (steps * _step_s(shape, work, instance, length, share, at) for at, (length, share) in enumerate(zip(lengths, shares, strict=True)))
    return Guess(least, typical, most)


def tokens_of(work: Workload, rows: Rows | None) -> Guess:
    """Tokens that pass the model, padding included."""
    steps = steps_of(work, rows.number if rows is not None else 0)
    each = steps * work.accumulation * work.sequences
    least, typical, most = (each * length for length in _lengths(work, rows))
    return Guess(least, typical, most)


def _lengths(work: Workload, rows: Rows | None) -> tuple[float, float, float]:
    """Mean padded length of a sequence, in tokens: least, typical, most."""
    if rows is None:
        least, typical, most = (share * work.max_length for share in _UNKNOWN_SHARES)
        return least, typical, most
    answer = (1, 0.6 * work.completion_length, work.completion_length) if work.method == "grpo" else (0, 0, 0)
    # The bound pads nothing, and packing next to nothing.
    together = (1, 1, 1) if work.packing else (1, work.sequences, work.sequences)
    least, typical, most = (
        min(work.max_length, rows.padded_tokens(characters, work.max_length, count) + more)
        for characters, count, more in zip((MOST_CHARACTERS, TYPICAL_CHARACTERS, FEWEST_CHARACTERS), together, answer, strict=True)
    )
    return least, typical, most


def _step_s(shape: Shape, work: Workload, instance: GpuInstance, length: float, share: float, at: int) -> float:
    """Seconds of one optimizer step. The bound (``at`` 0) counts arithmetic alone."""
    tokens = length * work.sequences * work.accumulation
    slower = (QLORA_SLOWER if work.adapter == "qlora" else 1) * (DORA_SLOWER if work.dora else 1)
    # At the length that rows have, not at the longest.
    flops = flops_per_token(shape, work.having(max_length=max(1, round(length))))
    arithmetic = tokens * flops / (peak_flops(instance, dtype_on(instance, work.dtype)) * share)
    if not at:
        return arithmetic
    arithmetic *= slower / gpu_of(instance).sustained
    # Packed lines are full: so many fewer passes.
    passes = math.ceil(tokens / (work.max_length * work.sequences)) if work.packing else work.accumulation
    ordering = passes * shape.layers * LAYER_ORDER_S * at
    answering = work.completion_length * shape.layers * LAYER_ANSWER_S * at if work.method == "grpo" else 0
    return max(arithmetic, ordering) + answering
