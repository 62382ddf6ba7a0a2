"""``compute`` of a manifest: which instances a job may run on, how many at a time, in which market and where."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from jobspec.base import Document
from jobspec.instances import GPU_INSTANCES
from jobspec.methods import Located
from jobspec.places import one_of
from jobspec.regions import REGION_PATTERN

INSTANCE_TYPE_PATTERN = r"^[a-z0-9-]{2,12}\.[a-z0-9-]{2,16}$"
ZONE_PATTERN = r"^[a-z]{2}(-[a-z]+)+-[0-9][a-z]$"

#: Types that `gpu` may choose cost at most this many times the cheapest that fits: more pools, but no surprise on the bill.
DEAREST_SHARE = 2.5

#: Instances that one attempt may have.
MAX_NODES = 16

InstanceType = Annotated[str, StringConstraints(strict=True, pattern=INSTANCE_TYPE_PATTERN)]
Zone = Annotated[str, StringConstraints(strict=True, pattern=ZONE_PATTERN)]
Region = Annotated[str, StringConstraints(strict=True, pattern=REGION_PATTERN)]


class Gpu(Document):
    """What the job needs of a GPU; offered types that have it are used, up to 2.5 times the price of the cheapest such type."""

    memory_gib: Annotated[float, Field(gt=0, le=1024)] = Field(description="Memory of one GPU, GiB, at least.")
    count: Annotated[int, Field(ge=1, le=16)] = Field(1, description="GPUs in the instance, at least.")


class Compute(Document):
    """Where to run: instance types by name, or what the job needs of a GPU."""

    model_config = one_of(("instance_types",), ("gpu",))

    instance_types: Annotated[tuple[InstanceType, ...], Field(min_length=1, max_length=20)] | None = Field(
        None, description="Offered EC2 types, in any order; all of them are asked for at once."
    )
    gpu: Gpu | None = Field(None, description="Instead of instance_types: what the job needs.")
    market: Literal["spot", "on-demand", "cheapest"] = Field(
        "spot",
        description="spot waits for spot capacity; cheapest takes spot, falls back to on-demand when no pool has any (with "
        "`limits.deadline`: when waiting would make it late), and goes back to spot that pays; on-demand never uses spot.",
    )
    zones: Annotated[tuple[Zone, ...], Field(min_length=1, max_length=20)] | None = Field(
        None, description="Availability zones; all of the stack's where not given."
    )
    regions: Annotated[tuple[Region, ...], Field(min_length=1, max_length=10)] | None = Field(
        None,
        description="Regions that the job may run in: the stack's own and those of its parameter PeerRegions; its own where not given. Data and checkpoints "
        "stay in the stack's buckets: what crosses regions is weighed, and counted in the receipt.",
    )
    nodes: Annotated[int, Field(ge=1, le=MAX_NODES)] = Field(
        1,
        description="Instances that train together as one attempt, of one type and in one zone: all of them start or none, and one that is lost ends "
        "the attempt. Their time counts once in `limits`, the money of each.",
    )

    @model_validator(mode="after")
    def _types_are_offered(self) -> "Compute":
        if (self.instance_types is None) == (self.gpu is None):
            raise ValueError("give either `instance_types` or `gpu`")
        unknown = [name for name in self.instance_types or () if name not in GPU_INSTANCES]
        if unknown:
            raise Located(("instance_types",), f"names what is not offered: {', '.join(unknown)}; offered: {', '.join(GPU_INSTANCES)}")
        if not self.candidate_types():
            largest = max(i.gpu_memory_gib for i in GPU_INSTANCES.values())
            raise Located(("gpu",), f"fits no offered type: none has {self.gpu and self.gpu.count} GPU(s) of that memory; the largest GPU has {largest} GiB")
        return self

    def candidate_types(self) -> tuple[str, ...]:
        """Offered types that fit, cheapest on-demand price first."""
        if self.instance_types is not None:
            names = set(self.instance_types)
        else:
            assert self.gpu is not None
            fit = [i for i in GPU_INSTANCES.values() if i.gpu_memory_gib >= self.gpu.memory_gib and i.gpus >= self.gpu.count]
            dearest = DEAREST_SHARE * min((i.on_demand_usd_per_h for i in fit), default=0.0)
            names = {i.name for i in fit if i.on_demand_usd_per_h <= dearest}
        return tuple(sorted(names, key=lambda name: (GPU_INSTANCES[name].on_demand_usd_per_h, name)))
