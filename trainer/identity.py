"""What a run is a run of: the digests and settings that decide every step it takes."""

import json
from importlib.metadata import version
from pathlib import Path

from jobspec.checkpoint import Identity
from jobspec.methods import options_of
from jobspec.runfile import RunFile
from trainer.base_model import folder_sha256
from trainer.start import start_sha256
from trainer.stop import StopSignal

LIBRARIES = ("torch", "transformers", "trl", "peft", "accelerate", "tokenizers")
#: Settings of ``training`` that change what is reported or refused, not the steps that are taken.
_FREE = {"logging_steps", "max_truncated_fraction"}


def identity_of(run: RunFile, root: Path, data_sha256: str, stop: StopSignal) -> Identity:
    """The identity of a run; reads all of the model once."""
    settings: dict[str, str | int | float | bool | None] = {
        "method": run.method,
        "data.format": run.data_format,
        "data.columns": json.dumps(run.columns.named(), sort_keys=True),
        "data.eval_fraction": None if run.eval_sources() else run.eval_fraction,
    }
    options = options_of(run)
    sections = {
        "adapter": run.adapter.model_dump(mode="json", exclude={"merge", "gguf"}),
        "training": run.training.model_dump(mode="json", exclude=_FREE),
        "evaluation": run.evaluation.model_dump(mode="json"),
        run.method: options.model_dump(mode="json") if options is not None else {},
    }
    for section, values in sections.items():
        for key, value in values.items():
            settings[f"{section}.{key}"] = json.dumps(value) if isinstance(value, list) else value
    model_sha256 = folder_sha256(root / run.model_dir, stop)
    if (start := start_sha256(run, root, model_sha256)) is not None:
        settings["start.weights_sha256"] = start
    return Identity(
        model_sha256=model_sha256,
        data_sha256=data_sha256,
        settings=settings,
        libraries={name: version(name) for name in LIBRARIES},
        world_size=run.ranks,
    )
