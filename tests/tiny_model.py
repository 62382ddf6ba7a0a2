"""A tiny Llama and its data for tests: made from a config in about two seconds, small enough to train 20 steps on a CPU.

``make_tiny_model(folder)`` writes what a model folder holds (config.json, model.safetensors, the tokenizer, its chat
template). ``write_chat_rows`` and its siblings write data sets that such a model can learn. Everything is seeded, so the
same call gives the same bytes. ``transformers`` is imported inside the functions: to import this file costs nothing.
"""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

#: The shape of SmolLM2's own template: every turn between markers, and no ``{% generation %}`` tags.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>"]
_NOUNS = ["apple", "river", "engine", "garden", "window", "teacher", "planet", "letter", "bridge", "candle"]
_COLOURS = ["red", "blue", "green", "yellow", "white", "black"]
_VERBS = ["moves", "grows", "waits", "shines", "falls", "sings"]


def make_tiny_model(folder: Path, seed: int = 0, vocab_size: int = 400, intermediate_size: int = 160) -> Path:
    """Write a Llama of about 0.2 million parameters with tokenizer and chat template to ``folder``; returns it."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = _tokenizer(vocab_size)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=intermediate_size,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=3,
    )
    folder.mkdir(parents=True, exist_ok=True)
    LlamaForCausalLM(config).save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)
    return folder


def _tokenizer(vocab_size: int) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=_SPECIAL, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False
    )
    core.train_from_iterator((f"{question}\n{answer}" for question, answer in _pairs(500, seed=0)), trainer)
    named = dict(zip(("bos_token", "eos_token", "pad_token"), _SPECIAL[1:], strict=True))
    make: Any = PreTrainedTokenizerFast  # untyped upstream
    return make(tokenizer_object=core, chat_template=CHAT_TEMPLATE, model_max_length=512, **named)


def _pairs(n: int, seed: int) -> Iterator[tuple[str, str]]:
    chooser = random.Random(seed)
    for _ in range(n):
        noun, colour = chooser.choice(_NOUNS), chooser.choice(_COLOURS)
        sentences = [f"The {colour} {noun} {chooser.choice(_VERBS)} near the {chooser.choice(_NOUNS)}." for _ in range(chooser.randint(1, 3))]
        yield f"What does the {colour} {noun} do?", " ".join(sentences)


def _write(path: Path, rows: Iterator[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_chat_rows(path: Path, n: int = 64, seed: int = 0) -> Path:
    """Write ``n`` rows ``{"messages": [user, assistant]}`` as JSONL; returns ``path``."""
    return _write(path, ({"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]} for q, a in _pairs(n, seed)))


def write_prompt_rows(path: Path, n: int = 64, seed: int = 0) -> Path:
    """Write ``n`` rows ``{"prompt": ..., "completion": ...}`` as JSONL; returns ``path``."""
    return _write(path, ({"prompt": q + "\n", "completion": a} for q, a in _pairs(n, seed)))


def write_text_rows(path: Path, n: int = 64, seed: int = 0) -> Path:
    """Write ``n`` rows ``{"text": ...}`` as JSONL; returns ``path``."""
    return _write(path, ({"text": f"{q}\n{a}"} for q, a in _pairs(n, seed)))


def write_rows_for(method: str, path: Path, n: int = 16, seed: int = 0) -> Path:
    """Write ``n`` rows of the format that ``method`` learns from, prompts as messages, as JSONL; returns ``path``."""
    return _write(path, (_row_for(method, at, question, answer) for at, (question, answer) in enumerate(_pairs(n, seed))))


def _row_for(method: str, at: int, question: str, answer: str) -> dict[str, Any]:
    asked, good, bad = ([{"role": role, "content": text}] for role, text in (("user", question), ("assistant", answer), ("assistant", "I do not know.")))
    if method in ("dpo", "orpo", "reward"):
        return {"prompt": asked, "chosen": good, "rejected": bad}
    if method == "kto":
        return {"prompt": asked, "completion": bad if at % 3 else good, "label": at % 3 == 0}
    if method == "grpo":
        return {"prompt": asked, "answer": answer.split()[1]}
    return {"messages": asked + good}
