"""Evaluations during training: when, what follows of them (the best adapter, an early stop), and their place in a checkpoint."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from jobspec.runfile import RunFile
from trainer.checkpoints import BEST_NAME, Evaluations, Measurement

Measure = Callable[[int], Measurement | None]


class Evaluator:
    """``measure(step)`` measures the held-out rows and reports it; what is decided goes into ``trainer.carried``."""

    def __init__(self, run: RunFile, trainer: Any, measure: Measure, resumed_from: Path | None) -> None:
        self._wanted, self._trainer, self._measure = run.evaluation, trainer, measure
        if resumed_from is not None and trainer.carried.evaluations.best_kept:
            from safetensors.torch import load_file

            trainer.best = load_file(resumed_from / BEST_NAME)

    def after(self, step: int) -> bool:
        """Evaluate where that is due and not done. True where training goes on. Raises StopRequested, and nothing is decided then."""
        interval, known = self._wanted.interval_steps, self._trainer.carried.evaluations
        if interval is None or step % interval or known.step >= step:
            return not known.stopped_early
        measurement = self._measure(step)
        if measurement is None:
            return True
        self._decide(step, measurement, known)
        return not self._trainer.carried.evaluations.stopped_early

    def _decide(self, step: int, measurement: Measurement, known: Evaluations) -> None:
        from trainer.measure import score_of

        score = score_of(measurement)
        better = score is not None and (known.best_score is None or score < known.best_score - self._wanted.min_improvement)
        if better and self._wanted.keep_best:
            self._trainer.best = self._adapter()
        worse = 0 if better else known.worse + 1
        self._trainer.carried = self._trainer.carried.model_copy(
            update={
                "evaluations": Evaluations(
                    step=step,
                    best_step=step if better else known.best_step,
                    best_score=score if better else known.best_score,
                    worse=worse,
                    stopped_early=self._wanted.patience is not None and worse >= self._wanted.patience,
                    best_kept=bool(self._trainer.best),
                )
            }
        )

    def _adapter(self) -> dict[str, Any]:
        """A copy of the adapter on the CPU, as it would be saved."""
        from peft import get_peft_model_state_dict

        model = self._trainer.accelerator.unwrap_model(self._trainer.model, keep_fp32_wrapper=False)
        return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in get_peft_model_state_dict(model).items()}

    def take_best(self) -> int | None:
        """Put the best adapter in place of the last one; its step, or None where the last one stays."""
        if not self._trainer.best:
            return None
        from peft import set_peft_model_state_dict

        model = self._trainer.accelerator.unwrap_model(self._trainer.model, keep_fp32_wrapper=False)
        set_peft_model_state_dict(model, self._trainer.best)
        return int(self._trainer.carried.evaluations.best_step)
