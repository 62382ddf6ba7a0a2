"""What an hour on-demand costs in each region: it differs by up to 70 %, and a cap that reckons with another region's price holds too late.

US dollars an hour, Linux, of one type of each family. Two public tables that are both filled from AWS's price list agree in every figure that
both have: SkyPilot's (skypilot-org/skypilot-catalog, catalogs/v8/aws/vms.csv at e385a0d, which knows the regions of its own account)
and one made of Vantage's ec2instances.info (tsaol/aws-gpu, data/FAMILY_instances.js at 299375b and 18aebd1, of 2026-08-26). Read 2026-11-26.
AWS prices all sizes of a family alike, so the other sizes follow from these; tests/jobspec/test_on_demand.py holds that to their published prices.

Where a family is not listed, AWS does not sell it, or has not yet: it is taken at the dearest share that another family has in that region, and an unlisted
region at the dearest of all. An estimate must rather be too high.
"""

import math
from collections.abc import Iterable
from functools import cache

from jobspec.instances import GPU_INSTANCES, PRICES_REGION

_OF = ("g4dn.2xlarge", "g5.12xlarge", "g6.2xlarge", "g6e.12xlarge", "p4d.24xlarge", "p5.48xlarge")
_US = (0.752, 5.672, 0.9776, 10.49264, 21.95764, 55.04)
_LISTED: dict[str, tuple[float | None, ...]] = {
    "af-south-1": (0.998, None, None, None, None, None),
    "ap-east-1": (1.158, 8.7324, None, None, None, None),
    "ap-northeast-1": (1.015, 8.22609, 1.41781, 15.21742, 30.09784, 68.8),
    "ap-northeast-2": (0.925, 6.97442, 1.20208, 12.90014, 30.41028, 75.9552),
    "ap-northeast-3": (1.015, None, None, 15.21742, None, None),
    "ap-south-1": (0.828, 6.81091, 1.1739, 12.60131, 26.3444, 66.048),
    "ap-south-2": (None, None, 1.1739, 12.60131, None, None),
    "ap-southeast-1": (1.052, None, None, None, 26.34917, None),
    "ap-southeast-2": (0.978, 7.37473, 1.27107, None, 28.54493, 71.552),
    "ap-southeast-3": (None, 7.93854, None, None, None, 75.9552),
    "ap-southeast-5": (None, None, 1.23147, None, None, None),
    "ca-central-1": (0.835, 6.29784, 1.08547, None, 25.25174, 63.296),
    "eu-central-1": (0.94, 7.09282, 1.22249, 13.12002, 27.43298, None),
    "eu-central-2": (None, None, 1.31796, None, None, None),
    "eu-north-1": (0.798, 6.01593, 1.03688, 11.12975, 23.71569, 58.8928),
    "eu-south-1": (0.88, None, None, None, None, None),
    "eu-south-2": (None, 5.97646, 1.03008, 11.05645, None, None),
    "eu-west-1": (0.838, 6.33167, None, None, 23.71569, None),
    "eu-west-2": (0.88, 7.19994, 1.24095, None, 28.54493, 71.552),
    "eu-west-3": (0.879, 7.19994, 1.24095, None, None, None),
    "il-central-1": (None, 6.64825, None, None, None, None),
    "me-central-1": (None, 6.9575, 1.20043, 12.87194, None, None),
    "me-south-1": (0.922, None, None, None, None, None),
    "sa-east-1": (1.278, 9.64127, 1.66173, None, 35.5569, 92.4672),
    PRICES_REGION: _US,
    "us-east-2": _US,
    "us-gov-east-1": (0.948, None, 1.2322, None, None, None),
    "us-gov-west-1": (0.948, None, 1.2322, None, 26.3511, 66.048),
    "us-west-1": (0.902, None, None, None, None, 68.8),
    "us-west-2": _US,
}


def _family(instance_type: str) -> str:
    return instance_type.partition(".")[0]


#: By region and family: the price there over the price in PRICES_REGION.
_SHARES = {
    region: {_family(name): usd / home for name, usd, home in zip(_OF, listed, _US, strict=True) if usd is not None} for region, listed in _LISTED.items()
}
_DEAREST = max(share for shares in _SHARES.values() for share in shares.values())

REGIONS = tuple(sorted(_SHARES))


def is_listed(instance_type: str, region: str) -> bool:
    """Its price there is known, and no guess."""
    return _family(instance_type) in _SHARES.get(region, {})


@cache
def usd_per_h(instance_type: str, region: str) -> float:
    """US dollars an hour, rounded up to a tenth of a cent. Raises KeyError for a type that is not offered."""
    shares = _SHARES.get(region, {})
    share = shares.get(_family(instance_type)) or max(shares.values(), default=_DEAREST)
    # To a thousandth of what is kept first: a product's last binary digit must not round it up.
    return math.ceil(round(GPU_INSTANCES[instance_type].on_demand_usd_per_h * share * 1000, 3)) / 1000


def least_usd_per_h(instance_type: str, regions: Iterable[str]) -> float:
    """Of the regions that a job may run in."""
    return min(usd_per_h(instance_type, region) for region in regions)


def dearest_usd_per_h(region: str) -> float:
    """Of any offered type: for one that has left the list since its job was accepted."""
    return max(usd_per_h(name, region) for name in GPU_INSTANCES)
