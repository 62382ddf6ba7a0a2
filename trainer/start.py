"""Going on with a finished adapter (``after`` in the manifest): the files of ``start_dir``, and the model with that adapter on it.

The adapter's shape comes from the run file, as for a new one; only weights are taken from the files. Where a method compares with a
reference, TRL then takes a copy of the adapter as it was at the start (dpo and kto; grpo with a beta): the model that was gone on with.
"""

from pathlib import Path
from typing import Any

from jobspec.marker import FailureCode
from jobspec.runfile import RunFile, TrainerResults
from jobspec.wire import UnreadableDocument, load
from trainer.digests import file_sha256
from trainer.failures import TrainerFailure

WEIGHTS, RESULTS = "adapter_model.safetensors", "results.json"


def start_sha256(run: RunFile, root: Path, model_sha256: str) -> str | None:
    """The digest of the adapter to go on with, None where a new one is begun. Raises TrainerFailure (model_missing, model_invalid)."""
    if run.start_dir is None:
        return None
    folder = root / run.start_dir
    try:
        results = load(TrainerResults, (folder / RESULTS).read_bytes())
    except OSError:
        raise TrainerFailure(FailureCode.MODEL_MISSING, f"the adapter of {run.start_reference} is not in {run.start_dir}/ (no {RESULTS})") from None
    except UnreadableDocument as error:
        raise TrainerFailure(FailureCode.MODEL_INVALID, f"the adapter of {run.start_reference} has unreadable results: {error}") from None
    if results.model_sha256 != model_sha256:
        raise TrainerFailure(
            FailureCode.MODEL_INVALID,
            f"the adapter of {run.start_reference} was trained on another base model (sha256 {results.model_sha256[:12]}) than this one "
            f"({model_sha256[:12]}): name the same model, unchanged.",
        )
    if not (folder / WEIGHTS).is_file() or (found := file_sha256(folder / WEIGHTS)) != results.weights_sha256:
        raise TrainerFailure(FailureCode.MODEL_INVALID, f"the adapter of {run.start_reference} is not whole: {WEIGHTS} is not what its {RESULTS} says")
    return found


def gone_on(run: RunFile, root: Path, model: Any, config: Any) -> Any:
    """``model`` with the adapter of ``start_dir`` on it, all of it to be trained. Raises TrainerFailure (model_invalid) where it does not fit."""
    from peft import get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
    from safetensors.torch import load_file

    assert run.start_dir is not None
    adapted = get_peft_model(model, config)
    weights = load_file(root / run.start_dir / WEIGHTS)
    wanted = {name: tensor.shape for name, tensor in get_peft_model_state_dict(adapted).items()}
    if odd := sorted(name for name in wanted.keys() | weights.keys() if name not in weights or wanted.get(name) != weights[name].shape):
        raise TrainerFailure(
            FailureCode.MODEL_INVALID,
            f"the adapter of {run.start_reference} has another shape than this job's: {len(odd)} tensors differ, such as {odd[0]}. "
            "r, target_modules, rslora and dora must be its own.",
        )
    set_peft_model_state_dict(adapted, weights)
    return adapted
