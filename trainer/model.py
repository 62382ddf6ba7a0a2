"""The model to train: the base model in the precision of the hardware, with an adapter's configuration or as it is.

Imports torch at its top: import this file inside a function, once the data is good.

* lora: the base in 16 bits where the GPU computes in them, frozen; the adapter in float32.
* qlora: the base in 4 bits (nf4, double quantisation: Dettmers et al. 2023, "QLoRA"), computing in 16; the adapter in float32.
* full: every weight in float32, computing in 16 bits (mixed precision): in 16 bits alone small updates would round to nothing.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, BitsAndBytesConfig, set_seed
from transformers.distributed.configuration_utils import DistributedConfig

from jobspec.marker import FailureCode
from jobspec.methods import Adapter
from jobspec.runfile import RunFile
from trainer.failures import TrainerFailure

#: The output of a reward model: made new and trained whole, beside the adapter.
REWARD_HEAD = "score"


def resolve_dtype(wanted: str) -> str:
    """``auto`` by the hardware: bfloat16 where the GPU computes in it, else float16; float32 on a CPU."""
    if wanted != "auto":
        return wanted
    if not torch.cuda.is_available():
        return "float32"
    # Turing and Volta (compute capability 7) only emulate bfloat16.
    return "bfloat16" if torch.cuda.get_device_capability()[0] >= 8 else "float16"


def load_model(run: RunFile, folder: Path, dtype: str, *, shards: int = 1) -> Any:
    """The base model of ``folder``; of several ``shards``, this rank's (FSDP2, by transformers' own plan for the architecture).

    Raises TrainerFailure (model_invalid) for a model that is unreadable, incomplete or needs its own code.
    """
    make: Any = AutoModelForSequenceClassification if run.method == "reward" else AutoModelForCausalLM
    options: dict[str, Any] = {"dtype": torch.float32 if run.adapter.type == "full" else getattr(torch, dtype)}
    if run.adapter.type == "qlora":
        options["quantization_config"] = four_bits(dtype)
    if run.method == "reward":
        options["num_labels"] = 1
    if shards > 1:
        options["distributed_config"] = DistributedConfig(fsdp_size=shards, fsdp_mixed_precision=dtype == "bfloat16")
    set_seed(run.training.seed)  # a reward model's output is drawn
    try:
        model, info = make.from_pretrained(
            str(folder), use_safetensors=True, trust_remote_code=False, local_files_only=True, output_loading_info=True, **options
        )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        if isinstance(error, torch.cuda.OutOfMemoryError):
            raise
        raise TrainerFailure(FailureCode.MODEL_INVALID, f"the base model does not load (custom code is never run): {type(error).__name__}: {error}") from error
    if missing := sorted(key for key in info["missing_keys"] if not (run.method == "reward" and key.startswith(f"{REWARD_HEAD}."))):
        raise TrainerFailure(
            FailureCode.MODEL_INVALID, f"the base model lacks {len(missing)} weights, such as {missing[0]}; they would start at random. Copy the whole model."
        )
    return model


def four_bits(dtype: str) -> Any:
    """How qlora's base is held. Raises TrainerFailure (trainer_error) where this machine cannot."""
    lacks = None
    if not torch.cuda.is_available():
        lacks = "an NVIDIA GPU, and there is none here: choose adapter.type lora, or a GPU instance type"
    elif find_spec("bitsandbytes") is None:
        lacks = "the package bitsandbytes, and it is not installed here: build the image from requirements/image.txt, or choose adapter.type lora"
    if lacks:
        raise TrainerFailure(FailureCode.TRAINER_ERROR, f"adapter.type qlora needs {lacks}.")
    make: Any = BitsAndBytesConfig  # untyped in transformers
    return make(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=getattr(torch, dtype))


def adapter_config(run: RunFile, model: Any) -> LoraConfig | None:
    """The adapter of the manifest, None for full training. Raises TrainerFailure (model_invalid) for a layer that the model does not have."""
    adapter = run.adapter
    if adapter.type == "full":
        return None
    _refuse_unknown_layers(adapter, model)
    reward = run.method == "reward"
    return LoraConfig(
        task_type="SEQ_CLS" if reward else "CAUSAL_LM",
        r=adapter.r,
        lora_alpha=adapter.alpha,
        lora_dropout=adapter.dropout,
        target_modules=adapter.target_modules if isinstance(adapter.target_modules, str) else list(adapter.target_modules),
        use_rslora=adapter.rslora,
        use_dora=adapter.dora,
        modules_to_save=[REWARD_HEAD] if reward else None,
        bias="none",
    )


def _refuse_unknown_layers(adapter: Adapter, model: Any) -> None:
    if isinstance(adapter.target_modules, str):
        return
    heads = ("lm_head", REWARD_HEAD)
    names = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear) and not name.endswith(heads)]
    unknown = [target for target in adapter.target_modules if not any(name == target or name.endswith(f".{target}") for name in names)]
    if unknown:
        known = sorted({name.rsplit(".", 1)[-1] for name in names})
        raise TrainerFailure(
            FailureCode.MODEL_INVALID, f"adapter.target_modules: the base model has no linear layer {', '.join(unknown)}; it has {', '.join(known)}"
        )


def parameter_counts(model: Any) -> tuple[int, int]:
    """Trained parameters and all of them."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    return sum(size for size, trained in sizes if trained), sum(size for size, _ in sizes)
