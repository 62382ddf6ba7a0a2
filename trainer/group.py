"""The ranks of a torch process group. Imports torch at its top: import this file inside a function.

Flags and small values go over gloo on the CPU, also where the gradients go over NCCL: to look at a flag then waits for no GPU.
"""

import os
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from trainer.ranks import Ranks

#: How long one rank waits for another: the leader writes a checkpoint meanwhile, or the longest evaluation's last batch.
PATIENCE = timedelta(minutes=30)


class Group(Ranks):
    """The group that torchrun's variables (RANK, WORLD_SIZE, MASTER_ADDR, ...) name; joins it."""

    def __init__(self) -> None:
        on_gpu = torch.cuda.is_available()
        if on_gpu:
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo", timeout=PATIENCE)
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self._words = dist.new_group(backend="gloo", timeout=PATIENCE)

    def any(self, flag: bool) -> bool:
        told = torch.tensor([int(flag)], dtype=torch.int32)
        dist.all_reduce(told, dist.ReduceOp.MAX, group=self._words)
        return bool(told.item())

    def of_first(self, value: Any) -> Any:
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self._words)
        return box[0]

    def gather(self, value: Any) -> list[Any]:
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, group=self._words)
        return values

    def leave(self) -> None:
        dist.destroy_process_group()
