"""The final folder: weights, tokenizer, chat template, results, curves, model card. Proved to load, then published whole."""

import json
import math
import os
import shutil
import uuid
from pathlib import Path
from typing import Any

from jobspec.runfile import RunFile, TrainerResults
from jobspec.wire import dump
from trainer.card import LAST_STEPS, Measured, curve_of, model_card, plot_loss, write_tensorboard
from trainer.durable import sealed, sync_folder, write_durably
from trainer.gguf import GGUF_NAME, convert
from trainer.prepare import Prepared

RESULTS_NAME = "results.json"
MERGED_NAME = "merged"
#: Rows whose beginnings the load-back and the merge are compared on, and tokens of each.
PROBES = 8
PROBE_TOKENS = 32


def write_final(run: RunFile, root: Path, trainer: Any, data: Prepared, measured: Measured) -> tuple[TrainerResults, float]:
    """Write, prove and publish ``final_dir``; uses up ``trainer``. Returns the results and the load-back's largest logit difference."""
    from trainer.weights import check_loads_back, merge, save_weights, weights_sha256

    final = root / run.final_dir
    staging = final.parent / f".staging-{final.name}-{uuid.uuid4().hex}"
    remove_left_overs(final)
    try:
        staging.mkdir(parents=True)
        curve = curve_of(trainer.state.log_history)
        save_weights(run, trainer, staging, measured.dtype)
        data.tokenizer.save_pretrained(str(staging))
        probes = probes_of(data)
        difference = check_loads_back(run, trainer, staging, probes, exact=measured.dtype == "float32" and run.adapter.type != "qlora")
        merged = merge(run, root / run.model_dir, staging, MERGED_NAME, probes, data.tokenizer) if run.adapter.merge else None
        problem = convert(staging / MERGED_NAME, staging / GGUF_NAME) if run.adapter.gguf else ""
        results = _results(measured, curve, weights_sha256(staging), merged, problem)
        write_durably(staging / RESULTS_NAME, dump(results))
        write_durably(staging / "metrics.jsonl", "".join(json.dumps(entry) + "\n" for entry in curve).encode())
        write_tensorboard(curve, staging / "tensorboard")
        plot_loss(curve, measured, staging / "loss.png")
        write_durably(staging / "README.md", model_card(run, results, measured).encode())
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


def probes_of(data: Prepared) -> list[list[int]]:
    """The beginnings of a few rows, as token ids: what two models are compared on."""
    rows = data.train.select(range(min(PROBES, len(data.train))))
    written = [row.get("input_ids") or data.tokenizer(str(row.get("prompt") or row.get("chosen")))["input_ids"] for row in rows]
    return [ids[:PROBE_TOKENS] for ids in written]


def _results(measured: Measured, curve: list[dict[str, Any]], weights_sha256: str, merged: tuple[float, float] | None, gguf_problem: str) -> TrainerResults:
    last = [entry["loss"] for entry in curve if "loss" in entry][-LAST_STEPS:]
    train_loss = sum(last) / len(last) if last else None
    return TrainerResults(
        steps=measured.steps,
        first_step=measured.first_step,
        train_loss=train_loss if train_loss is not None and math.isfinite(train_loss) else None,
        eval_loss_before=measured.before.loss,
        eval_loss_after=measured.after.loss,
        tokens=measured.tokens,
        data_sha256=measured.data_sha256,
        model_sha256=measured.model_sha256,
        weights_sha256=weights_sha256,
        eval_metrics_before=measured.before.metrics,
        eval_metrics_after=measured.after.metrics,
        best_step=measured.best_step,
        stopped_early=measured.stopped_early,
        merged_logit_difference=merged[0] if merged else None,
        merged_largest_logit=merged[1] if merged else None,
        gguf_problem=gguf_problem,
    )
