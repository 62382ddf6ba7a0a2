"""Between a trainer's steps: save when due, stop when asked, evaluate, report losses, refuse to go on with broken numbers.

Why a resume is exact: what is saved is the state after ``on_step_end``, where weights, optimizer, scheduler and every random
state belong to the same step (transformers' own just-in-time save happens before the optimizer's step, with the random
state of the step after; its resume takes other steps). transformers restores all of them, and the place in the data.

A stop that comes within a step waits for its end, where that is near. Where it is not, the step is abandoned between two
micro-batches: nothing but the random states and a few counters has moved since the step before, and those are put back.
"""

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any

from transformers import TrainerCallback

from jobspec.marker import FailureCode
from jobspec.runfile import ProgressKind
from trainer.failures import TrainerFailure
from trainer.measure import Randomness
from trainer.pacing import Pace
from trainer.room import Room
from trainer.stages import Stages
from trainer.stop import StopRequested

#: A float16 run's gradient scaler skips a step that overflowed; in any other run one such step has spoilt the weights.
MAX_OVERFLOWS = 3
#: A loss is a spike where it stands this many usual deviations above the median of so many losses before it.
SPIKE_DEVIATIONS = 8.0
SPIKE_WINDOW = 50
SPIKE_LEAST_LOSSES = 10
#: Below this share of the median a deviation is noise, however smooth the curve was.
SPIKE_LEAST_SHARE = 0.05
#: A step that is asked to stop is finished where that takes no longer: of a notice's 120 s most are for the save and its upload.
FINISH_STEP_S = 15.0

Evaluate = Callable[[int], bool]


class StoppedEarly(Exception):
    """The evaluation that was made up for says that training was over where it was interrupted."""


@dataclass(slots=True)
class _Pace:
    """Since when and from how many tokens the next progress line counts its tokens per second."""

    at: float
    tokens: int


@dataclass(frozen=True, slots=True)
class _Boundary:
    """What moves between micro-batches, as it was when the last step ended."""

    randomness: Randomness
    tokens: int


class Watch(TrainerCallback):
    """``evaluate(step)`` does an evaluation that is due and says whether training goes on; it may raise StopRequested."""

    def __init__(self, trainer: Any, room: Room, pace: Pace, evaluate: Evaluate) -> None:
        self._trainer, self._run, self._log, self._stop, self._clock = trainer, room.run, room.log, room.stop, room.clock
        self._evaluate, self._saves, self._ranks = evaluate, pace, room.ranks
        self._saved_at = self._step_began = self._clock()
        self._pace = _Pace(self._saved_at, 0)
        self._overflows = self._micro_batches = 0
        self._stages: Stages | None = room.stages
        self._boundary: _Boundary | None = None
        self.interrupted = False

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._stop.requested():
            raise StopRequested("stopped before the first step of this attempt")
        # TRL counts the tokens it trains on from zero after a resume; the count of ``state`` is in the checkpoint.
        self._trainer._total_train_tokens = int(state.num_input_tokens_seen)
        self._pace = _Pace(self._clock(), int(state.num_input_tokens_seen))
        # An evaluation that a stop came before is made up for, so that nothing is decided otherwise than without the stop.
        if state.global_step and not self._evaluate(state.global_step):
            raise StoppedEarly  # a flag would be seen only after one more step
        self._saved_at = self._clock()

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._step_began, self._micro_batches = self._clock(), 0

    def on_substep_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._micro_batches += 1
        if not self._stop.requested():
            return
        left = self._trainer.current_gradient_accumulation_steps - self._micro_batches
        left_s = (self._clock() - self._step_began) / self._micro_batches * left
        if self._ranks.of_first(left_s > FINISH_STEP_S):
            self._abandon(state, left_s)

    def _abandon(self, state: Any, left_s: float) -> None:
        """Raises StopRequested, the step before saved: as it was at its end."""
        saver = self._trainer.saver
        saver.closing = True
        if self._boundary is not None and state.global_step:
            self._boundary.randomness.put_back()
            state.num_input_tokens_seen = self._boundary.tokens
            self._trainer.current_flos = 0  # as after every step, which is logged
            self._trainer._save_checkpoint(self._trainer.model, None)
        saver.wait()
        told = f"saved as step {state.global_step} of {state.max_steps}" if state.global_step else "nothing to save yet"
        raise StopRequested(f"stopped within step {state.global_step + 1}, which would have taken {left_s:.0f} s more; {told}")

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._stages is not None and "first_step" not in self._stages.seconds:
            self._stages.end("first_step", self._clock())
        saver = self._trainer.saver
        saver.settle()
        if self._run.method != "grpo":  # there TRL counts in ``state`` itself
            state.num_input_tokens_seen = self._trainer._total_train_tokens
        self.interrupted = self._stop.requested()
        goes_on = self.interrupted or self._evaluated(state.global_step)
        saver.closing = self.interrupted
        # The last step is saved as well: an end during the final evaluation then costs no step.
        must = self.interrupted or not goes_on or state.global_step >= state.max_steps
        # Of several ranks the first's clock decides, and whether its last save is written.
        if must or self._ranks.of_first(self._saves.due(self._clock() - self._saved_at, saver.costs) and saver.free_to_save()):
            control.should_save = True
        if self.interrupted or not goes_on:
            control.should_training_stop = True
        self._boundary = _Boundary(Randomness.now(), state.num_input_tokens_seen)

    def _evaluated(self, step: int) -> bool:
        try:
            return self._evaluate(step)
        except StopRequested:
            self.interrupted = True  # the step is saved; its evaluation comes with the resume
            return True

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._saved_at = self._clock()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        if not logs or "loss" not in logs:
            return
        state.log_history[-1].setdefault("num_tokens", int(state.num_input_tokens_seen))
        self._refuse_broken(state.global_step, float(logs["loss"]), float(logs.get("grad_norm", 0.0)), scaled=bool(args.fp16))
        every = self._run.training.logging_steps
        losses = last_losses(state.log_history, max(every, SPIKE_WINDOW + 1))
        # GRPO's loss is about 0 whatever happens: of it nothing is usual.
        if self._run.method != "grpo" and (told := spike(losses[-SPIKE_WINDOW - 1 :])):
            self._log.write(ProgressKind.WARNING, f"step {state.global_step}: {told}; training goes on", step=state.global_step)
        if state.global_step % every and state.global_step != state.max_steps:
            return
        recent = losses[-every:]
        loss = sum(recent) / len(recent)
        now, tokens = self._clock(), int(state.num_input_tokens_seen)
        rate = (tokens - self._pace.tokens) / max(now - self._pace.at, 1e-6)
        self._pace = _Pace(now, tokens)
        self._log.write(
            ProgressKind.STEP,
            step=state.global_step,
            total_steps=state.max_steps,
            loss=loss if math.isfinite(loss) else None,
            learning_rate=logs.get("learning_rate"),
            tokens_per_s=round(rate, 1),
            stages_s=self._stages_once(),
        )

    def _stages_once(self) -> dict[str, float]:
        """What the start took, for the first line that is written."""
        stages, self._stages = self._stages, None
        return stages.seconds if stages is not None else {}

    def _refuse_broken(self, step: int, loss: float, grad_norm: float, *, scaled: bool) -> None:
        """Before anything is saved: a checkpoint of broken numbers would be resumed from for ever."""
        broken = not math.isfinite(loss) or (not scaled and not math.isfinite(grad_norm))
        self._overflows = self._overflows + 1 if broken else 0
        if self._overflows >= (MAX_OVERFLOWS if scaled else 1):
            what = f"loss {loss}" if not math.isfinite(loss) else f"gradient norm {grad_norm}"
            raise TrainerFailure(
                FailureCode.NOT_FINITE,
                f"step {step}: {what}. The numbers broke down and no checkpoint of them was written. "
                f"Lower training.learning_rate (now {self._run.training.learning_rate}), raise training.warmup_ratio, or use dtype bfloat16 or float32.",
            )


def last_losses(log_history: list[dict[str, Any]], count: int) -> list[float]:
    """The losses of the last ``count`` steps, in their order. Looks at no more of a long history than it must."""
    newest = (entry["loss"] for entry in reversed(log_history) if "loss" in entry)
    return list(islice(newest, count))[::-1]


def spike(losses: list[float]) -> str | None:
    """Why the last loss stands out from those before it, or None. The usual deviation is the median one (robust to the spike before)."""
    *before, last = losses
    if len(before) < SPIKE_LEAST_LOSSES or not math.isfinite(last):
        return None
    usual = statistics.median(before)
    deviation = max(statistics.median(abs(loss - usual) for loss in before), SPIKE_LEAST_SHARE * abs(usual))
    if last - usual <= SPIKE_DEVIATIONS * deviation:
        return None
    return f"loss {last:.4g} is a spike: {usual:.4g} was usual over {len(before)} steps"
