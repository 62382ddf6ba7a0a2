"""What a test puts into the ranks of a run before they begin (tests/trainer/forked.py): it happens at a step, not at a time, and at one rank alone."""

import os
import signal
import time
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Signalled:
    """``rank`` gets the signal as it begins the step after ``after``; ``within`` it, after its first micro-batch."""

    rank: int
    after: int
    number: signal.Signals
    within: bool = False

    def __call__(self, rank: int) -> None:
        if rank == self.rank:
            _before("on_substep_end" if self.within else "on_step_begin", self.after, lambda: os.kill(os.getpid(), self.number))


@dataclass(frozen=True)
class Held:
    """``rank`` goes no further than the end of step ``after``, and says nothing more."""

    rank: int
    after: int

    def __call__(self, rank: int) -> None:
        if rank == self.rank:
            _before("on_step_begin", self.after, lambda: time.sleep(10**6))


def _before(moment: str, after: int, then: Any) -> None:
    from trainer.watch import Watch

    whole = getattr(Watch, moment)

    def and_then(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        if state.global_step == after:
            then()
        return whole(self, args, state, control, **kwargs)

    setattr(Watch, moment, and_then)


@dataclass(frozen=True)
class TooLong:
    """To ``rank`` alone the rest of a step seems to take too long for a stop to wait for it."""

    rank: int

    def __call__(self, rank: int) -> None:
        from trainer import watch

        watch.FINISH_STEP_S = -1.0 if rank == self.rank else 1e9


@dataclass(frozen=True)
class Due:
    """By the clock of ``rank`` alone a save is due after each step, and is then whole before the next."""

    rank: int

    def __call__(self, rank: int) -> None:
        from trainer import host
        from trainer.pacing import Pace

        Pace.due = lambda *_: rank == self.rank
        host.free_memory_bytes = lambda: 0


@dataclass(frozen=True)
class Memory:
    """As on GPUs of which that of ``rank`` alone holds so few rows at once: they are rehearsed for."""

    rank: int
    rows: int

    def __call__(self, rank: int) -> None:
        import torch
        from transformers import LlamaModel

        from trainer import rehearsal

        rehearsal.needed = lambda: True
        forward = LlamaModel.forward

        def limited(model: Any, input_ids: Any = None, **more: Any) -> Any:
            if rank == self.rank and torch.is_grad_enabled() and len(input_ids) > self.rows:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            return forward(model, input_ids=input_ids, **more)

        LlamaModel.forward = limited
