"""EC2's vCPU quotas for the offered types: what Service Quotas calls them, and which types each counts."""

from dataclasses import dataclass

from jobspec.instances import GPU_INSTANCES


@dataclass(frozen=True, slots=True)
class Quota:
    """A vCPU quota of EC2 in Service Quotas (its name and code are AWS's), and the offered types that it counts."""

    market: str
    name: str
    code: str
    families: tuple[str, ...]

    def types(self) -> tuple[str, ...]:
        return tuple(name for name in GPU_INSTANCES if name.startswith(self.families))


#: EC2 guide, "Spot Instance quotas" and "On-Demand Instance quotas"; codes as Service Quotas lists them.
QUOTAS = (
    Quota("spot", "All G and VT Spot Instance Requests", "L-3819A6DF", ("g", "vt")),
    Quota("spot", "All P4, P3 and P2 Spot Instance Requests", "L-7212CCBC", ("p2", "p3", "p4")),
    Quota("spot", "All P5 Spot Instance Requests", "L-C4BD4855", ("p5",)),
    Quota("on-demand", "Running On-Demand G and VT instances", "L-DB2E81BA", ("g", "vt")),
    Quota("on-demand", "Running On-Demand P instances", "L-417A185B", ("p",)),
)
