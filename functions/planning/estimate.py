"""The plan of a job: on each instance type it may run on, whether it fits, how long, how dear, and whether its last save makes the notice."""

import math
from dataclasses import dataclass

from jobspec import on_demand
from jobspec.instances import GPU_INSTANCES, PRICES_REGION, GpuInstance
from jobspec.manifest import Manifest
from planning.hardware import dtype_on, gpu_of, upload_bytes_per_s
from planning.memory import CHECKPOINT_BYTES, Memory, memory_of, trained_parameters
from planning.rows import Rows
from planning.shape import Shape
from planning.speed import Guess, seconds_of, steps_of, tokens_of
from planning.workload import Workload

#: Up to here a job is said to fit; from the second on it is said not to, and refused. Between them it may run out of memory.
FITS, TOO_LARGE = 0.92, 1.15
#: From the order of an instance to its first step, model and image pulled: a guess. A restart after an interruption takes as long.
START_S = 360.0
#: EC2's notice, and what is kept of it for hearing, for the end of a step and for the marker.
NOTICE_S, NOTICE_RESERVE_S = 120.0, 25.0
#: The volume's throughput in the launch template, and sha256 on one core (1.61 GB in 1.1 s: ../shared/facts/trainer.md).
DISK_BYTES_PER_S, HASH_BYTES_PER_S = 250e6, 1.4e9


@dataclass(frozen=True, slots=True)
class TypePlan:
    """One instance type. Times and dollars are None where nothing tells how many rows there are."""

    instance: GpuInstance
    dtype: str
    micro_batch: int
    accumulation: int
    memory: Memory
    #: A larger micro-batch that would fit as well, as far as the global batch goes.
    roomier_micro_batch: int
    tokens_per_s: Guess | None
    hours: Guess | None
    save_s: float
    #: Of the regions that the job may run in, the cheapest one's.
    on_demand_usd_per_h: float
    nodes: int = 1
    #: GPUs that train together.
    ranks: int = 1

    @property
    def gpu_bytes(self) -> int:
        return gpu_of(self.instance).memory_bytes

    @property
    def load(self) -> float:
        """Memory needed over memory there."""
        return self.memory.total / self.gpu_bytes

    @property
    def verdict(self) -> str:
        """fits, tight (it may run out of memory) or no; no, too, where the global batch cannot be split over the GPUs."""
        if not self.micro_batch:
            return "no"
        return "fits" if self.load <= FITS else "tight" if self.load <= TOO_LARGE else "no"

    @property
    def save_in_time(self) -> bool:
        return self.save_s <= NOTICE_S - NOTICE_RESERVE_S

    def usd(self, usd_per_h: float) -> Guess | None:
        return self.hours.times(usd_per_h * self.nodes) if self.hours is not None else None

    @property
    def usd_spot(self) -> Guess | None:
        return self.usd(self.instance.spot_usd_per_h)

    @property
    def usd_on_demand(self) -> Guess | None:
        return self.usd(self.on_demand_usd_per_h)


@dataclass(frozen=True, slots=True)
class JobPlan:
    """The whole of it, types in the manifest's order (cheapest on demand first)."""

    shape: Shape
    work: Workload
    rows: Rows | None
    steps: int | None
    tokens: Guess | None
    trained: int
    checkpoint_bytes: int
    types: tuple[TypePlan, ...]
    #: Whose on-demand prices these are: the manifest's regions, or the stack's own.
    regions: tuple[str, ...]


def plan_of(manifest: Manifest, shape: Shape, rows: Rows | None, types: tuple[str, ...] | None = None, home: str = PRICES_REGION) -> JobPlan:
    """The plan on the types that the manifest allows, or on ``types``; ``home`` is the stack's region. Raises CannotTell for a target module
    that the model does not have."""
    regions = manifest.compute.regions or (home,)
    work = Workload.of(manifest)
    told = rows is not None or work.max_steps is not None
    trained = trained_parameters(shape, work)
    return JobPlan(
        shape=shape,
        work=work,
        rows=rows,
        steps=steps_of(work, rows.number if rows is not None else 0) if told else None,
        tokens=tokens_of(work, rows) if told else None,
        trained=trained,
        checkpoint_bytes=trained * CHECKPOINT_BYTES,
        types=tuple(_on(GPU_INSTANCES[name], shape, work, rows, told, regions) for name in types or manifest.compute.candidate_types()),
        regions=regions,
    )


def load_on(instance: GpuInstance, shape: Shape, work: Workload) -> float:
    """Memory needed over memory there, at the micro-batch that the trainer would come down to."""
    return _fitted(instance, shape, work)[1].total / gpu_of(instance).memory_bytes


def _on(instance: GpuInstance, shape: Shape, work: Workload, rows: Rows | None, told: bool, regions: tuple[str, ...]) -> TypePlan:
    work = work.on(instance.gpus)
    fitted, memory = _fitted(instance, shape, work)
    divides = bool(work.micro_batches)
    seconds = seconds_of(shape, fitted, rows, instance) if told else None
    tokens = tokens_of(fitted, rows) if told else None
    size = trained_parameters(shape, work) * CHECKPOINT_BYTES
    return TypePlan(
        instance=instance,
        dtype=dtype_on(instance, work.dtype),
        micro_batch=fitted.micro_batch if divides else 0,
        accumulation=fitted.accumulation,
        memory=memory,
        roomier_micro_batch=_roomiest(instance, shape, work),
        tokens_per_s=_rate(tokens, seconds),
        hours=Guess(seconds.least / 3600, (seconds.typical + START_S) / 3600, (seconds.most + 2 * START_S) / 3600) if seconds is not None else None,
        on_demand_usd_per_h=on_demand.least_usd_per_h(instance.name, regions),
        save_s=size / DISK_BYTES_PER_S + size / HASH_BYTES_PER_S + size / upload_bytes_per_s(instance),
        nodes=work.nodes,
        ranks=work.ranks,
    )


def _rate(tokens: Guess | None, seconds: Guess | None) -> Guess | None:
    if tokens is None or seconds is None:
        return None
    return Guess(tokens.most / seconds.most, tokens.typical / seconds.typical, tokens.least / seconds.least)


def _fitted(instance: GpuInstance, shape: Shape, work: Workload) -> tuple[Workload, Memory]:
    """The manifest's micro-batch where it fits, else the largest smaller one that does (the trainer halves it), else the least."""
    work = work.on(instance.gpus)
    dtype, room = dtype_on(instance, work.dtype), gpu_of(instance).memory_bytes * FITS
    smaller = [size for size in work.micro_batches if size <= work.micro_batch] or [work.micro_batch]
    for size in reversed(smaller):
        fitted = work.having(micro_batch=size)
        memory = memory_of(shape, fitted, dtype)
        if memory.total <= room or size == smaller[0]:
            return fitted, memory
    raise AssertionError("there is a smallest one")


def _roomiest(instance: GpuInstance, shape: Shape, work: Workload) -> int:
    dtype, room = dtype_on(instance, work.dtype), gpu_of(instance).memory_bytes * FITS
    fit = [size for size in work.micro_batches if memory_of(shape, work.having(micro_batch=size), dtype).total <= room]
    return max(fit, default=0)


def shown_bytes(size: float) -> str:
    """``1.5 GB``, ``32 MB``: decimal, as S3 and networks count."""
    power = min(4, max(0, math.floor(math.log(max(size, 1), 1000))))
    return f"{size / 1000**power:.3g} {('B', 'kB', 'MB', 'GB', 'TB')[power]}"
