"""Writes docs/instances.md from ``jobspec.instances`` and ``jobspec.on_demand``: ``python -m tools.instance_types [--check]``."""

import sys
from pathlib import Path

from jobspec import on_demand
from jobspec.instances import GPU_INSTANCES, PRICES_AS_OF, PRICES_REGION, GpuInstance
from tools.generated import write_or_check

TARGET = Path("docs/instances.md")

_HEAD = f"""# The instance types on offer

Generated from `functions/jobspec/instances.py`, the one place to change them, by `python -m tools.instance_types`; do not edit.
How to offer another type: [operations.md](operations.md), "Change the instance types".

Prices are US dollars an hour for Linux in {PRICES_REGION}, as of {PRICES_AS_OF}. Spot is a typical price, the median over the zones of one day:
it moves by the hour and the zone, and a job's receipt uses the price at its launch. Neither is a bill. Where each figure comes from
stands in that file. Other regions' on-demand prices are below.

| type | GPUs | memory of one GPU | vCPUs | on-demand | typical spot | spot saves |
|---|---|---|---|---|---|---|
"""


_REGIONS_HEAD = """
## On-demand by region

What caps and receipts reckon with where an instance runs there, and what spot never costs more than; from `functions/jobspec/on_demand.py`,
with its source. `-`: AWS sells none there, as far as is known. Should it by now, the dearest share that another family has in that region is taken,
in a region that is not listed the dearest of all, and the receipt says so.

"""


def page() -> str:
    """The whole page, cheapest on-demand price first."""
    offers = sorted(GPU_INSTANCES.values(), key=lambda offer: (offer.on_demand_usd_per_h, offer.name))
    names = [offer.name for offer in offers]
    head = f"| region | {' | '.join(f'`{name}`' for name in names)} |\n|---|{'---|' * len(names)}\n"
    return _HEAD + "".join(map(_row, offers)) + _REGIONS_HEAD + head + "".join(_region_row(region, names) for region in on_demand.REGIONS)


def _region_row(region: str, names: list[str]) -> str:
    prices = (f"{on_demand.usd_per_h(name, region):.3f}" if on_demand.is_listed(name, region) else "-" for name in names)
    return f"| {region} | {' | '.join(prices)} |\n"


def _row(offer: GpuInstance) -> str:
    saves = 1 - offer.spot_usd_per_h / offer.on_demand_usd_per_h
    prices = f"${offer.on_demand_usd_per_h:.3f} | ${offer.spot_usd_per_h:.3f} | {saves:.0%}"
    return f"| `{offer.name}` | {offer.gpus} x {offer.gpu} | {offer.gpu_memory_gib:g} GiB | {offer.vcpus} | {prices} |\n"


if __name__ == "__main__":
    sys.exit(write_or_check(TARGET, page(), "jobspec.instances and jobspec.on_demand"))
