"""The offered types: prices that make sense of each other, and the page that shows them."""

import pytest

from jobspec.instances import GPU_INSTANCES
from tools.instance_types import page


@pytest.mark.parametrize("name", GPU_INSTANCES)
def test_spot_is_cheaper_than_on_demand_and_not_unbelievably_so(name: str) -> None:
    offer = GPU_INSTANCES[name]
    assert offer.name == name
    assert 0.1 * offer.on_demand_usd_per_h <= offer.spot_usd_per_h < offer.on_demand_usd_per_h


def test_the_page_has_a_row_for_each_type_cheapest_first() -> None:
    rows = [line for line in page().splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == sorted(GPU_INSTANCES, key=lambda name: GPU_INSTANCES[name].on_demand_usd_per_h)
    assert "| `g5.xlarge` | 1 x A10G | 24 GiB | 4 | $1.006 | $0.489 | 51% |" in rows
