"""TRL's trainers, one for each method, each with the same few changes; nothing of their inside is redone.

The changes: a checkpoint is published whole (:class:`Publishing`); GRPO's prompts come in an order that a resume can find
again; ORPO counts its tokens. Imports TRL at its top: import this file inside a function, once the data is good.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from trl.experimental.orpo import ORPOConfig, ORPOTrainer
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.kto_config import KTOConfig
from trl.trainer.kto_trainer import KTOTrainer
from trl.trainer.reward_config import RewardConfig
from trl.trainer.reward_trainer import RewardTrainer
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer
from trl.trainer.utils import RepeatSampler

from jobspec.methods import Grpo, options_of
from jobspec.runfile import RunFile
from trainer.packed import Packing
from trainer.publishing import Publishing


class Sft(Packing, Publishing, SFTTrainer):
    pass


class Dpo(Publishing, DPOTrainer):
    pass


class Kto(Publishing, KTOTrainer):
    pass


class RewardModel(Publishing, RewardTrainer):
    pass


class Orpo(Publishing, ORPOTrainer):
    """Counts the tokens that it trains on, as TRL's other trainers do."""

    _total_train_tokens = 0

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        if model.training:
            tokens = inputs["chosen_attention_mask"].sum() + inputs["rejected_attention_mask"].sum()
            self._total_train_tokens += int(self.accelerator.gather(tokens).sum())
        return super().compute_loss(model, inputs, *args, **kwargs)


class EpochSampler(RepeatSampler):
    """TRL's sampler draws every epoch's order from one generator, so that a resume in the second epoch would begin with the
    first one's order. Here an epoch's order hangs on the seed and the epoch alone."""

    def set_epoch(self, epoch: int) -> None:
        """Called by accelerate before each epoch, and before a resume skips what was read of one."""
        self.generator.manual_seed((self.seed or 0) + epoch)


class GrpoWithOrder(Publishing, GRPOTrainer):
    def _get_train_sampler(self, dataset: Any = None) -> Any:
        theirs: Any = super()._get_train_sampler(dataset)
        return EpochSampler(theirs.data_source, theirs.mini_repeat_count, theirs.batch_size, theirs.repeat_count, theirs.shuffle, theirs.seed)


@dataclass(frozen=True, slots=True)
class Split:
    """Of one rank: rows of a micro-batch, and micro-batches of a step."""

    micro_batch: int
    accumulation: int


@dataclass(frozen=True, slots=True)
class Way:
    """How a method is trained: TRL's classes, and what their configuration needs besides what all methods share."""

    trainer: Any
    config: Any
    settings: Callable[[RunFile, Split], dict[str, Any]]


def _sft(run: RunFile, _split: Split) -> dict[str, Any]:
    # Rows come tokenised, masked and cut.
    return {"max_length": run.training.max_length, "dataset_kwargs": {"skip_prepare_dataset": True}}


def _dpo(run: RunFile, _split: Split) -> dict[str, Any]:
    options = _options(run)
    return {**options, "loss_type": [options["loss_type"]], "max_length": run.training.max_length}


def _compared(run: RunFile, _split: Split) -> dict[str, Any]:
    return {**_options(run), "max_length": run.training.max_length}


def _orpo(run: RunFile, split: Split) -> dict[str, Any]:
    return {**_compared(run, split), "remove_unused_columns": False}  # as its collator needs it


def _kto(run: RunFile, _split: Split) -> dict[str, Any]:
    # KTO pairs neighbours of a micro-batch beforehand, so TRL reads in order; ``as_dataset`` has shuffled the rows.
    return {**_options(run), "max_length": run.training.max_length, "train_sampling_strategy": "sequential"}


def _grpo(run: RunFile, split: Split) -> dict[str, Any]:
    options = _options(run)
    rewards = options.pop("rewards")
    together = run.grpo.num_generations if run.grpo else split.micro_batch
    return {
        **options,
        "reward_weights": [rule["weight"] for rule in rewards],
        # One generation for each optimizer step: a checkpoint then never falls between answers and their use.
        "num_iterations": 1,
        "steps_per_generation": split.accumulation,
        # An evaluation's batch holds whole groups of answers, whatever training's micro-batch is.
        "per_device_eval_batch_size": together * max(1, split.micro_batch // together),
    }


def _options(run: RunFile) -> dict[str, Any]:
    options = options_of(run)
    return options.model_dump() if options is not None else {}


WAYS: dict[str, Way] = {
    "sft": Way(Sft, SFTConfig, _sft),
    "dpo": Way(Dpo, DPOConfig, _dpo),
    "kto": Way(Kto, KTOConfig, _kto),
    "orpo": Way(Orpo, ORPOConfig, _orpo),
    "reward": Way(RewardModel, RewardConfig, _compared),
    "grpo": Way(GrpoWithOrder, GRPOConfig, _grpo),
}


def make_trainer(run: RunFile, config: Any, model: Any, tokenizer: Any, train: Any, held_out: Any, adapter: Any) -> Any:
    """TRL's trainer of the run's method. ``train`` and ``held_out`` are ``datasets.Dataset`` of its columns."""
    more: dict[str, Any] = {}
    if run.method == "grpo":
        from trainer.rewards import reward_functions

        assert isinstance(run.grpo, Grpo)
        more["reward_funcs"] = reward_functions(run.grpo.rewards, set(train.column_names) - {"prompt"})
    trainer = WAYS[run.method].trainer(
        model=model, args=config, train_dataset=train, eval_dataset=held_out, processing_class=tokenizer, peft_config=adapter, **more
    )
    for parameter in trainer.model.parameters():
        if parameter.requires_grad and parameter.dtype in (torch.float16, torch.bfloat16):
            parameter.data = parameter.data.float()  # what is trained is held in 32 bits: smaller updates round to nothing
    return trainer
