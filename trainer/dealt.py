"""Rows dealt out to several ranks, as loaders: for training and for measuring. Imports torch at its top: import this file inside a function."""

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, SequentialSampler
from torch.utils.data import Dataset as TorchDataset

from trainer.dealing import Deal, shared
from trainer.ranks import Ranks


class DealtRows(TorchDataset[list[Any]]):
    """The micro-batches of an epoch, in order, each a list of rows."""

    def __init__(self, rows: Any, deal: Deal) -> None:
        self._rows, self._deal = rows, deal
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Called by accelerate before each epoch, and before a resume skips what was read of one."""
        self._micro_batches = self._deal.epoch(epoch)

    def __len__(self) -> int:
        return len(self._micro_batches)

    def __getitem__(self, index: int) -> list[Any]:
        return [self._rows[row] for row in self._micro_batches[index]]


def seeded_order(rows: int, seed: int, epoch: int) -> list[int]:
    """An epoch's order as one process reads it: accelerate's SeedableRandomSampler, seeded anew with each epoch."""
    order: list[int] = torch.randperm(rows, generator=torch.Generator().manual_seed(seed + epoch)).tolist()
    return order


class Dealing:
    """A trainer of several ranks whose training rows are dealt out by ``deal``; None leaves everything to TRL. Before TRL's class."""

    deal: Deal | None = None
    train_dataset: Any
    data_collator: Any
    accelerator: Any
    args: Any
    _remove_unused_columns: Any

    def get_train_dataloader(self) -> Any:
        if self.deal is None:
            return super().get_train_dataloader()  # type: ignore[misc]  # TRL's, which comes next
        rows = DealtRows(self._remove_unused_columns(self.train_dataset, "training"), self.deal)
        loader: Any = DataLoader(
            rows, 1, sampler=SequentialSampler(rows), collate_fn=lambda found: self.data_collator(found[0]), pin_memory=self.args.dataloader_pin_memory
        )
        return self.accelerator.prepare(loader)


def held_out_batches(trainer: Any, ranks: Ranks) -> Iterator[tuple[Any, bool]]:
    """This rank's batches of the held-out rows, each with whether it counts: every row counts once, and every rank has equally many batches."""
    # GRPO answers whole groups, which its own sampler keeps together.
    if ranks.size == 1 or hasattr(trainer, "num_generations"):
        yield from ((inputs, True) for inputs in trainer.get_eval_dataloader())
        return
    rows = trainer._remove_unused_columns(trainer.eval_dataset, "evaluation")
    for batch, counts in shared(len(rows), trainer.args.per_device_eval_batch_size, ranks.rank, ranks.size):
        yield trainer.data_collator([rows[row] for row in batch]), counts
