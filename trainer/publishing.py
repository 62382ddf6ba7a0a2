"""A TRL trainer whose checkpoints are published whole by a :class:`~trainer.saving.Saver` instead of growing in place.

transformers' own ``_save_checkpoint`` decides what a checkpoint holds, and writes what is small (random states, scheduler, its own
state) into the staging folder. What is large, the weights and the optimizer's state, it asks for in two methods; those here keep it and
hand it to the saver, to be written when the training goes on already. Imports torch at its top: import this file inside a function.
"""

import os
import tempfile
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors.torch import save_file
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME

from trainer.checkpoints import BEST_NAME, CARRIED_NAME, Carried
from trainer.dealt import Dealing
from trainer.durable import write_durably
from trainer.gathered import Gathered, write_whole
from trainer.saving import Keep, Saver, Write

#: Written by transformers and peft beside a checkpoint and read by nothing here: a card that tells nothing.
_NOT_KEPT = ("README.md",)


def weights_of(model: Any) -> dict[str, torch.Tensor]:
    """What of the model's state a checkpoint holds: of an adapted one the trained part, else all."""
    if not isinstance(model, PeftModel):
        return dict(model.state_dict())
    return {name: parameter.detach() for name, parameter in model.named_parameters() if parameter.requires_grad}


class Publishing(Dealing, Gathered):
    """Before TRL's class. ``best``: the best adapter so far, where that is kept; replaced, never changed.

    Of several ranks the first writes what all of them hold together.
    """

    saver: Saver
    carried: Carried
    best: dict[str, Any] | None = None
    args: Any
    state: Any
    model: Any
    optimizer: Any
    lr_scheduler: Any
    accelerator: Any
    processing_class: Any
    #: Set while a save is being taken: what is large is kept by the first, and the second gathers what will write it.
    _keep: Keep | None = None
    _later: list[Write]
    _tokenizer_files: dict[str, bytes] | None = None

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """No card beside each checkpoint: ``finish`` writes the one that says something."""

    def saved_state(self) -> dict[str, Any]:
        """What of a checkpoint is large: the weights and the optimizer's state, as they are now."""
        if self.whole is not None and self.whole.weights:
            return {}  # that is a copy already
        return {"weights": weights_of(self._bare()), "optimizer": self.optimizer.state_dict()}

    def _bare(self) -> Any:
        return self.accelerator.unwrap_model(self.model, keep_torch_compile=False)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        self.gather()
        if not self.ranks.first:
            return
        try:
            self.saver.save(self.state.global_step, self.state.max_steps, lambda staging, keep: self._fill(staging, keep, model, trial))
        finally:
            self.whole = None

    def _fill(self, staging: Path, keep: Keep, model: Any, trial: Any) -> Write:
        """Let transformers write its ``checkpoint-N`` below ``staging``; what writes the rest lifts the files up and adds what is carried."""
        self.args.output_dir = str(staging)
        self._keep, self._later = keep, []
        try:
            super()._save_checkpoint(model, trial)  # type: ignore[misc]  # TRL's, which comes next in each class
        finally:
            self._keep = None
        written = staging / f"checkpoint-{self.state.global_step}"
        later, tokenizer, best, carried = self._later, self._tokenizer_bytes(), self.best, self.carried.model_dump_json().encode()

        def write(folder: Path) -> None:
            for each in later:
                each(written)
            for path in list(written.iterdir()):
                path.rename(folder / path.name)
            written.rmdir()
            for name in _NOT_KEPT:
                (folder / name).unlink(missing_ok=True)
            for name, body in tokenizer.items():
                (folder / name).write_bytes(body)
            if best:
                save_file(best, folder / BEST_NAME)
            write_durably(folder / CARRIED_NAME, carried)

        return write

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        assert output_dir is not None
        assert self._keep is not None, "only a checkpoint is saved by transformers here"
        os.makedirs(output_dir, exist_ok=True)
        model, whole = self._bare(), self.whole
        if whole is not None and whole.weights:
            self._later.append(lambda folder: write_whole(whole, model, folder))
            return
        weights = self._keep("weights", weights_of(model) if state_dict is None else state_dict)
        self._later.append(lambda folder: model.save_pretrained(str(folder), state_dict=weights))

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        assert self._keep is not None
        gathered = self.whole.optimizer if self.whole is not None else {}
        state = gathered or self._keep("optimizer", self.optimizer.state_dict())
        self._later.append(lambda folder: torch.save(state, folder / OPTIMIZER_NAME))
        torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / SCHEDULER_NAME)

    def _tokenizer_bytes(self) -> dict[str, bytes]:
        """The tokenizer's files. Made once: it does not change, and in the writer's thread it must not be touched while the training uses it."""
        if self._tokenizer_files is None:
            with tempfile.TemporaryDirectory() as name:
                self.processing_class.save_pretrained(name)
                self._tokenizer_files = {path.name: path.read_bytes() for path in Path(name).iterdir() if path.is_file()}
        return self._tokenizer_files
