"""What of a manifest decides memory and time: the method, what is trained, rows, lengths, precision."""

from dataclasses import dataclass, replace
from typing import Self

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
        )

    @property
    def sequences(self) -> int:
        """Sequences in the model at once."""
        return self.micro_batch * _SEQUENCES.get(self.method, 1)

    @property
    def accumulation(self) -> int:
        """Micro-batches for each optimizer step."""
        return self.global_batch // self.micro_batch

    @property
    def micro_batches(self) -> tuple[int, ...]:
        """Sizes that divide the global batch, smallest first; kto pairs rows within one, so it needs two of them."""
        least = min(2, self.global_batch) if self.method == "kto" else 1
        return tuple(size for size in range(least, self.global_batch + 1) if self.global_batch % size == 0)

    def having(self, **changes: int | str | bool) -> Self:
        return replace(self, **changes)  # type: ignore[arg-type]  # its own fields, by name
