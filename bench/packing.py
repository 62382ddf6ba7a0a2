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
from collections.abc import Callable
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Trained:
    """The counted steps of a run: the rows' own tokens, and the clock's seconds (of the CPU, or on a GPU of the wall)."""

    tokens: float
    seconds: float
    steps: int

    @property
    def tokens_per_s(self) -> float:
        return self.tokens / self.seconds


def make_model(folder: Path, hidden: int, layers: int, **facts: Any) -> None:
    """A Llama of that width with the tiny model's tokenizer; ``facts`` are further ones of its configuration."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from tests.tiny_model import make_tiny_model

    tokenizer: Any = AutoTokenizer
    make_tiny_model(folder)
    words = tokenizer.from_pretrained(str(folder))
    torch.manual_seed(0)
    usual = {"vocab_size": len(words), "intermediate_size": hidden * 8 // 3, "num_attention_heads": 8, "num_key_value_heads": 4, "dtype": "float32"}
    config = LlamaConfig(
        hidden_size=hidden,
        num_hidden_layers=layers,
        max_position_embeddings=2048,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=3,
        **{**usual, **facts},
    )
    LlamaForCausalLM(config).to(getattr(torch, str(facts.get("dtype", "float32")))).save_pretrained(folder, safe_serialization=True)


def with_trl(folder: Path, asked: argparse.Namespace, *, adapter: str = "lora", clock: Callable[[], float] = time.process_time, **options: Any) -> Trained:
    """TRL's trainer with its own defaults for everything that is not named here, or in ``options`` of its configuration."""
    from datasets import load_dataset  # type: ignore[import-untyped]  # ships no types
    from peft import LoraConfig
    from transformers import TrainerCallback
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    seen: list[tuple[float, float]] = []

    class Watch(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            if logs and "num_tokens" in logs:
                seen.append((clock(), logs["num_tokens"]))

    settings = SFTConfig(
        output_dir=str(folder / "out"),
        max_steps=asked.steps,
        per_device_train_batch_size=asked.micro_batch,
        gradient_accumulation_steps=asked.global_batch // asked.micro_batch,
        max_length=1024,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        **{"use_cpu": True, "bf16": False, **options},
    )
    rows = load_dataset("json", data_files=str(folder / "data/train.jsonl"), split="train", cache_dir=str(folder / "cache"))
    lora = LoraConfig(task_type="CAUSAL_LM", r=8, lora_alpha=16, target_modules="all-linear") if adapter != "full" else None
    trainer = SFTTrainer(model=str(folder / "model"), args=settings, train_dataset=rows, peft_config=lora)
    trainer.add_callback(Watch())
    trainer.train()
    (began, before), (ended, after) = seen[SKIPPED_STEPS - 1], seen[-1]
    return Trained(after - before, ended - began, len(seen) - SKIPPED_STEPS)


def with_dropforge(folder: Path, asked: argparse.Namespace, *, packing: bool, adapter: str = "lora", clock: Callable[[], float] = time.process_time) -> Trained:
    """``python -m trainer run`` in this process, by that clock."""
    from trainer.run import run_file
    from trainer.stop import StopSignal

    training = {"max_steps": asked.steps, "global_batch_size": asked.global_batch, "micro_batch_size": asked.micro_batch, "packing": packing}
    shape = {"type": adapter} if adapter == "full" else {"type": adapter, "r": 8, "alpha": 16, "dropout": 0.0}
    run = {"job_id": "packing", "model_reference": "local/model", "adapter": shape, "eval_fraction": 0, "training": training}
    run["checkpoint"] = {"interval": 10**6}  # none but the last, which is after the counted steps
    (folder / "run.json").write_text(json.dumps(run))
    code = run_file(folder / "run.json", lambda: datetime.now(UTC), clock, StopSignal())
    lines = [json.loads(line) for line in (folder / "progress.jsonl").read_text().splitlines()]
    if code:
        sys.exit(lines[-1]["message"])
    sys.stderr.write(next(line["message"] for line in lines if line["kind"] == "started") + "\n")
    tokens = [json.loads(line)["num_tokens"] for line in (folder / "final/metrics.jsonl").read_text().splitlines()]
    rates = [line["tokens_per_s"] for line in lines if line["kind"] == "step"]
    counts = [after - before for before, after in zip([0, *tokens], tokens, strict=False)]
    seconds = [count / rate for count, rate in zip(counts, rates, strict=True)]
    return Trained(sum(counts[SKIPPED_STEPS:]), sum(seconds[SKIPPED_STEPS:]), len(counts) - SKIPPED_STEPS)


def run_folder(base: Path, name: str) -> Path:
    """A run folder of its own below ``base``, with base's model and rows."""
    folder = base / name
    folder.mkdir()
    for shared in ("model", "data"):
        (folder / shared).symlink_to(base / shared)
    return folder


def one(variant: str, base: Path, asked: argparse.Namespace) -> float:
    """Tokens per CPU second of one variant, in a folder of its own below ``base``."""
    folder = run_folder(base, variant)
    found = with_trl(folder, asked) if variant == "trl" else with_dropforge(folder, asked, packing=variant == "packed")
    return found.tokens_per_s


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
