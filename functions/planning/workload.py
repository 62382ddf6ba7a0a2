"""What of a manifest decides memory and time: the method, what is trained, rows, lengths, precision."""

from dataclasses import dataclass, replace
from typing import Self

from jobspec.batches import gpus_used
from jobspec.manifest import Manifest
from planning.shape import Targets

#: Rows that pass the model together for each row of a micro-batch: preference pairs go through side by side (TRL concatenates them).
_SEQUENCES = {"dpo": 2, "orpo": 2, "reward": 2}
#: Methods that TRL runs without dropout.
_NO_DROPOUT = ("dpo", "kto", "orpo", "reward")


@dataclass(frozen=True, slots=True)
class Workload:
    """Numbers as the manifest gives them. ``rows`` of the global batch: for grpo, answers."""

    method: str
    adapter: str
    r: int
    targets: Targets
    dora: bool
    dropout: float
    max_length: int
    global_batch: int
    micro_batch: int
    gradient_checkpointing: bool
    #: Short rows share a line no longer than the longest row: never more memory than without, but less padding.
    packing: bool
    dtype: str
    epochs: float
    max_steps: int | None
    eval_fraction: float
    #: A second forward pass, through the model as it was, for each row.
    reference: bool
    generations: int
    completion_length: int
    nodes: int = 1
    #: GPUs that train together, in all instances: of a type, so :meth:`on` says it.
    ranks: int = 1

    @classmethod
    def of(cls, manifest: Manifest) -> Self:
        adapter, training, grpo = manifest.adapter, manifest.training, manifest.grpo
        return cls(
            method=manifest.method,
            adapter=adapter.type,
            r=adapter.r,
            targets=adapter.target_modules,
            dora=adapter.dora,
            dropout=0.0 if manifest.method in _NO_DROPOUT else adapter.dropout,
            max_length=training.max_length,
            global_batch=training.global_batch_size,
            micro_batch=training.micro_batch_size,
            gradient_checkpointing=training.gradient_checkpointing,
            packing=training.packing and manifest.method == "sft",
            dtype=training.dtype,
            epochs=training.epochs,
            max_steps=training.max_steps,
            eval_fraction=manifest.data.eval_fraction if manifest.data.eval is None else 0.0,
            reference=manifest.method in ("dpo", "kto") or (grpo is not None and grpo.beta > 0),
            generations=grpo.num_generations if grpo is not None else 1,
            completion_length=grpo.max_completion_length if grpo is not None else 0,
            nodes=manifest.compute.nodes,
        )

    def on(self, gpus: int) -> Self:
        """On instances with so many GPUs each."""
        return replace(self, ranks=self.nodes * gpus_used(gpus, self.method, self.adapter))

    @property
    def sharded(self) -> bool:
        """Every weight is trained on several GPUs: each then holds its share of what is trained (FSDP2)."""
        return self.adapter == "full" and self.ranks > 1

    @property
    def sequences(self) -> int:
        """Sequences in the model at once."""
        return self.micro_batch * _SEQUENCES.get(self.method, 1)

    @property
    def accumulation(self) -> int:
        """Micro-batches of one GPU for each optimizer step."""
        return max(1, self.global_batch // (self.micro_batch * self.ranks))

    @property
    def micro_batches(self) -> tuple[int, ...]:
        """Sizes that divide a GPU's share of the global batch, smallest first; kto pairs rows within one, so it needs two of them.

        Empty where the global batch cannot be split over the GPUs.
        """
        share = self.global_batch // self.ranks if self.global_batch % self.ranks == 0 else 0
        least = min(2, share) if self.method == "kto" and self.ranks == 1 else self.least
        return tuple(size for size in range(max(1, least), share + 1) if share % size == 0)

    @property
    def least(self) -> int:
        return 2 if self.method == "kto" else 1

    def having(self, **changes: int | str | bool) -> Self:
        return replace(self, **changes)  # type: ignore[arg-type]  # its own fields, by name
