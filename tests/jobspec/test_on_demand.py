"""On-demand prices by region: what is listed, what follows from it, and what is taken where nothing is."""

import pytest

from jobspec import on_demand
from jobspec.instances import GPU_INSTANCES, PRICES_REGION

#: Published prices of sizes that are not in the table themselves, from the same sources.
PUBLISHED = {
    ("g4dn.xlarge", "ap-east-1"): 0.81,
    ("g4dn.xlarge", "ap-south-1"): 0.579,
    ("g4dn.xlarge", "eu-north-1"): 0.558,
    ("g4dn.xlarge", "eu-west-1"): 0.587,
    ("g5.2xlarge", "ap-northeast-1"): 1.75776,
    ("g5.2xlarge", "eu-west-1"): 1.35296,
    ("g5.2xlarge", "sa-east-1"): 2.06016,
    ("g6.xlarge", "ap-northeast-2"): 0.9896,
    ("g6.xlarge", "eu-central-1"): 1.0064,
    ("g6.xlarge", "eu-west-3"): 1.0216,
    ("g6e.xlarge", "ap-northeast-1"): 2.699,
    ("g6e.xlarge", "eu-north-1"): 1.974,
    ("g6e.2xlarge", "ap-south-1"): 2.69266,
}


@pytest.mark.parametrize(("name", "region"), PUBLISHED)
def test_a_size_that_is_not_listed_itself_costs_what_aws_publishes_for_it_or_a_hair_more(name: str, region: str) -> None:
    assert on_demand.is_listed(name, region)
    assert PUBLISHED[name, region] <= on_demand.usd_per_h(name, region) <= PUBLISHED[name, region] * 1.002


@pytest.mark.parametrize("name", GPU_INSTANCES)
def test_the_region_of_the_types_table_has_the_types_tables_price(name: str) -> None:
    assert on_demand.usd_per_h(name, PRICES_REGION) == on_demand.usd_per_h(name, "us-west-2") == GPU_INSTANCES[name].on_demand_usd_per_h


@pytest.mark.parametrize("name", GPU_INSTANCES)
def test_no_listed_region_is_dearer_than_an_unlisted_one_is_taken_for(name: str) -> None:
    assert not on_demand.is_listed(name, "mx-central-1")
    assert max(on_demand.usd_per_h(name, region) for region in on_demand.REGIONS) <= on_demand.usd_per_h(name, "mx-central-1")


def test_a_family_that_a_region_does_not_sell_yet_is_taken_at_the_dearest_share_of_those_it_sells() -> None:
    assert not on_demand.is_listed("g6.xlarge", "eu-west-1")
    assert on_demand.usd_per_h("g6.xlarge", "eu-west-1") == pytest.approx(0.805 * 6.33167 / 5.672, abs=0.001)


def test_a_type_that_has_left_the_list_is_taken_for_the_dearest_there() -> None:
    assert on_demand.dearest_usd_per_h("eu-west-2") == on_demand.usd_per_h("p5.48xlarge", "eu-west-2") == 71.552
