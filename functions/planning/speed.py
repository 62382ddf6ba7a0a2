"""How long a job takes: floating point operations over what a GPU does of its peak. Guesses with a range; the lower end is a bound.

What a GPU reaches of its peak is taken from published rows (``../shared/facts/trainer.md``, section 3; recomputing counted):
NeMo AutoModel's LoRA on an H100 0.41; Qwen's own LoRA script on an A100 0.31 to 0.47; torchtune, compiled and packed, on an
RTX 4090 up to 0.75, the best of all. Short rows and small models reach less: the CPU cannot order kernels fast enough.
"""

import math
from dataclasses import dataclass

from jobspec.instances import GpuInstance
from planning.hardware import dtype_on, exchange_bytes_per_s, gpu_of, peak_flops
from planning.memory import GRADIENT_BYTES, trained_parameters
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
#: What several GPUs reach of as many times one, beside what they exchange: they wait for the slowest of them at each step. torchtitan's Llama-3 8B on
#: 8 H100 has 33 to 39 % of the peak where one H100 has 41 (both in facts/trainer.md, section 3): 0.80 to 0.95. Slow, typical, and the bound.
TOGETHER_SLOW, TOGETHER, TOGETHER_BEST = 0.7, 0.88, 1.0
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
    """Training seconds on all GPUs of ``work.nodes`` instances of the type.

    Without ``rows`` (max_steps is given then) lengths are unknown, and the range is wide.
    """
    work = work.on(instance.gpus)
    steps = steps_of(work, rows.number if rows is not None else 0)
    lengths = _lengths(work, rows)
    shares = (BEST, TYPICAL, SLOW)
    least, typical, most = (steps * _step_s(shape, work, instance, length, share, at) for at, (length, share) in enumerate(zip(lengths, shares, strict=True)))
    return Guess(least, typical, most)


def tokens_of(work: Workload, rows: Rows | None) -> Guess:
    """Tokens that pass the model, padding included."""
    steps = steps_of(work, rows.number if rows is not None else 0)
    each = steps * work.accumulation * work.sequences * work.ranks
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
    if work.ranks > 1:
        arithmetic /= (TOGETHER_BEST, TOGETHER, TOGETHER_SLOW)[at]
    arithmetic *= slower / gpu_of(instance).sustained
    # Packed lines are full: so many fewer passes.
    passes = math.ceil(tokens / (work.max_length * work.sequences)) if work.packing else work.accumulation
    ordering = passes * shape.layers * LAYER_ORDER_S * at
    answering = work.completion_length * shape.layers * LAYER_ANSWER_S * at if work.method == "grpo" else 0
    exchange = _exchange_s(shape, work, instance)
    # Exchange goes on beside arithmetic; in a slow run it does not.
    working = max(arithmetic, ordering)
    return (max(working, exchange) if at == 1 else working + exchange) + answering


def _exchange_s(shape: Shape, work: Workload, instance: GpuInstance) -> float:
    """Seconds of one step in which gradients (and sharded weights) are on their way: ring algorithms move (n - 1) / n of the bytes."""
    if work.ranks == 1:
        return 0.0
    trained = trained_parameters(shape, work)
    element = 4 if dtype_on(instance, work.dtype) == "float32" else 2
    # FSDP2, for each micro-batch: weights gathered forward and backward, gradients scattered. DDP, once: summed and handed back.
    each = (2 * element + GRADIENT_BYTES) * work.accumulation if work.sharded else 2 * GRADIENT_BYTES
    return trained * each * (work.ranks - 1) / work.ranks / exchange_bytes_per_s(instance, work.nodes)
