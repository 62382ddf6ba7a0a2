"""The trained weights as files: saved, proved to load back, and merged into the base where that is asked for.

Imports torch at its top: import this file inside a function.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model_state_dict
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from jobspec.marker import FailureCode
from jobspec.runfile import RunFile
from trainer.digests import file_sha256
from trainer.failures import TrainerFailure
from trainer.gathered import whole_weights


def save_weights(run: RunFile, trainer: Any, folder: Path, dtype: str) -> None:
    """The adapter in float32, or every weight in the precision that the run computed in, as safetensors."""
    model = _bare(trainer)
    if run.adapter.type == "full":
        model.to(getattr(torch, dtype))
    # A reference that it was compared with is no part of the result.
    one = {"selected_adapters": ["default"]} if isinstance(model, PeftModel) else {}
    model.save_pretrained(str(folder), **one)


def unsharded(run: RunFile, base: Path, model: Any) -> Any:
    """A sharded model whole, on rank 0's CPU in float32, to be written and tried; None on the others. Every rank must ask."""
    weights = whole_weights(model)
    if not weights:
        return None
    whole = _from_folder(run, base, torch.float32)
    whole.load_state_dict(weights, strict=False)  # a tied output has no entry of its own
    return whole


def weights_sha256(folder: Path) -> str:
    """The digest of the one weights file; of several, the digest of their digests in order of names."""
    files = sorted(folder.glob("*.safetensors"))
    digests = [file_sha256(path) for path in files]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def check_loads_back(run: RunFile, trainer: Any, folder: Path, probes: list[list[int]], *, exact: bool) -> float:
    """Load the weights with plain peft or transformers and compare them with the model in memory: tensors and logits.

    Uses up the trainer: its optimizer is let go, its adapter taken off; the base weights, which were never trained, serve again.
    Returns the largest difference of a logit. Raises TrainerFailure (trainer_error) where they disagree.
    """
    trained = _bare(trainer).eval()
    trainer.optimizer = trainer.lr_scheduler = None
    trainer.accelerator.free_memory()
    expected = logits_of(trained, probes)
    weights = _weights(trained)
    loaded = _loaded(run, trained, folder)
    read = _weights(loaded)
    difference = max(float((found - known).abs().max()) for found, known in zip(logits_of(loaded, probes), expected, strict=True))
    allowed = (1e-5 if exact else 1e-2) * max(float(known.abs().max()) for known in expected)
    same = weights.keys() == read.keys() and all(torch.equal(tensor, read[name]) for name, tensor in weights.items())
    if not same or not difference <= allowed:
        what = f"its logits differ by {difference:.3g}" if same else "its weights differ"
        raise TrainerFailure(FailureCode.TRAINER_ERROR, f"the finished model does not load back as it was trained: {what}. Nothing was published.")
    return difference


def _bare(trainer: Any) -> Any:
    """The model without what mixed precision wrapped around it."""
    return trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)


def _weights(model: Any) -> dict[str, Any]:
    """What was trained, on the CPU: the adapter's tensors, or the model's."""
    tensors = get_peft_model_state_dict(model) if isinstance(model, PeftModel) else model.state_dict()
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}


def _loaded(run: RunFile, trained: Any, folder: Path) -> Any:
    if run.adapter.type != "full":
        return PeftModel.from_pretrained(trained.unload(), str(folder)).eval()
    return _from_folder(run, folder, trained.dtype).to(trained.device).eval()


def _from_folder(run: RunFile, folder: Path, dtype: Any) -> Any:
    make: Any = AutoModelForSequenceClassification if run.method == "reward" else AutoModelForCausalLM
    more = {"num_labels": 1} if run.method == "reward" else {}
    return make.from_pretrained(str(folder), dtype=dtype, use_safetensors=True, trust_remote_code=False, local_files_only=True, **more)


def logits_of(model: Any, probes: list[list[int]]) -> list[Any]:
    """The logits of each probe, alone in its batch, in float32 on the CPU."""
    with torch.no_grad():
        return [model(input_ids=torch.tensor([probe], device=model.device)).logits.float().cpu() for probe in probes]


def merge(run: RunFile, base: Path, folder: Path, name: str, probes: list[list[int]], tokenizer: Any) -> tuple[float, float]:
    """Merge the adapter of ``folder`` into the base and write ``folder/name``: a plain model with its tokenizer.

    On the CPU and on the base as it was published (16 bits for nearly all), never on qlora's 4-bit copy: merging into that
    would bake its rounding in (peft issues 2321, 1043). Returns the largest difference between the logits of adapter and merged
    model, and the largest logit, to judge it by.
    """
    published = _published_dtype(base)
    adapted = PeftModel.from_pretrained(_from_folder(run, base, published), str(folder)).eval()
    before = logits_of(adapted, probes)
    merged = adapted.merge_and_unload(safe_merge=True).eval()  # safe: refuses an adapter with NaN in it
    after = logits_of(merged, probes)
    merged.save_pretrained(str(folder / name))
    tokenizer.save_pretrained(str(folder / name))
    difference = max(float((one - other).abs().max()) for one, other in zip(after, before, strict=True))
    return difference, max(float(one.abs().max()) for one in before)


def _published_dtype(base: Path) -> Any:
    """The precision that the base model's configuration names; bfloat16 where it names none."""
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    named = config.get("dtype") or config.get("torch_dtype") or "bfloat16"
    found = getattr(torch, str(named).removeprefix("torch."), None)
    return found if isinstance(found, torch.dtype) else torch.bfloat16
