"""Training beside TRL: ``python -m bench.training`` on the CPU, ``--gpu`` on one GPU. Steps and tokens a second, and the share of the peak.

The same model (from a config, random weights), rows of mixed lengths, global batch and micro-batch; each variant in a process of its own:
TRL's SFTTrainer as it comes, the same with Liger's kernels where they are installed, and Dropforge, packed as it is by default. LoRA and full on
the CPU, one thread, by CPU seconds; LoRA, QLoRA and full of 1B and 8B shapes (Llama 3's) in bfloat16 on the GPU, by wall seconds.

MFU is model FLOP utilisation (Chowdhery et al. 2022, "PaLM", appendix B): the rows' own tokens a second, times the plan's FLOP for a token
(``planning.speed.flops_per_token``: 2 for each parameter and pass, and attention; no gradients of frozen weights, nothing recomputed), over the
peak. The peak: NVIDIA's data sheet (``planning.hardware``) for a GPU that it names, else what a product of two large matrices reaches here.
Padding is no work. Published rows to set it beside: docs/benchmarks.md, "Training".
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench import machine
from bench.packing import SKIPPED_STEPS, Trained, make_model, run_folder, with_dropforge, with_trl, write_rows
from jobspec.manifest import Manifest
from planning.hardware import GPUS
from planning.shape import shape_of
from planning.speed import flops_per_token
from planning.workload import Workload

ROOT = Path(__file__).resolve().parents[1]
VARIANTS = ("trl", "trl+liger", "dropforge")
#: Llama 3.2 1B's and Llama 3.1 8B's configurations.
SHAPES: dict[str, dict[str, Any]] = {
    "1B": {"hidden": 2048, "layers": 16, "intermediate_size": 8192, "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256},
    "8B": {"hidden": 4096, "layers": 32, "intermediate_size": 14336, "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256},
}
NO_GPU = "bench.training --gpu needs an NVIDIA GPU that torch can use, and there is none here: leave --gpu out for the CPU's form."


def variants() -> tuple[str, ...]:
    """Those that can run here."""
    return tuple(name for name in VARIANTS if name != "trl+liger" or find_spec("liger_kernel") is not None)


def one(variant: str, folder: Path, asked: argparse.Namespace) -> dict[str, float]:
    """A run in this process: its counted steps, and the most GPU memory that it held, in GiB."""
    clock = time.monotonic if asked.gpu else time.process_time
    if variant == "dropforge":
        found = with_dropforge(folder, asked, packing=True, adapter=asked.adapter, clock=clock)
    else:
        found = with_trl(folder, asked, adapter=asked.adapter, clock=clock, **_trl_options(variant, asked))
    return {**asdict(found), "memory_gib": _memory_gib() if asked.gpu else 0.0}


def _trl_options(variant: str, asked: argparse.Namespace) -> dict[str, Any]:
    options: dict[str, Any] = {"use_liger_kernel": True} if variant == "trl+liger" else {}
    if asked.gpu:
        import torch
        from transformers import BitsAndBytesConfig

        options |= {"use_cpu": False, "bf16": True, "model_init_kwargs": {"dtype": torch.float32 if asked.adapter == "full" else torch.bfloat16}}
        if asked.adapter == "qlora":
            make: Any = BitsAndBytesConfig
            options["model_init_kwargs"]["quantization_config"] = make(
                load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=torch.bfloat16
            )
    return options


def _memory_gib() -> float:
    import torch

    return torch.cuda.max_memory_allocated() / 1024**3


def peak_flops(gpu: bool) -> tuple[float, str]:
    """FLOP/s, and where the figure is from."""
    import torch

    if gpu:
        name = torch.cuda.get_device_name()
        known = next((GPUS[key] for key in sorted(GPUS, key=len, reverse=True) if key in name), None)
        if known is not None:
            return known.tflops_16 * 1e12, f"{name}, data sheet"
    size, dtype = (8192, torch.bfloat16) if gpu else (1024, torch.float32)
    left = torch.ones(size, size, dtype=dtype, device="cuda" if gpu else "cpu")
    rates = []
    for _ in range(5):
        began = time.monotonic() if gpu else time.process_time()
        left @ left
        if gpu:
            torch.cuda.synchronize()
        rates.append(2 * size**3 / ((time.monotonic() if gpu else time.process_time()) - began))
    return max(rates), f"best of five products of {size} x {size} matrices here"


def mfu(found: Trained, config: Any, adapter: str, length: float, peak: float) -> float:
    """Model FLOP utilisation, 0 to 1; ``length``: mean tokens of a row."""
    manifest = Manifest.model_validate(
        {
            "name": "bench",
            "model": {"s3": "models/m"},
            "data": {"train": "data/t.jsonl"},
            "adapter": {"type": adapter},
            "training": {"max_length": max(16, round(length)), "max_steps": 1, "gradient_checkpointing": False},
            "compute": {"instance_types": ["g5.xlarge"]},
        }
    )
    return found.tokens_per_s * flops_per_token(shape_of(config), Workload.of(manifest)) / peak


def row(where: str, variant: str, runs: list[dict[str, float]], base: list[dict[str, float]], shares: list[float]) -> str:
    """A line of the table: medians with the least and the most over the repeats."""
    tokens, steps = ([one[name] / one["seconds"] for one in runs] for name in ("tokens", "steps"))
    ratio = statistics.median(tokens) / statistics.median(one["tokens"] / one["seconds"] for one in base)
    memory = f"{max(one['memory_gib'] for one in runs):.1f} GiB" if runs[0]["memory_gib"] else "-"
    share = machine.spread((100 * one for one in shares), 1)
    return f"| {where}, {variant} | {machine.spread(steps, 3)} | {machine.spread(tokens, 0)} | {ratio:.2f} | {share} % | {memory} |"


def measured(variant: str, base: Path, number: int, asked: argparse.Namespace, adapter: str) -> dict[str, float]:
    """One run in a process of its own. Raises SystemExit with the end of what it said where it fails."""
    folder = run_folder(base, f"{adapter}-{variant}-{number}")
    command = [sys.executable, "-W", "ignore", "-m", "bench.training", "--one", variant, "--folder", str(folder), "--adapter", adapter]
    command += [f"--{name.replace('_', '-')}={getattr(asked, name)}" for name in ("steps", "global_batch", "micro_batch")] + (["--gpu"] if asked.gpu else [])
    threads = {} if asked.gpu else {"OMP_NUM_THREADS": "1"}
    path = os.pathsep.join([str(ROOT), str(ROOT / "functions")])
    environment = {**os.environ, **threads, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)  # noqa: S603 - this script itself
    if done.returncode:
        sys.exit(f"{variant}, {adapter}: failed, nothing is reported:\n{done.stderr[-3000:]}")
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def compare(base: Path, where: str, adapter: str, asked: argparse.Namespace, peak: float) -> None:
    """Prints a line for each variant."""
    config = json.loads((base / "model/config.json").read_text())
    runs = {variant: [measured(variant, base, number, asked, adapter) for number in range(asked.times)] for variant in variants()}
    for variant, found in runs.items():
        trained = [Trained(one["tokens"], one["seconds"], int(one["steps"])) for one in found]
        shares = [mfu(one, config, adapter, one.tokens / one.steps / asked.global_batch, peak) for one in trained]
        sys.stdout.write(row(f"{where} {adapter}", variant, found, runs["trl"], shares) + "\n")
        sys.stdout.flush()


def _refuse_without_gpu() -> None:
    import torch

    if not torch.cuda.is_available():
        sys.exit(NO_GPU)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8, help=f"the first {SKIPPED_STEPS} are not counted")
    parser.add_argument("--global-batch", type=int, default=32)
    parser.add_argument("--micro-batch", type=int, default=8)
    parser.add_argument("--hidden", type=int, default=384)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--longest-words", type=int, default=150)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES), help="of --gpu")
    parser.add_argument("--adapters", nargs="+", choices=("lora", "qlora", "full"), help="default: lora full, with --gpu qlora too")
    for name in ("--one", "--folder", "--adapter"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.gpu:
        _refuse_without_gpu()
    if asked.one:
        sys.stdout.write(json.dumps(one(asked.one, Path(asked.folder), asked)) + "\n")
        return 0
    peak, source = peak_flops(asked.gpu)
    absent = sorted(set(VARIANTS) - set(variants()))
    sys.stdout.write(f"{machine.told('torch', 'transformers', 'trl', 'peft', 'liger-kernel')}\n{peak / 1e12:.2f} TFLOP/s: {source}\n")
    sys.stdout.write(f"{asked.times} runs of {asked.steps - SKIPPED_STEPS} counted steps; not here, so not compared: {', '.join(absent) or 'none'}\n\n")
    sys.stdout.write("| model, variant | steps/s | tokens/s | by TRL | MFU | GPU memory |\n|---|---|---|---|---|---|\n")
    adapters = asked.adapters or (["lora", "qlora", "full"] if asked.gpu else ["lora", "full"])
    shapes = {name: {**SHAPES[name], "dtype": "bfloat16"} for name in asked.shapes} if asked.gpu else {"made": {"hidden": asked.hidden, "layers": asked.layers}}
    for name, facts in shapes.items():
        with tempfile.TemporaryDirectory(prefix="bench-training-") as folder:
            base = Path(folder)
            make_model(base / "model", **facts)
            write_rows(base / "data/train.jsonl", asked.steps * asked.global_batch, asked.longest_words)
            for adapter in adapters:
                if (name, adapter) != ("8B", "full"):  # 128 GB of states: no one GPU of those that are offered
                    compare(base, name, adapter, asked, peak)
    return 0


if __name__ == "__main__":
    sys.exit(main())
