"""Tokens per second of training on short rows of mixed length: TRL's SFTTrainer as it comes, Dropforge without and with packing.

``python -m bench.packing``. Same model (made from a config, random weights), rows, LoRA, global batch, micro-batch and
precision; each in a process of its own on one thread. Counted are the rows' own tokens, not padding, by CPU seconds, so
that other work on the machine changes little. The first steps are left out. A CPU stands in for a GPU here: what is
measured is how much less is computed, not what a GPU gains besides from fuller micro-batches.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
VARIANTS = ("trl", "unpacked", "packed")
SKIPPED_STEPS = 2
WORDS = ("river", "engine", "garden", "window", "teacher", "planet", "letter", "bridge", "candle", "moves", "grows", "waits", "shines", "red", "slowly")


def write_rows(path: Path, count: int, longest_words: int) -> None:
    """Chats whose answers have log-normal lengths, as real ones do: most are short, a few are many times as long."""
    draw = random.Random(0)  # noqa: S311 - reproducible rows, no secret
    lines = []
    for _ in range(count):
        words = [draw.choice(WORDS) for _ in range(min(longest_words, max(3, int(draw.lognormvariate(3.4, 1.0)))))]
        messages = [{"role": "user", "content": " ".join(words[:6]) + "?"}, {"role": "assistant", "content": " ".join(words)}]
        lines.append(json.dumps({"messages": messages}) + "\n")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(lines))


def make_model(folder: Path, hidden: int, layers: int) -> None:
    """A Llama of that width with the tiny model's tokenizer."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from tests.tiny_model import make_tiny_model

    tokenizer: Any = AutoTokenizer
    make_tiny_model(folder)
    words = tokenizer.from_pretrained(str(folder))
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=hidden,
        intermediate_size=hidden * 8 // 3,
        num_hidden_layers=layers,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=2048,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=3,
    )
    LlamaForCausalLM(config).save_pretrained(folder, safe_serialization=True)


def with_trl(folder: Path, asked: argparse.Namespace) -> float:
    """TRL's trainer with its own defaults for everything that is not named here."""
    from datasets import load_dataset  # type: ignore[import-untyped]  # ships no types
    from peft import LoraConfig
    from transformers import TrainerCallback
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    seen: list[tuple[float, float]] = []

    class Watch(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            if logs and "num_tokens" in logs:
                seen.append((time.process_time(), logs["num_tokens"]))

    settings = SFTConfig(
        output_dir=str(folder / "out"),
        max_steps=asked.steps,
        per_device_train_batch_size=asked.micro_batch,
        gradient_accumulation_steps=asked.global_batch // asked.micro_batch,
        max_length=1024,
        use_cpu=True,
        bf16=False,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )
    rows = load_dataset("json", data_files=str(folder / "data/train.jsonl"), split="train", cache_dir=str(folder / "cache"))
    adapter = LoraConfig(task_type="CAUSAL_LM", r=8, lora_alpha=16, target_modules="all-linear")
    trainer = SFTTrainer(model=str(folder / "model"), args=settings, train_dataset=rows, peft_config=adapter)
    trainer.add_callback(Watch())
    trainer.train()
    (began, before), (ended, after) = seen[SKIPPED_STEPS - 1], seen[-1]
    return (after - before) / (ended - began)


def with_dropforge(folder: Path, asked: argparse.Namespace, *, packing: bool) -> float:
    """``python -m trainer run`` in this process, its clock counting CPU seconds."""
    from trainer.run import run_file
    from trainer.stop import StopSignal

    training = {"max_steps": asked.steps, "global_batch_size": asked.global_batch, "micro_batch_size": asked.micro_batch, "packing": packing}
    run = {"job_id": "packing", "model_reference": "local/model", "adapter": {"r": 8, "alpha": 16, "dropout": 0.0}, "eval_fraction": 0, "training": training}
    (folder / "run.json").write_text(json.dumps(run))
    code = run_file(folder / "run.json", lambda: datetime.now(UTC), time.process_time, StopSignal())
    lines = [json.loads(line) for line in (folder / "progress.jsonl").read_text().splitlines()]
    if code:
        sys.exit(lines[-1]["message"])
    sys.stderr.write(next(line["message"] for line in lines if line["kind"] == "started") + "\n")
    tokens = [json.loads(line)["num_tokens"] for line in (folder / "final/metrics.jsonl").read_text().splitlines()]
    rates = [line["tokens_per_s"] for line in lines if line["kind"] == "step"]
    counts = [after - before for before, after in zip([0, *tokens], tokens, strict=False)]
    return sum(counts[SKIPPED_STEPS:]) / sum(count / rate for count, rate in list(zip(counts, rates, strict=True))[SKIPPED_STEPS:])


def one(variant: str, base: Path, asked: argparse.Namespace) -> float:
    """Tokens per CPU second of one variant, in a folder of its own below ``base``."""
    folder = base / variant
    for name in ("model", "data"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(base / name)
    return with_trl(folder, asked) if variant == "trl" else with_dropforge(folder, asked, packing=variant == "packed")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--global-batch", type=int, default=32)
    parser.add_argument("--micro-batch", type=int, default=8)
    parser.add_argument("--hidden", type=int, default=384)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--longest-words", type=int, default=150)
    parser.add_argument("--one", choices=VARIANTS, help=argparse.SUPPRESS)
    parser.add_argument("--base", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    sys.path[:0] = [str(ROOT), str(ROOT / "functions")]
    if asked.one:
        sys.stdout.write(f"{one(asked.one, asked.base, asked)}\n")
        return 0
    with tempfile.TemporaryDirectory(prefix="packing-") as name:
        base = Path(name)
        make_model(base / "model", asked.hidden, asked.layers)
        write_rows(base / "data/train.jsonl", asked.steps * asked.global_batch, asked.longest_words)
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        rates = {}
        for variant in VARIANTS:
            command = [sys.executable, "-W", "ignore", "-m", "bench.packing", *sys.argv[1:], "--one", variant, "--base", str(base)]
            done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603 - this script itself
            rates[variant] = float(done.stdout.strip().splitlines()[-1])
            sys.stdout.write(f"{variant:9} {rates[variant]:8.0f} tokens per CPU second, {rates[variant] / rates['trl']:.2f} x TRL\n")
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
