"""From a run file and its data to a trainer that is ready: settings, rows, model, adapter.

Imports torch and TRL at its top: import this file inside a function, once the data is good.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback

from jobspec.marker import FailureCode
from jobspec.runfile import RunFile
from trainer.dealing import Deal
from trainer.dealt import seeded_order
from trainer.failures import TrainerFailure
from trainer.methods import WAYS, Split, make_trainer
from trainer.model import adapter_config, load_model
from trainer.packed import check_apart
from trainer.packing import PackingPlan, plan_packing
from trainer.prepare import Prepared
from trainer.ranks import ALONE, Ranks
from trainer.start import gone_on
from trainer.stop import StopSignal
from trainer.tables import lengths_of

#: Bytes for each trained parameter in a checkpoint: float32 weights and Adam's two moments.
CHECKPOINT_BYTES_PER_PARAMETER = 12


@dataclass(frozen=True, slots=True)
class Setup:
    """All that decides a trainer. ``micro_batch_size`` is the manifest's, or less where memory or the GPU's share did not hold that."""

    run: RunFile
    root: Path
    data: Prepared
    dtype: str
    micro_batch_size: int
    output_dir: Path
    ranks: Ranks = ALONE

    def with_micro_batch(self, size: int) -> "Setup":
        return replace(self, micro_batch_size=size)

    @property
    def accumulation(self) -> int:
        """Micro-batches of each rank for one optimizer step, without packing."""
        return self.run.training.global_batch_size // (self.micro_batch_size * self.ranks.size)

    @property
    def sharded(self) -> bool:
        """True where every weight is trained on several GPUs: each then holds a share of them (FSDP2)."""
        return self.ranks.size > 1 and self.run.adapter.type == "full"

    def total_steps(self) -> int:
        """Optimizer steps of the whole run."""
        return total_steps_of(self.run, len(self.data.train))


def total_steps_of(run: RunFile, rows: int) -> int:
    """``max_steps``, or ``epochs`` passes over ``rows``: the optimizer steps as transformers counts them.

    Raises TrainerFailure (data_invalid) for grpo with fewer prompts than one step takes: TRL reads whole steps only.
    """
    training = run.training
    if run.grpo is not None and run.method == "grpo":
        prompts = training.global_batch_size // run.grpo.num_generations
        steps_per_epoch = rows // prompts
        if not steps_per_epoch:
            told = f"there are {rows} prompts to train on, but one step takes {prompts} (training.global_batch_size by grpo.num_generations)"
            raise TrainerFailure(FailureCode.DATA_INVALID, f"{told}: lower training.global_batch_size, or give more prompts.")
    else:
        steps_per_epoch = math.ceil(rows / training.global_batch_size)
    return training.max_steps or max(1, math.ceil(training.epochs * steps_per_epoch))


def packing_of(setup: Setup, train: Any, total_steps: int, stop: StopSignal) -> PackingPlan | None:
    """How the rows lie on lines, no longer than the longest row: packing then needs no more memory than the worst micro-batch without it."""
    training = setup.run.training
    if setup.run.method != "sft" or not training.packing:
        return None
    lengths = lengths_of(train)
    epochs = math.ceil(total_steps / math.ceil(len(lengths) / training.global_batch_size))
    return plan_packing(
        lengths,
        global_batch=training.global_batch_size,
        lines=setup.micro_batch_size,
        capacity=int(lengths.max()),
        seed=training.seed,
        epochs=epochs,
        stop=stop,
        ranks=setup.ranks.size,
    )


def deal_of(setup: Setup, train: Any) -> Deal | None:
    """How unpacked rows are dealt out to several ranks; None where TRL reads them as it does. For kto they are shuffled already (``in_order``)."""
    training, rows = setup.run.training, len(train)
    if setup.ranks.size == 1 or setup.run.method == "grpo":  # whose sampler deals out whole groups
        return None

    def order(epoch: int) -> Sequence[int]:
        return range(rows) if setup.run.method == "kto" else seeded_order(rows, training.seed, epoch)

    return Deal(order, training.global_batch_size, setup.micro_batch_size, setup.ranks.size)


def settings_of(setup: Setup, total_steps: int, plan: PackingPlan | None) -> Any:
    """TRL's configuration; what the manifest does not say is fixed here, with the reason where it is not plain."""
    training, dtype, micro_batch = setup.run.training, setup.dtype, setup.micro_batch_size
    on_gpu = torch.cuda.is_available()
    way = WAYS[setup.run.method]
    shared: dict[str, Any] = {
        "output_dir": str(setup.output_dir),
        "max_steps": total_steps,
        "per_device_train_batch_size": 1 if plan else micro_batch,  # a packed micro-batch comes as one
        "per_device_eval_batch_size": micro_batch,
        "gradient_accumulation_steps": plan.accumulation if plan else setup.accumulation,
        "learning_rate": training.learning_rate,
        "lr_scheduler_type": "constant_with_warmup" if training.scheduler == "constant" else training.scheduler,
        "warmup_steps": math.ceil(training.warmup_ratio * total_steps),
        "gradient_checkpointing": training.gradient_checkpointing,
        "bf16": dtype == "bfloat16",
        "fp16": dtype == "float16",
        "use_cpu": not on_gpu,
        "seed": training.seed,
        "data_seed": training.seed,
        "logging_steps": 1,  # every loss is in the curve, wherever an interruption cuts it; training.logging_steps thins the progress lines
        "logging_nan_inf_filter": False,  # a loss that is not finite is reported, not replaced by an average
        "save_strategy": "no",  # Watch says when
        "eval_strategy": "no",  # Watch does it
        "report_to": [],
        "disable_tqdm": True,
        "dataloader_pin_memory": on_gpu,
        "push_to_hub": False,
        "ddp_backend": "gloo" if setup.ranks.size > 1 and not on_gpu else None,
        # Every trained weight has a gradient in every step, and no buffer changes: nothing to look for, nothing to send.
        "ddp_find_unused_parameters": False,
        "ddp_broadcast_buffers": False,
    }
    if setup.sharded:  # gradients held back until the last micro-batch would be whole on every GPU
        shared["accelerator_config"] = {"gradient_accumulation_kwargs": {"sync_each_batch": True}}
    return way.config(**{**shared, **way.settings(setup.run, Split(micro_batch, setup.accumulation))})


def in_order(run: RunFile, rows: Any) -> Any:
    """The rows as TRL is to read them: for kto, which reads in order (trainer/methods.py), shuffled once by the seed."""
    return rows.shuffle(seed=run.training.seed, keep_in_memory=True) if rows is not None and run.method == "kto" else rows


def build_trainer(setup: Setup, train: Any, held_out: Any, total_steps: int, stop: StopSignal) -> Any:
    """The trainer, its adapter initialised from the seed, its ``base_model_name_or_path`` set to the model's reference."""
    run = setup.run
    model = load_model(run, setup.root / run.model_dir, setup.dtype, shards=setup.ranks.size if setup.sharded else 1)
    plan = packing_of(setup, train, total_steps, stop)
    config = settings_of(setup, total_steps, plan)
    adapter = adapter_config(run, model)
    if run.start_dir is not None:
        model, adapter = gone_on(run, setup.root, model, adapter), None
    trainer = make_trainer(run, config, model, setup.data.tokenizer, train, held_out, adapter)
    trainer.ranks = setup.ranks
    if plan is not None:
        check_apart(trainer.model, trainer.model.config.get_text_config().vocab_size)
        trainer.plan = plan
    else:
        trainer.deal = deal_of(setup, trainer.train_dataset)
    trainer.remove_callback(PrinterCallback)  # the progress file says it
    if run.adapter.type != "full":
        reference, _, revision = run.model_reference.partition("@")
        trained = trainer.model.peft_config["default"]
        trained.base_model_name_or_path, trained.revision = reference, revision or None
    return trainer
