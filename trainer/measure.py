"""What the model is worth: held-out rows, measured, and one greedy answer. Before, during and after training.

A measurement leaves no trace: the random states are put back, so that a run with evaluations takes the steps of one without.
"""

import random
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from trainer.checkpoints import Measurement
from trainer.dealt import held_out_batches
from trainer.gathered import is_sharded, reshard
from trainer.ranks import Ranks
from trainer.stop import StopSignal
from trainer.tokens import IGNORED

ANSWER_TOKENS = 48
_SHOWN = 400
#: What TRL's trainers count in an evaluation and a person wants to see, by its name without ``eval_``.
_SHOWN_METRICS = ("reward", "reward_std", "rewards/accuracies", "rewards/margins", "accuracy", "margin", "completions/mean_length", "mean_token_accuracy")


@dataclass(frozen=True, slots=True)
class Randomness:
    """Every random state at one moment: Python's, NumPy's, torch's, the GPUs'."""

    python: Any
    numpy: Any
    cpu: torch.Tensor
    gpus: list[torch.Tensor]

    @classmethod
    def now(cls) -> "Randomness":
        gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        return cls(random.getstate(), np.random.get_state(), torch.get_rng_state(), gpus)

    def put_back(self) -> None:
        random.setstate(self.python)
        np.random.set_state(self.numpy)
        torch.set_rng_state(self.cpu)
        if self.gpus:
            torch.cuda.set_rng_state_all(self.gpus)


@contextmanager
def untouched(model: Any) -> Iterator[None]:
    """Puts every random state back as it was, and a sharded model's shares."""
    before = Randomness.now()
    try:
        yield
    finally:
        reshard(model)
        before.put_back()


def measure(trainer: Any, method: str, stop: StopSignal, ranks: Ranks) -> Measurement | None:
    """The held-out rows' mean loss and metrics, or None without such rows; each rank measures its share of them. Raises StopRequested.

    The loss is the method's own: for sft mean cross-entropy for each supervised token (nats), for the others the mean over rows;
    grpo has none that says anything, its reward does. transformers' own ``evaluate`` averages over batches, which weighs short
    rows more, and cannot be stopped in between.
    """
    if trainer.eval_dataset is None:
        return None
    loss_sum, weight_sum = 0.0, 0
    sums: dict[str, float] = defaultdict(float)
    was_training = trainer.model.training
    with untouched(trainer.model):
        trainer.model.eval()
        try:
            for inputs, counts in held_out_batches(trainer, ranks):
                stop.check("evaluating")
                loss, _, _ = trainer.prediction_step(trainer.model, inputs, prediction_loss_only=True)
                weight = _weight(inputs) if counts else 0
                loss_sum += float(loss) * weight
                weight_sum += weight
                for name, value in _take_metrics(trainer).items():
                    sums[name] += value * weight
        finally:
            _take_metrics(trainer)
            trainer.model.train(was_training)
    loss_sum, weight_sum, sums = _summed(ranks.gather((loss_sum, weight_sum, dict(sums))))
    if not weight_sum:
        return None
    metrics = {name: round(total / weight_sum, 6) for name, total in sorted(sums.items())}
    return Measurement(loss=None if method == "grpo" else loss_sum / weight_sum, metrics=metrics)


def _summed(shares: list[tuple[float, int, dict[str, float]]]) -> tuple[float, int, dict[str, float]]:
    """The ranks' sums as one; what was measured of a batch that does not count weighs nothing."""
    names = {name for _, _, sums in shares for name in sums}
    metrics = {name: sum(sums.get(name, 0.0) for _, _, sums in shares) for name in names}
    return sum(loss for loss, _, _ in shares), sum(weight for _, weight, _ in shares), metrics


def score_of(measurement: Measurement) -> float | None:
    """What the evaluations are compared by, lower is better: the loss, or the negative reward."""
    if measurement.loss is not None:
        return measurement.loss
    return -measurement.metrics["reward"] if "reward" in measurement.metrics else None


def _weight(inputs: Any) -> int:
    """How much a batch counts: its supervised tokens, or its rows."""
    if isinstance(inputs, list):
        return len(inputs)
    if "labels" in inputs:
        return int((inputs["labels"][:, 1:] != IGNORED).sum())  # the first token of a row is never predicted
    return len(next(value for value in inputs.values() if isinstance(value, torch.Tensor)))


def _take_metrics(trainer: Any) -> dict[str, float]:
    """The metrics of the batch just evaluated; TRL gathers them until its own ``evaluate`` would log them."""
    gathered: Any = getattr(trainer, "_metrics", None) or trainer._stored_metrics
    found = {name.removeprefix("eval_"): values[-1] for name, values in gathered["eval"].items() if values}
    gathered["eval"].clear()
    return {name: float(value) for name, value in found.items() if name in _SHOWN_METRICS and value is not None and value == value}


def answer(trainer: Any, tokenizer: Any, prompt: list[int], *, max_length: int, stop: StopSignal) -> str:
    """The model's greedy continuation of ``prompt``, at most ANSWER_TOKENS tokens, as plain text. Raises StopRequested."""
    if not prompt:
        return ""
    ids = torch.tensor([prompt[-max_length:]], device=trainer.model.device)
    trainer.model.eval()

    def asked_to_stop(*_: Any, **__: Any) -> Any:
        # Of several ranks each looks for itself here: one that has ended its answer looks no more.
        return torch.full((1,), stop.asked(), dtype=torch.bool, device=ids.device)

    with torch.no_grad(), untouched(trainer.model):
        whole = trainer.model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=ANSWER_TOKENS,
            do_sample=False,
            temperature=None,
            top_p=None,
            top_k=None,
            pad_token_id=tokenizer.pad_token_id,
            stopping_criteria=[asked_to_stop],
            synced_gpus=is_sharded(trainer.model),  # a rank that ended early still lends its weights
        )
    stop.check("writing a sample answer")
    return str(tokenizer.decode(whole[0, ids.shape[1] :], skip_special_tokens=True)).strip()[:_SHOWN]
