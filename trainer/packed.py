"""Packed rows under TRL's SFTTrainer: its loader of training rows, and the proof that no row sees its neighbours.

Rows on one line are kept apart by their position ids, which begin anew with each: without an attention mask transformers
then masks attention block by block (``masking_utils.find_packed_sequence_indices``, 5.23). That takes a model whose
attention does so and no cache, so it is not believed but tried, on the loaded model (:func:`check_apart`).
Imports torch at its top: import this file inside a function, once the data is good.
"""

from typing import Any

import torch
from torch.utils.data import DataLoader, SequentialSampler
from torch.utils.data import Dataset as TorchDataset

from jobspec.marker import FailureCode
from trainer.failures import TrainerFailure
from trainer.gathered import reshard
from trainer.packing import Line, PackingPlan
from trainer.tokens import IGNORED

#: Of the largest logit: what a neighbour may change through the order of sums in 16 bits. A leak changes a tenth and more.
_ROUNDING = 1e-2
_PROBE_TOKENS = 12


class PackedRows(TorchDataset[list[dict[str, list[int]]]]):
    """The micro-batches of an epoch, in order: each its lines, a line's rows one after the other."""

    def __init__(self, rows: Any, plan: PackingPlan) -> None:
        self._rows, self._plan = rows, plan
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Called by accelerate before each epoch, and before a resume skips what was read of one."""
        self._micro_batches = self._plan.epoch(epoch)

    def __len__(self) -> int:
        return len(self._micro_batches)

    def __getitem__(self, index: int) -> list[dict[str, list[int]]]:
        return [self._line(line) for line in self._micro_batches[index]]

    def _line(self, line: Line) -> dict[str, list[int]]:
        rows = self._rows[line]
        found: dict[str, list[int]] = {"input_ids": [], "labels": [], "position_ids": []}
        for ids, labels in zip(rows["input_ids"], rows["labels"], strict=True):
            found["input_ids"] += ids
            # The first token of a row is predicted by nothing: before it on the line stands another row.
            found["labels"] += [IGNORED, *labels[1:]]
            found["position_ids"] += range(len(ids))
        return found


def collate(micro_batches: list[list[dict[str, list[int]]]], pad: int) -> dict[str, torch.Tensor]:
    """Tensors of one micro-batch, (lines, longest line). Padding at the end of a line counts as one more row, without loss.

    ``attention_mask`` only counts tokens; :class:`Packing` takes it out before the model, which would take the line for one row.
    """
    (lines,) = micro_batches
    lines = lines or [{"input_ids": [], "labels": [], "position_ids": []}]
    longest = max(1, *(len(line["input_ids"]) for line in lines))
    padded: dict[str, list[list[int]]] = {"input_ids": [], "labels": [], "position_ids": [], "attention_mask": []}
    for line in lines:
        tokens = len(line["input_ids"])
        rest = longest - tokens
        padded["input_ids"].append(line["input_ids"] + [pad] * rest)
        padded["labels"].append(line["labels"] + [IGNORED] * rest)
        padded["position_ids"].append([*line["position_ids"], *range(rest)])
        padded["attention_mask"].append([1] * tokens + [0] * rest)
    return {name: torch.tensor(values) for name, values in padded.items()}


class Packing:
    """A trainer whose training rows come packed by ``plan``; None leaves everything to TRL. Before TRL's class."""

    plan: PackingPlan | None = None
    train_dataset: Any
    accelerator: Any
    args: Any
    processing_class: Any
    _total_train_tokens: Any

    def get_train_dataloader(self) -> Any:
        if self.plan is None:
            return super().get_train_dataloader()  # type: ignore[misc]  # TRL's, which comes next
        rows, pad = PackedRows(self.train_dataset, self.plan), self.processing_class.pad_token_id
        loader: Any = DataLoader(
            rows, 1, sampler=SequentialSampler(rows), collate_fn=lambda found: collate(found, pad), pin_memory=self.args.dataloader_pin_memory
        )
        return self.accelerator.prepare(loader)

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        if "position_ids" not in inputs:
            return super().compute_loss(model, inputs, *args, **kwargs)  # type: ignore[misc]  # as above
        mask = inputs.pop("attention_mask")
        counts = torch.stack([mask.sum(), mask.new_tensor(inputs["position_ids"].size(1))])  # ranks' lines differ in length
        tokens, lengths = self.accelerator.gather(counts).reshape(-1, 2).sum(0).tolist()
        if model.training:  # TRL will count the length of the lines, once
            self._total_train_tokens += tokens - lengths
        return super().compute_loss(model, inputs, *args, **kwargs)  # type: ignore[misc]  # as above


def check_apart(model: Any, vocabulary: int) -> float:
    """How much a row's logits change with the row before it on its line; 0 where rows are kept apart. Raises TrainerFailure for a leak."""
    draw = torch.Generator().manual_seed(0)
    before, other, row = (torch.randint(vocabulary, (1, _PROBE_TOKENS), generator=draw) for _ in range(3))
    positions = torch.arange(_PROBE_TOKENS).repeat(2)[None].to(model.device)
    training = model.training
    model.eval()
    with torch.no_grad():
        beside = [
            model(input_ids=torch.cat([neighbour, row], 1).to(model.device), position_ids=positions, use_cache=False).logits[:, _PROBE_TOKENS:].float()
            for neighbour in (before, other)
        ]
    reshard(model)
    model.train(training)
    difference = float((beside[0] - beside[1]).abs().max())
    if difference > _ROUNDING * float(beside[0].abs().max()):  # broken numbers differ in nothing; the first step names them
        raise TrainerFailure(
            FailureCode.MODEL_INVALID,
            f"this base model's attention does not keep packed rows apart (a row's logits change by {difference:.3g} with the row before it): "
            "set training.packing to false.",
        )
    return difference
