"""The estimate against what torch really allocates: TRL's own trainer, two steps on a CPU, every tensor's birth and death counted.

The profiler sees each allocation, so the peak is exact, and the same on every run. What a CPU cannot show stays out of the
comparison: CUDA's own memory, and the size of dropout's mask (4 bytes an element here, 1 on CUDA), which is an argument.
"""

import tempfile
from pathlib import Path
from typing import Any

import pytest

from planning import memory
from planning.memory import CUDA_BYTES, memory_of
from planning.shape import shape_of
from planning.workload import Workload

pytestmark = pytest.mark.torch

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 256,
    "num_hidden_layers": 3,
    "intermediate_size": 768,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 1024,
    "tie_word_embeddings": True,
}
WIDE = LLAMA | {"hidden_size": 128, "intermediate_size": 1024, "num_key_value_heads": 4}
QWEN = LLAMA | {"model_type": "qwen3", "head_dim": 64}
#: The output projection's tile, made small: at these widths TRL's own would be all there is to see.
TILE = 128


def workload(**changes: Any) -> Workload:
    start = {
        "method": "sft",
        "adapter": "lora",
        "r": 8,
        "targets": "all-linear",
        "dora": False,
        "dropout": 0.05,
        "max_length": 192,
        "global_batch": 8,
        "micro_batch": 4,
        "gradient_checkpointing": True,
        "packing": False,
        "dtype": "bfloat16",
        "epochs": 1.0,
        "max_steps": 2,
        "eval_fraction": 0.0,
        "reference": False,
        "generations": 1,
        "completion_length": 0,
    }
    return Workload(**(start | changes))


@pytest.mark.parametrize(
    ("config", "work"),
    [
        pytest.param(LLAMA, workload(), id="lora"),
        pytest.param(LLAMA, workload(gradient_checkpointing=False), id="lora-kept-activations"),
        pytest.param(LLAMA, workload(dropout=0.0, targets=("q_proj", "v_proj")), id="lora-two-targets-no-dropout"),
        pytest.param(WIDE, workload(micro_batch=8), id="lora-wide-mlp"),
        pytest.param(QWEN, workload(), id="lora-qwen3"),
        pytest.param(LLAMA, workload(dtype="float32"), id="lora-float32"),
        pytest.param(LLAMA, workload(adapter="full"), id="full"),
        pytest.param(LLAMA, workload(adapter="full", global_batch=4), id="full-without-accumulation"),
    ],
)
def test_the_estimate_is_within_15_percent_of_what_is_allocated(config: dict[str, Any], work: Workload, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "HEAD_TILE_VOCABULARY", TILE)
    estimated = memory_of(shape_of(config), work, work.dtype, mask_bytes=4).total - CUDA_BYTES
    measured = _measured(config, work, monkeypatch)
    print(f"measured {measured / 1e6:.1f} MB, estimated {estimated / 1e6:.1f} MB, {estimated / measured - 1:+.1%}")
    assert abs(estimated / measured - 1) <= 0.15


def _measured(config: dict[str, Any], work: Workload, monkeypatch: pytest.MonkeyPatch) -> int:
    """Bytes at the peak of the second step: weights, optimizer state, and what lives beside them."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from tokenizers import Tokenizer, models
    from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast, TrainerCallback
    from trl.trainer import utils
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    monkeypatch.setattr(utils, "_CHUNKED_LOGPROB_CHUNK_SIZE", TILE)
    full = work.adapter == "full"
    settings = {key: value for key, value in config.items() if key != "model_type"} | {"pad_token_id": 0, "max_position_embeddings": 512}
    model = AutoModelForCausalLM.from_config(
        AutoConfig.for_model(config["model_type"], **settings), dtype=torch.float32 if full else getattr(torch, work.dtype)
    )
    # Rows of two lengths: padding then asks for the mask that real data asks for.
    rows = [list(range(3, 3 + work.max_length - 8 * (at % 2))) for at in range(2 * work.global_batch)]
    tokenizer: Any = PreTrainedTokenizerFast
    targets = work.targets if isinstance(work.targets, str) else list(work.targets)
    peaks: list[int] = []

    class Watch(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.profile: Any = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True)
            self.profile.__enter__()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.profile.__exit__(None, None, None)
            live = peak = 0
            for event in self.profile.profiler.kineto_results.events():
                if event.name() == "[memory]":
                    live += event.nbytes()
                    peak = max(peak, live)
            peaks.append(peak)

    with tempfile.TemporaryDirectory() as folder:
        trainer = SFTTrainer(
            model=model,
            args=SFTConfig(
                output_dir=str(Path(folder)),
                max_steps=work.max_steps,
                per_device_train_batch_size=work.micro_batch,
                gradient_accumulation_steps=work.accumulation,
                gradient_checkpointing=work.gradient_checkpointing,
                bf16=work.dtype == "bfloat16",
                use_cpu=True,
                dataset_kwargs={"skip_prepare_dataset": True},
                save_strategy="no",
                report_to=[],
                disable_tqdm=True,
                max_length=work.max_length,
                dataloader_pin_memory=False,
            ),
            train_dataset=Dataset.from_dict({"input_ids": rows, "labels": rows}),
            processing_class=tokenizer(
                tokenizer_object=Tokenizer(models.WordLevel({"<pad>": 0, "</s>": 2}, unk_token="<pad>")), pad_token="<pad>", eos_token="</s>"
            ),
            peft_config=None if full else LoraConfig(task_type="CAUSAL_LM", r=work.r, lora_dropout=work.dropout, target_modules=targets),
            callbacks=[Watch()],
        )
        trainer.train()
    wrapped: Any = trainer.model
    held = sum(parameter.numel() * parameter.element_size() for parameter in wrapped.parameters())
    state = sum(tensor.numel() * tensor.element_size() for entry in trainer.optimizer.state.values() for tensor in entry.values() if hasattr(tensor, "numel"))
    return held + state + peaks[1]
