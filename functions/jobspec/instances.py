"""The instance types on offer: the one place to change them. GPU, memory and price decide what a job may run on.

GPU counts and memory: EC2 "Accelerated computing" instance pages. On-demand prices: US dollars an hour, Linux, us-east-1,
as published by AWS and read on 2026-11 from memory of public price lists; they are an upper bound for estimates, not a bill.
The template's IAM condition on ``ec2:InstanceType`` lists the same names; a test holds the two together.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GpuInstance:
    """One offered type. ``gpu_memory_gib`` is the memory of one GPU."""

    name: str
    gpu: str
    gpus: int
    gpu_memory_gib: float
    vcpus: int
    on_demand_usd_per_h: float


PRICES_AS_OF = "2026-11"

_OFFERED = (
    GpuInstance("g4dn.xlarge", "T4", 1, 16, 4, 0.526),
    GpuInstance("g4dn.2xlarge", "T4", 1, 16, 8, 0.752),
    GpuInstance("g6.xlarge", "L4", 1, 24, 4, 0.805),
    GpuInstance("g6.2xlarge", "L4", 1, 24, 8, 0.978),
    GpuInstance("g5.xlarge", "A10G", 1, 24, 4, 1.006),
    GpuInstance("g5.2xlarge", "A10G", 1, 24, 8, 1.212),
    GpuInstance("g6e.xlarge", "L40S", 1, 48, 4, 1.861),
    GpuInstance("g6e.2xlarge", "L40S", 1, 48, 8, 2.242),
    GpuInstance("g5.12xlarge", "A10G", 4, 24, 48, 5.672),
    GpuInstance("g6e.12xlarge", "L40S", 4, 48, 48, 10.493),
    GpuInstance("p4d.24xlarge", "A100", 8, 40, 96, 32.773),
    GpuInstance("p5.48xlarge", "H100", 8, 80, 192, 98.32),
)

GPU_INSTANCES: dict[str, GpuInstance] = {instance.name: instance for instance in _OFFERED}
