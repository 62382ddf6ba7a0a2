"""What several ranks hold together, in one checkpoint: every rank's random state, and of a sharded model its weights and optimizer whole.

Every rank takes part in :meth:`Gathered.gather`; rank 0 then has all there is to write and needs nobody more. A checkpoint of a
sharded model is therefore one of any number of ranks. Imports torch at its top: import this file inside a function.
"""

import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_model_state_dict, set_optimizer_state_dict
from torch.distributed.fsdp import FSDPModule
from transformers import set_seed
from transformers.trainer_pt_utils import safe_globals

from trainer.checkpoints import random_state_name
from trainer.ranks import ALONE, Ranks

WEIGHTS_NAME, OPTIMIZER_NAME, SCHEDULER_NAME = "model.safetensors", "optimizer.pt", "scheduler.pt"


@dataclass
class Whole:
    """Rank 0's: the states of all ranks; of a sharded model its weights and its optimizer's state, on the CPU, by parameters' names."""

    random: list[dict[str, Any]]
    weights: dict[str, Any] = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)


def is_sharded(model: Any) -> bool:
    return bool(getattr(model, "_is_fsdp_managed_module", False))


def reshard(model: Any) -> None:
    """Put a sharded model's parameters back to this rank's shares: after a forward pass without a backward pass some stay whole,
    and an optimizer or a checkpoint made then would hold what training never touches."""
    for module in model.modules() if is_sharded(model) else ():
        if isinstance(module, FSDPModule):
            module.reshard()


def whole_weights(model: Any) -> dict[str, Any]:
    """A sharded model's weights whole on the CPU of rank 0, empty elsewhere. Every rank must ask."""
    return _untied(model, get_state_dict(model, (), options=StateDictOptions(full_state_dict=True, cpu_offload=True))[0])


def _untied(model: Any, weights: dict[str, Any]) -> dict[str, Any]:
    tied = getattr(model, "all_tied_weights_keys", None) or {}
    return {name: tensor for name, tensor in weights.items() if name not in tied}


def write_whole(whole: Whole, model: Any, folder: Path) -> None:
    """Gathered weights and the model's configuration, as ``save_pretrained`` would write them."""
    save_file({name: tensor.contiguous() for name, tensor in whole.weights.items()}, folder / WEIGHTS_NAME, metadata={"format": "pt"})
    model.config.save_pretrained(folder)


class Gathered:
    """A trainer that saves and restores what its ranks hold together. Before TRL's class."""

    ranks: Ranks = ALONE
    #: Ranks of the run that the checkpoint to resume was made by.
    ranks_before: int = 1
    #: Set on rank 0 while a checkpoint is taken.
    whole: Whole | None = None
    model: Any
    optimizer: Any
    lr_scheduler: Any
    state: Any
    args: Any

    def gather(self) -> None:
        """Every rank gives what it holds. One alone gathers nothing: transformers writes what it has."""
        if self.ranks.size == 1:
            return
        self.store_flos()
        states = self.ranks.gather(_random_state())
        weights: dict[str, Any] = {}
        optimizer: dict[str, Any] = {}
        if is_sharded(self.model):
            options = StateDictOptions(full_state_dict=True, cpu_offload=True)
            weights, optimizer = get_state_dict(self.model, self.optimizer.optimizer, options=options)
        self.whole = Whole(states, _untied(self.model, weights), optimizer) if self.ranks.first else None

    def store_flos(self) -> None:
        """All ranks count together: not where rank 0 writes alone."""
        if self.whole is None:
            super().store_flos()  # type: ignore[misc]  # TRL's, which comes next

    def _save_rng_state(self, output_dir: str) -> None:
        if self.whole is None:
            return super()._save_rng_state(output_dir)  # type: ignore[misc,no-any-return]  # as above
        for rank, state in enumerate(self.whole.random):
            torch.save(state, Path(output_dir) / random_state_name(rank, len(self.whole.random)))
        return None

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if not is_sharded(self.model):
            return super()._load_from_checkpoint(resume_from_checkpoint, model)  # type: ignore[misc,no-any-return]  # as above
        weights: dict[str, Any] = load_file(Path(resume_from_checkpoint) / WEIGHTS_NAME) if self.ranks.first else {}
        # Not strict: a tied output has no entry of its own.
        set_model_state_dict(self.model, weights, options=StateDictOptions(full_state_dict=True, broadcast_from_rank0=True, strict=False))
        return None

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None or not is_sharded(self.model):
            return super()._load_optimizer_and_scheduler(checkpoint)  # type: ignore[misc,no-any-return]  # as above
        folder = Path(checkpoint)
        found = torch.load(folder / OPTIMIZER_NAME, map_location="cpu", weights_only=True) if self.ranks.first else {}
        options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
        set_optimizer_state_dict(self.model, self.optimizer.optimizer, found, options=options)
        self.lr_scheduler.load_state_dict(torch.load(folder / SCHEDULER_NAME, weights_only=True))
        return None

    def _load_rng_state(self, checkpoint: str | None) -> None:
        """Of another number of ranks no state is the one to go on with: each draws anew then, by seed, step and rank."""
        if checkpoint is None or self.ranks.size == self.ranks_before == 1:
            return super()._load_rng_state(checkpoint)  # type: ignore[misc,no-any-return]  # as above
        if self.ranks.size != self.ranks_before:
            drawn = np.random.SeedSequence((self.args.seed, self.state.global_step, self.ranks.size, self.ranks.rank))
            set_seed(int(drawn.generate_state(1)[0]))
        else:
            allowed: Any = safe_globals  # untyped in transformers
            with allowed():  # NumPy's state is an array
                _set_random_state(torch.load(Path(checkpoint) / random_state_name(self.ranks.rank, self.ranks.size), weights_only=True))
        return None


def _random_state() -> dict[str, Any]:
    state = {"python": random.getstate(), "numpy": np.random.get_state(), "cpu": torch.get_rng_state()}
    return state | ({"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else {})


def _set_random_state(state: dict[str, Any]) -> None:
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["cpu"])
    if "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"])
