"""Writes docs/instances.md from ``jobspec.instances``: ``python -m tools.instance_types [--check]``."""

import sys
from pathlib import Path

from jobspec.instances import GPU_INSTANCES, PRICES_AS_OF, PRICES_REGION, GpuInstance
from tools.generated import write_or_check

TARGET = Path("docs/instances.md")

_HEAD = f"""# The instance types on offer

Generated from `functions/jobspec/instances.py`, the one place to change them, by `python -m tools.instance_types`; do not edit.
How to offer another type: [operations.md](operations.md), "Change the instance types".

Prices are US dollars an hour for Linux in {PRICES_REGION}, as of {PRICES_AS_OF}. Spot is a typical price, the median over the zones of one day:
it moves by the hour and the zone, and a job's receipt uses the price at its launch. Neither is a bill. Where each figure comes from
stands in that file.

| type | GPUs | memory of one GPU | vCPUs | on-demand | typical spot | spot saves |
|---|---|---|---|---|---|---|
"""


def page() -> str:
    """The whole page, cheapest on-demand price first."""
    return _HEAD + "".join(map(_row, sorted(GPU_INSTANCES.values(), key=lambda offer: (offer.on_demand_usd_per_h, offer.name))))


def _row(offer: GpuInstance) -> str:
    saves = 1 - offer.spot_usd_per_h / offer.on_demand_usd_per_h
    prices = f"${offer.on_demand_usd_per_h:.3f} | ${offer.spot_usd_per_h:.3f} | {saves:.0%}"
    return f"| `{offer.name}` | {offer.gpus} x {offer.gpu} | {offer.gpu_memory_gib:g} GiB | {offer.vcpus} | {prices} |\n"


if __name__ == "__main__":
    sys.exit(write_or_check(TARGET, page(), "jobspec.instances"))
