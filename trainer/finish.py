"""The final folder: adapter, tokenizer, chat template, results, loss curve, model card. Proved to load, then published whole."""

import json
import math
import os
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobspec.marker import FailureCode
from jobspec.runfile import RunFile, TrainerResults
from jobspec.wire import dump
from trainer.base_model import file_sha256
from trainer.checkpoints import sealed, sync_folder, write_durably
from trainer.failures import TrainerFailure
from trainer.report import CLOSE, OPEN

RESULTS_NAME = "results.json"
ADAPTER_NAME = "adapter_model.safetensors"
#: Losses of this many last steps make the results' ``train_loss``: one step alone is noise.
LAST_STEPS = 10
PROBE_TOKENS = 32
_CURVE_KEYS = ("step", "epoch", "loss", "learning_rate", "grad_norm", "mean_token_accuracy", "num_tokens")


@dataclass(frozen=True, slots=True)
class Measured:
    """What the run measured; losses in nats for each supervised token."""

    steps: int
    first_step: int
    tokens: int
    eval_loss_before: float | None
    eval_loss_after: float | None
    data_sha256: str
    model_sha256: str
    data_report: str
    samples: tuple[str, ...]
    dtype: str


def curve_of(log_history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One entry for each step of the whole run, interruptions or not."""
    return [{key: entry[key] for key in _CURVE_KEYS if key in entry} for entry in log_history if "loss" in entry]


def write_final(run: RunFile, root: Path, trainer: Any, tokenizer: Any, probe: list[int], measured: Measured) -> tuple[TrainerResults, float]:
    """Write, prove and publish ``final_dir``. Returns the results and the load-back's largest logit difference."""
    final = root / run.final_dir
    staging = final.parent / f".staging-{final.name}-{uuid.uuid4().hex}"
    remove_left_overs(final)
    try:
        staging.mkdir(parents=True)
        curve = curve_of(trainer.state.log_history)
        trainer.model.save_pretrained(str(staging), safe_serialization=True)
        tokenizer.save_pretrained(str(staging))
        results = _results(measured, curve, file_sha256(staging / ADAPTER_NAME))
        write_durably(staging / RESULTS_NAME, dump(results))
        write_durably(staging / "metrics.jsonl", "".join(json.dumps(entry) + "\n" for entry in curve).encode())
        plot_loss(curve, results, staging / "loss.png")
        write_durably(staging / "README.md", model_card(run, results, measured).encode())
        difference = check_loads_back(trainer, staging, probe, exact=measured.dtype == "float32")
        sealed(staging)
        sync_folder(staging)
        os.rename(staging, final)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    sync_folder(final.parent)
    return results, difference


def remove_left_overs(final: Path) -> None:
    """Remove what a writer that was ended in the middle left beside the final folder."""
    for left in final.parent.glob(f".staging-{final.name}-*"):
        shutil.rmtree(left)


def _results(measured: Measured, curve: list[dict[str, Any]], adapter_sha256: str) -> TrainerResults:
    last = [entry["loss"] for entry in curve[-LAST_STEPS:]]
    train_loss = sum(last) / len(last) if last else None
    return TrainerResults(
        steps=measured.steps,
        first_step=measured.first_step,
        train_loss=train_loss if train_loss is not None and math.isfinite(train_loss) else None,
        eval_loss_before=measured.eval_loss_before,
        eval_loss_after=measured.eval_loss_after,
        tokens=measured.tokens,
        data_sha256=measured.data_sha256,
        model_sha256=measured.model_sha256,
        adapter_sha256=adapter_sha256,
    )


def check_loads_back(trainer: Any, folder: Path, probe: list[int], *, exact: bool) -> float:
    """Load the adapter with plain peft and compare it with the model in memory: its tensors and its logits.

    Uses up ``trainer.model``: its adapter is taken off and the base weights, which were never trained, serve again.
    Returns the largest difference of a logit. Raises TrainerFailure (trainer_error) where they disagree.
    """
    import torch
    from peft import PeftModel, get_peft_model_state_dict

    trained = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False).eval()
    ids = torch.tensor([probe], device=trained.device)
    with torch.no_grad():
        expected = trained(input_ids=ids).logits.float()
    weights = {name: tensor.clone() for name, tensor in get_peft_model_state_dict(trained).items()}
    loaded = PeftModel.from_pretrained(trained.unload(), str(folder)).eval()
    read = get_peft_model_state_dict(loaded)
    with torch.no_grad():
        found = loaded(input_ids=ids).logits.float()
    difference = float((found - expected).abs().max())
    allowed = (1e-5 if exact else 1e-2) * float(expected.abs().max())
    same_weights = weights.keys() == read.keys() and all(torch.equal(tensor.cpu(), read[name].cpu()) for name, tensor in weights.items())
    if not same_weights or not difference <= allowed:
        what = f"its logits differ by {difference:.3g}" if same_weights else "its weights differ"
        raise TrainerFailure(FailureCode.TRAINER_ERROR, f"the finished adapter does not load back as it was trained: {what}. Nothing was published.")
    return difference


def plot_loss(curve: list[dict[str, Any]], results: TrainerResults, path: Path) -> None:
    """The loss curve with the held-out losses at both ends, as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.0), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    steps, losses = [entry["step"] for entry in curve], [entry["loss"] for entry in curve]
    axes.plot(steps, losses, color="#2563eb", linewidth=1.6, marker="." if len(steps) <= 60 else "", label="training, each step")
    held_out = [(0, results.eval_loss_before), (results.steps, results.eval_loss_after)]
    points = [(step, loss) for step, loss in held_out if loss is not None]
    if points:
        axes.plot([step for step, _ in points], [loss for _, loss in points], color="#ea580c", linestyle="", marker="o", label="held out, before and after")
    for step, loss in points:
        axes.annotate(f"{loss:.3f}", (step, loss), textcoords="offset points", xytext=(0, 7), ha="center", fontsize=9)
    axes.set(xlabel="step", ylabel="loss (nats per token)", title="Loss")
    axes.locator_params(axis="x", integer=True)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, metadata={"Software": None})


def model_card(run: RunFile, results: TrainerResults, measured: Measured) -> str:
    """A short README.md: what it was made of, how, and what was measured."""
    reference, _, revision = run.model_reference.partition("@")
    settings = {**run.training.model_dump(mode="json", exclude={"max_truncated_fraction", "logging_steps"}), "dtype": measured.dtype}
    table = "\n".join(f"| {key} | {value} |" for key, value in settings.items() if value is not None)
    pinned = f", revision={revision!r}" if revision else ""
    front = f"base_model: {reference}\n" if revision else ""
    return f"""---
{front}library_name: peft
tags: [lora, sft]
---
# {run.job_id}

A LoRA adapter (r {run.adapter.r}, alpha {run.adapter.alpha}, on {_targets(run)}) for `{reference}`{f" at revision `{revision}`" if revision else ""}.

## Use

```python
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

base = AutoModelForCausalLM.from_pretrained({reference!r}{pinned})
model = PeftModel.from_pretrained(base, "this folder")
tokenizer = AutoTokenizer.from_pretrained("this folder")
```

## Measured

| | |
|---|---|
| held-out loss before | {_number(results.eval_loss_before)} |
| held-out loss after | {_number(results.eval_loss_after)} |
| training loss, mean of the last {LAST_STEPS} steps | {_number(results.train_loss)} |
| steps | {results.steps} |
| tokens read | {results.tokens} |

Losses are mean cross-entropy per supervised token (nats). The whole curve: `metrics.jsonl`, `loss.png`.

## Data

{measured.data_report}.

Rows as the model saw them; what is between {OPEN} and {CLOSE} carried loss:

{_quoted(measured.samples)}

| | sha256 |
|---|---|
| data | `{results.data_sha256}` |
| base model | `{results.model_sha256}` |
| `{ADAPTER_NAME}` | `{results.adapter_sha256}` |

## Settings

| | |
|---|---|
{table}
"""


def _targets(run: RunFile) -> str:
    targets = run.adapter.target_modules
    return "every linear layer" if isinstance(targets, str) else ", ".join(targets)


def _quoted(samples: tuple[str, ...]) -> str:
    """As code blocks of indented lines: no text of a row can end one."""
    return "\n\n".join("".join(f"    {line}\n" for line in sample.splitlines()).rstrip("\n") for sample in samples)


def _number(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.4f}"
