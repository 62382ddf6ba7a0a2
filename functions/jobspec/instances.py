"""The instance types on offer: the one place to change them. GPU, memory and price decide what a job may run on.

GPU counts and memory: EC2 "Accelerated computing" instance pages (a GPU's own tools show a little less). Prices: US dollars an
hour, Linux, us-east-1, from the rows of SkyPilot's public catalog, which is filled from AWS's price and spot price interfaces
(skypilot-org/skypilot-catalog, catalogs/v8/aws/vms.csv at e385a0d, read 2026-11-25). On-demand prices are rounded up; Vantage's table has
the same (on_demand.py, which has the other regions' too). A typical
spot price is the median over the zones of that one snapshot (g4dn.2xlarge: of one zone): spot prices move by the hour, and for
p4d and p5 by threefold from zone to zone, so it is for a first estimate; a receipt uses the price at the launch. None is a bill.
The template's IAM condition on ``ec2:InstanceType`` lists the same names; a test holds the two together. docs/instances.md is
generated from here.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GpuInstance:
    """One offered type. ``gpu_memory_gib`` is the memory of one GPU. ``spot_usd_per_h``: a typical price, not a limit."""

    name: str
    gpu: str
    gpus: int
    gpu_memory_gib: float
    vcpus: int
    on_demand_usd_per_h: float
    spot_usd_per_h: float


PRICES_AS_OF = "2026-11"
PRICES_REGION = "us-east-1"

_OFFERED = (
    GpuInstance("g4dn.xlarge", "T4", 1, 16, 4, 0.526, 0.213),
    GpuInstance("g4dn.2xlarge", "T4", 1, 16, 8, 0.752, 0.348),
    GpuInstance("g6.xlarge", "L4", 1, 24, 4, 0.805, 0.408),
    GpuInstance("g6.2xlarge", "L4", 1, 24, 8, 0.978, 0.439),
    GpuInstance("g5.xlarge", "A10G", 1, 24, 4, 1.006, 0.489),
    GpuInstance("g5.2xlarge", "A10G", 1, 24, 8, 1.212, 0.499),
    GpuInstance("g6e.xlarge", "L40S", 1, 48, 4, 1.861, 0.890),
    GpuInstance("g6e.2xlarge", "L40S", 1, 48, 8, 2.243, 0.847),
    GpuInstance("g5.12xlarge", "A10G", 4, 24, 48, 5.672, 2.005),
    GpuInstance("g6e.12xlarge", "L40S", 4, 48, 48, 10.493, 4.433),
    GpuInstance("p4d.24xlarge", "A100", 8, 40, 96, 21.958, 12.499),
    GpuInstance("p5.48xlarge", "H100", 8, 80, 192, 55.04, 31.037),
)

GPU_INSTANCES: dict[str, GpuInstance] = {instance.name: instance for instance in _OFFERED}
