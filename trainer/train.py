"""From a run file and its data to a trainer that is ready: settings, rows, model, adapter.

Imports torch and TRL at its top: import this file inside a function, once the data is good.
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback

from jobspec.marker import FailureCode
from jobspec.runfile import RunFile
from trainer.failures import TrainerFailure
from trainer.methods import WAYS, make_trainer
from trainer.model import adapter_config, load_model
from trainer.packed import check_apart
from trainer.packing import PackingPlan, plan_packing
from trainer.prepare import Prepared
from trainer.start import gone_on
from trainer.stop import StopSignal
from trainer.tables import lengths_of

#: Bytes for each trained parameter in a checkpoint: float32 weights and Adam's two moments.
CHECKPOINT_BYTES_PER_PARAMETER = 12


@dataclass(frozen=True, slots=True)
class Setup:
    """All that decides a trainer. ``micro_batch_size`` is the manifest's, or less where memory did not hold that."""

    run: RunFile
    root: Path
    data: Prepared
    dtype: str
    micro_batch_size: int
    output_dir: Path

    def with_micro_batch(self, size: int) -> "Setup":
        return replace(self, micro_batch_size=size)

    def total_steps(self) -> int:
        """Optimizer steps of the whole run."""
        return total_steps_of(self.run, self.micro_batch_size, len(self.data.train))


def total_steps_of(run: RunFile, micro_batch: int, rows: int) -> int:
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
        steps_per_epoch = math.ceil(math.ceil(rows / micro_batch) / (training.global_batch_size // micro_batch))
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
    )


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
        "gradient_accumulation_steps": plan.accumulation if plan else training.global_batch_size // micro_batch,
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
    }
    return way.config(**{**shared, **way.settings(setup.run, micro_batch)})


def in_order(run: RunFile, rows: Any) -> Any:
    """The rows as TRL is to read them: for kto, which reads in order (trainer/methods.py), shuffled once by the seed."""
    return rows.shuffle(seed=run.training.seed, keep_in_memory=True) if rows is not None and run.method == "kto" else rows


def build_trainer(setup: Setup, train: Any, held_out: Any, total_steps: int, stop: StopSignal) -> Any:
    """The trainer, its adapter initialised from the seed, its ``base_model_name_or_path`` set to the model's reference."""
    run = setup.run
    model = load_model(run, setup.root / run.model_dir, setup.dtype)
    plan = packing_of(setup, train, total_steps, stop)
    config = settings_of(setup, total_steps, plan)
    adapter = adapter_config(run, model)
    if run.start_dir is not None:
        model, adapter = gone_on(run, setup.root, model, adapter), None
    trainer = make_trainer(run, config, model, setup.data.tokenizer, train, held_out, adapter)
    if plan is not None:
        check_apart(trainer.model, trainer.model.config.get_text_config().vocab_size)
        trainer.plan = plan
    trainer.remove_callback(PrinterCallback)  # the progress file says it
    if run.adapter.type != "full":
        reference, _, revision = run.model_reference.partition("@")
        trained = trainer.model.peft_config["default"]
        trained.base_model_name_or_path, trained.revision = reference, revision or None
    return trainer
