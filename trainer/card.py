"""What a person sees of a finished run: the model card, the loss curve as a picture, the curve for TensorBoard."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobspec.methods import options_of
from jobspec.runfile import RunFile, TrainerResults
from trainer.checkpoints import Measurement
from trainer.gguf import GGUF_NAME
from trainer.report import CLOSE, OPEN

#: Losses of this many last steps make the results' ``train_loss``: one step alone is noise.
LAST_STEPS = 10
#: Of what transformers and TRL log: times and rates, which differ between two runs that took the same steps.
_NOT_KEPT = ("step_time", "train_runtime", "train_samples_per_second", "train_steps_per_second", "train_tokens_per_second", "total_flos")
_METHODS = {
    "sft": "supervised fine-tuning",
    "dpo": "direct preference optimization (DPO)",
    "kto": "Kahneman-Tversky optimization (KTO)",
    "orpo": "odds-ratio preference optimization (ORPO)",
    "reward": "reward modelling",
    "grpo": "group relative policy optimization (GRPO)",
}


@dataclass(frozen=True, slots=True)
class Measured:
    """What the run measured. ``best_step``: the step whose weights were taken, where that was not the last one."""

    steps: int
    first_step: int
    best_step: int | None
    tokens: int
    before: Measurement
    after: Measurement
    data_sha256: str
    model_sha256: str
    data_report: str
    samples: tuple[str, ...]
    dtype: str
    micro_batch_size: int
    stopped_early: bool


def curve_of(log_history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One entry for each step of the whole run and one for each evaluation, in order of steps, interruptions or not."""
    kept = [entry for entry in log_history if "loss" in entry or any(key.startswith("eval_") for key in entry)]
    # An evaluation may have been made up for after a resume; it stands behind its step all the same.
    kept.sort(key=lambda entry: (entry["step"], "loss" not in entry))
    # Keys in one order: transformers writes its state sorted, so that a resume would bring another one.
    keys = [["step", *sorted(key for key in entry if key not in ("step", *_NOT_KEPT) and _is_plain(entry[key]))] for entry in kept]
    return [{key: entry[key] for key in named} for entry, named in zip(kept, keys, strict=True)]


def _is_plain(value: Any) -> bool:
    return isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))


def write_tensorboard(curve: list[dict[str, Any]], folder: Path) -> None:
    """The whole run as one TensorBoard run: ``train/NAME`` and ``eval/NAME`` by step, however many attempts it took."""
    from tensorboardX import SummaryWriter  # type: ignore[import-untyped]  # ships no types

    with SummaryWriter(str(folder)) as writer:
        for entry in curve:
            for key, value in entry.items():
                if key != "step":
                    name = f"eval/{key.removeprefix('eval_')}" if key.startswith("eval_") else f"train/{key}"
                    writer.add_scalar(name, value, entry["step"])


def plot_loss(curve: list[dict[str, Any]], measured: Measured, path: Path) -> None:
    """The loss curve with the held-out losses, as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.0), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    trained = [entry for entry in curve if "loss" in entry]
    steps, losses = [entry["step"] for entry in trained], [entry["loss"] for entry in trained]
    axes.plot(steps, losses, color="#2563eb", linewidth=1.6, marker="." if len(steps) <= 60 else "", label="training, each step")
    during = [(entry["step"], entry["eval_loss"]) for entry in curve if "eval_loss" in entry]
    held_out = [(0, measured.before.loss), *during, (measured.best_step or measured.steps, measured.after.loss)]
    points = [(step, loss) for step, loss in held_out if loss is not None]
    if points:
        axes.plot([step for step, _ in points], [loss for _, loss in points], color="#ea580c", linestyle="", marker="o", label="held out")
    for step, loss in points[:1] + points[-1:]:
        axes.annotate(f"{loss:.3f}", (step, loss), textcoords="offset points", xytext=(0, 7), ha="center", fontsize=9)
    axes.set(xlabel="step", ylabel="loss", title="Loss")
    axes.locator_params(axis="x", integer=True)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, metadata={"Software": None})


def model_card(run: RunFile, results: TrainerResults, measured: Measured) -> str:
    """A short README.md: what it was made of, how, and what was measured."""
    reference, _, revision = run.model_reference.partition("@")
    front = f"base_model: {reference}\n" if revision else ""
    library = "transformers" if run.adapter.type == "full" else "peft"
    tags = ", ".join([run.adapter.type, run.method])
    return f"""---
{front}library_name: {library}
tags: [{tags}]
---
# {run.job_id}

{_what(run)} `{reference}`{f" at revision `{revision}`" if revision else ""}, by {_METHODS[run.method]}.

## Use

```python
{_use(run, reference, revision)}
```
{_merged(run, results)}
## Measured

| | |
|---|---|
{_measurements(results, measured)}

{_loss_meaning(run)} The whole curve: `metrics.jsonl`, `loss.png`, and for TensorBoard `tensorboard/`.

## Data

{measured.data_report}.

Rows as the model saw them; what is between {OPEN} and {CLOSE} carried loss:

{_quoted(measured.samples)}

| | sha256 |
|---|---|
| data | `{results.data_sha256}` |
| base model | `{results.model_sha256}` |
| weights | `{results.weights_sha256}` |

## Settings

| | |
|---|---|
{_settings(run, measured)}

What the run cost is known only once its instances are gone: the job's receipt has it, in the stack's data bucket under
`receipts/MONTH/{run.job_id}.json`, in `dropforge status`, and in the e-mail at its end.
"""


def _what(run: RunFile) -> str:
    if run.adapter.type == "full":
        return "Every weight trained, from"
    kind = "".join([" rsLoRA" if run.adapter.rslora else "", " DoRA" if run.adapter.dora else ""]) or " LoRA"
    on_four_bits = ", learned on a 4-bit (nf4) base," if run.adapter.type == "qlora" else ""
    targets = run.adapter.target_modules
    layers = "every linear layer" if isinstance(targets, str) else ", ".join(targets)
    return f"A{kind} adapter (r {run.adapter.r}, alpha {run.adapter.alpha}, on {layers}){on_four_bits} for"


def _use(run: RunFile, reference: str, revision: str) -> str:
    reward = run.method == "reward"
    auto, more = ("AutoModelForSequenceClassification", ", num_labels=1") if reward else ("AutoModelForCausalLM", "")
    tokenizer = 'tokenizer = AutoTokenizer.from_pretrained("this folder")'
    imports = f"from transformers import {auto}, AutoTokenizer\n\n"
    if run.adapter.type == "full":
        return f'{imports}model = {auto}.from_pretrained("this folder"{more})\n{tokenizer}'
    pinned = f", revision={revision!r}" if revision else ""
    base = f"base = {auto}.from_pretrained({reference!r}{pinned}{more})"
    return f'from peft import PeftModel\n{imports}{base}\nmodel = PeftModel.from_pretrained(base, "this folder")\n{tokenizer}'


def _merged(run: RunFile, results: TrainerResults) -> str:
    if results.merged_logit_difference is None:
        return ""
    return (
        "\n`merged/` holds the adapter merged into the 16-bit base, ready to serve (`vllm serve this-folder/merged`). Its logits on 8 prompts differ "
        f"from the adapter's by {results.merged_logit_difference:.3g} at most (largest logit there: {results.merged_largest_logit or 0:.3g}).\n"
        + _gguf(run, results)
    )


def _gguf(run: RunFile, results: TrainerResults) -> str:
    if not run.adapter.gguf:
        return ""
    if results.gguf_problem:
        return f"\nThere is no GGUF file of it: {results.gguf_problem}\n"
    return f"\n`{GGUF_NAME}` is the merged model for llama.cpp (`llama-cli -m {GGUF_NAME}`).\n"


def _measurements(results: TrainerResults, measured: Measured) -> str:
    rows: list[tuple[str, Any]] = [("held-out loss before", _number(measured.before.loss)), ("held-out loss after", _number(measured.after.loss))]
    for name, value in measured.after.metrics.items():
        rows.append((f"held-out {name} before and after", f"{_number(measured.before.metrics.get(name))}, {_number(value)}"))
    rows.append((f"training loss, mean of the last {LAST_STEPS} steps", _number(results.train_loss)))
    rows.append(("steps", f"{results.steps}{', stopped early' if measured.stopped_early else ''}"))
    if measured.best_step is not None:
        rows.append(("weights of step", measured.best_step))
    rows.append(("tokens read", results.tokens))
    return "\n".join(f"| {name} | {value} |" for name, value in rows)


def _loss_meaning(run: RunFile) -> str:
    if run.method == "sft":
        return "Losses are mean cross-entropy per supervised token (nats)."
    if run.method == "grpo":
        return "GRPO's loss says little; look at the reward."
    return f"The loss is {run.method}'s own, a mean over rows."


def _settings(run: RunFile, measured: Measured) -> str:
    settings: dict[str, Any] = run.training.model_dump(mode="json", exclude={"max_truncated_fraction", "logging_steps"})
    settings |= {"dtype": measured.dtype, "micro_batch_size": measured.micro_batch_size}
    options = options_of(run)
    settings |= {f"{run.method}.{key}": value for key, value in (options.model_dump(mode="json", exclude_none=True) if options else {}).items()}
    return "\n".join(f"| {key} | {value} |" for key, value in settings.items() if value is not None)


def _quoted(samples: tuple[str, ...]) -> str:
    """As code blocks of indented lines: no text of a row can end one."""
    return "\n\n".join("".join(f"    {line}\n" for line in sample.splitlines()).rstrip("\n") for sample in samples)


def _number(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.4f}"
