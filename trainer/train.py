"""TRL's SFTTrainer with a LoRA adapter, told when to save, when to stop and what to report; nothing of its inside is redone.

Unlike the rest of the room this file imports torch and TRL at its top: import it inside a function, once the data is good.

Why a resume is exact: a save happens only after ``on_step_end``, where weights, optimizer, scheduler and every random
state belong to the same step (transformers' own just-in-time save happens before the optimizer's step, with the random
state of the step after; its resume takes other steps). transformers restores all of them, and the place in the data.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from transformers import AutoModelForCausalLM, PrinterCallback, TrainerCallback
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from jobspec.manifest import Training
from jobspec.marker import FailureCode
from jobspec.runfile import ProgressKind, RunFile
from trainer.checkpoints import CARRIED_NAME, Carried, write_durably
from trainer.failures import TrainerFailure
from trainer.progress import ProgressLog
from trainer.stop import StopRequested, StopSignal

#: A float16 run's gradient scaler skips a step that overflowed; in any other run one such step has spoilt the weights.
MAX_OVERFLOWS = 3
#: Written by transformers beside a checkpoint and read by nothing here: a pickle, and a card that tells nothing.
_NOT_KEPT = ("training_args.bin", "README.md")
#: Bytes for each trained parameter in a checkpoint: float32 weights and Adam's two moments.
CHECKPOINT_BYTES_PER_PARAMETER = 12

Publish = Callable[[Callable[[Path], None], int, int], Path]


def total_steps_of(training: Training, rows: int) -> int:
    """Optimizer steps of the whole run: ``max_steps``, or ``epochs`` passes over ``rows``."""
    if training.max_steps is not None:
        return training.max_steps
    accumulation = training.global_batch_size // training.micro_batch_size
    steps_per_epoch = math.ceil(math.ceil(rows / training.micro_batch_size) / accumulation)
    return max(1, math.ceil(training.epochs * steps_per_epoch))


def resolve_dtype(wanted: str) -> str:
    """``auto`` by the hardware: bfloat16 where the GPU computes in it, else float16; float32 on a CPU."""
    if wanted != "auto":
        return wanted
    if not torch.cuda.is_available():
        return "float32"
    # Turing and Volta (compute capability 7) only emulate bfloat16.
    return "bfloat16" if torch.cuda.get_device_capability()[0] >= 8 else "float16"


def load_base_model(folder: Path, dtype: str) -> Any:
    """The base model. Raises TrainerFailure (model_invalid) for one that is unreadable, incomplete or needs its own code."""
    make: Any = AutoModelForCausalLM
    try:
        model, info = make.from_pretrained(
            str(folder), dtype=getattr(torch, dtype), use_safetensors=True, trust_remote_code=False, local_files_only=True, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        if isinstance(error, torch.cuda.OutOfMemoryError):
            raise
        raise TrainerFailure(FailureCode.MODEL_INVALID, f"the base model does not load (custom code is never run): {type(error).__name__}: {error}") from error
    if missing := sorted(info["missing_keys"]):
        raise TrainerFailure(
            FailureCode.MODEL_INVALID, f"the base model lacks {len(missing)} weights, such as {missing[0]}; they would start at random. Copy the whole model."
        )
    return model


def lora_config(run: RunFile, model: Any) -> LoraConfig:
    """The adapter of the manifest. Raises TrainerFailure (model_invalid) for a layer that the model does not have."""
    wanted = run.adapter.target_modules
    if wanted != "all-linear":
        names = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear) and not name.endswith("lm_head")]
        unknown = [target for target in wanted if not any(name == target or name.endswith(f".{target}") for name in names)]
        if unknown:
            known = sorted({name.rsplit(".", 1)[-1] for name in names})
            raise TrainerFailure(
                FailureCode.MODEL_INVALID, f"adapter.target_modules: the base model has no linear layer {', '.join(unknown)}; it has {', '.join(known)}"
            )
    targets = wanted if isinstance(wanted, str) else list(wanted)
    return LoraConfig(
        task_type="CAUSAL_LM", r=run.adapter.r, lora_alpha=run.adapter.alpha, lora_dropout=run.adapter.dropout, target_modules=targets, bias="none"
    )


def trl_settings(training: Training, total_steps: int, dtype: str, output_dir: Path) -> SFTConfig:
    """TRL's configuration; what the manifest does not say is fixed here, with the reason where it is not plain."""
    on_gpu = torch.cuda.is_available()
    schedule = "constant_with_warmup" if training.scheduler == "constant" else training.scheduler
    assert training.learning_rate is not None
    return SFTConfig(
        output_dir=str(output_dir),
        max_steps=total_steps,
        per_device_train_batch_size=training.micro_batch_size,
        per_device_eval_batch_size=training.micro_batch_size,
        gradient_accumulation_steps=training.global_batch_size // training.micro_batch_size,
        learning_rate=training.learning_rate,
        lr_scheduler_type=schedule,
        warmup_steps=math.ceil(training.warmup_ratio * total_steps),
        max_length=training.max_length,
        gradient_checkpointing=training.gradient_checkpointing,
        bf16=dtype == "bfloat16",
        fp16=dtype == "float16",
        use_cpu=not on_gpu,
        seed=training.seed,
        data_seed=training.seed,
        dataset_kwargs={"skip_prepare_dataset": True},  # rows come tokenised, masked and cut
        logging_steps=1,  # every loss is in the curve, wherever an interruption cuts it; training.logging_steps thins the progress lines
        logging_nan_inf_filter=False,  # a loss that is not finite is reported, not replaced by an average
        include_num_input_tokens_seen="non_padding",  # the only token count that transformers carries over a resume
        save_strategy="no",  # RunWatch says when
        eval_strategy="no",
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=on_gpu,
        push_to_hub=False,
    )


class CheckpointingTrainer(SFTTrainer):
    """SFTTrainer whose checkpoints are published whole through ``publish`` instead of growing in place."""

    publish: Publish
    carried: Carried

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """No card beside each checkpoint: ``finish`` writes the one that says something."""

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        self.publish(lambda staging: self._write_into(staging, model, trial), self.state.global_step, self.state.max_steps)

    def _write_into(self, staging: Path, model: Any, trial: Any) -> None:
        """Let transformers write its ``checkpoint-N`` below ``staging``, then lift the files up and add what is carried."""
        self.args.output_dir = str(staging)
        super()._save_checkpoint(model, trial)  # type: ignore[no-untyped-call]  # untyped in TRL
        written = staging / f"checkpoint-{self.state.global_step}"
        for path in list(written.iterdir()):
            if path.name in _NOT_KEPT:
                path.unlink()
            else:
                path.rename(staging / path.name)
        written.rmdir()
        write_durably(staging / CARRIED_NAME, self.carried.model_dump_json().encode())


@dataclass(slots=True)
class _Pace:
    """Since when and from how many tokens the next progress line counts its tokens per second."""

    at: float
    tokens: int


class RunWatch(TrainerCallback):
    """Between TRL's steps: save when due, stop when asked, report losses, refuse to go on with broken numbers."""

    def __init__(self, trainer: CheckpointingTrainer, run: RunFile, log: ProgressLog, stop: StopSignal, clock: Callable[[], float]) -> None:
        self._trainer, self._run, self._log, self._stop, self._clock = trainer, run, log, stop, clock
        self._saved_at = clock()
        self._pace = _Pace(clock(), 0)
        self._overflows = 0
        self.interrupted = False

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._stop.requested():
            raise StopRequested("stopped before the first step of this attempt")
        # TRL counts the tokens it logs from zero after a resume; transformers' own count is in the checkpoint.
        self._trainer._total_train_tokens = int(state.num_input_tokens_seen)
        self._pace = _Pace(self._clock(), int(state.num_input_tokens_seen))
        self._saved_at = self._clock()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.interrupted = self._stop.requested()
        due = self._clock() - self._saved_at >= self._run.checkpoint.interval
        # The last step is saved as well: an end during the final evaluation then costs no step.
        if self.interrupted or due or state.global_step >= state.max_steps:
            control.should_save = True
        if self.interrupted:
            control.should_training_stop = True

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._saved_at = self._clock()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        if not logs or "loss" not in logs:
            return
        self._refuse_broken(state.global_step, float(logs["loss"]), float(logs.get("grad_norm", 0.0)), scaled=bool(args.fp16))
        every = self._run.training.logging_steps
        if state.global_step % every and state.global_step != state.max_steps:
            return
        recent = [entry["loss"] for entry in state.log_history if "loss" in entry][-every:]
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
        )

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


def build_trainer(run: RunFile, model: Any, tokenizer: Any, train: Any, held_out: Any | None, settings: SFTConfig, carried: Carried) -> CheckpointingTrainer:
    """The trainer on ``train`` and ``held_out`` (datasets.Dataset): its adapter initialised from the seed, its base named by the model's reference."""
    trainer = CheckpointingTrainer(
        model=model,
        args=settings,
        train_dataset=train,
        eval_dataset=held_out,
        processing_class=tokenizer,
        peft_config=lora_config(run, model),
    )
    trainer.carried = carried
    trainer.remove_callback(PrinterCallback)  # the progress file says it
    reference, _, revision = run.model_reference.partition("@")
    wrapped: Any = trainer.model
    config = wrapped.peft_config["default"]
    config.base_model_name_or_path, config.revision = reference, revision or None
    return trainer
