"""The ranks of a torch process group. Imports torch at its top: import this file inside a function.

Flags and small values go over gloo on the CPU, also where the gradients go over NCCL: to look at a flag then waits for no GPU.
"""

import os
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from trainer.ranks import Ranks

#: How long one rank waits for another: the leader writes a checkpoint meanwhile, or the longest evaluation's last batch.
PATIENCE = timedelta(minutes=30)
CHUNK_BYTES = 64 * 1024**2


class Group(Ranks):
    """The group that torchrun's variables (RANK, WORLD_SIZE, MASTER_ADDR, ...) name; joins it. ``name`` tells one start from another at the same place."""

    def __init__(self, name: str = "") -> None:
        on_gpu = torch.cuda.is_available()
        if on_gpu:
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        self.rank, self.size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        stores: Any = dist  # untyped there
        store = stores.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), self.size, is_master=False, timeout=PATIENCE)
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if on_gpu else "gloo",
            timeout=PATIENCE,
            store=stores.PrefixStore(f"ranks {name}", store),
            rank=self.rank,
            world_size=self.size,
        )
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

    def copy(self, source: Path, size: int, target: Path | None) -> None:
        """Rank 0's file ``source`` of so many bytes, as ``target`` where one is given. Every rank must take part."""
        with ExitStack() as stack:
            read = stack.enter_context(source.open("rb")) if self.first else None
            write = stack.enter_context(target.open("wb")) if target is not None else None
            for begin in range(0, size, CHUNK_BYTES):
                count = min(CHUNK_BYTES, size - begin)
                chunk = torch.frombuffer(bytearray(read.read(count)), dtype=torch.uint8) if read else torch.empty(count, dtype=torch.uint8)
                dist.broadcast(chunk, src=0, group=self._words)
                if write is not None:
                    write.write(chunk.numpy().tobytes())

    def leave(self) -> None:
        dist.destroy_process_group()
