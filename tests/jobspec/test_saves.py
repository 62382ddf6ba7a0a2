"""How often to save: the published formula, and what was added to it."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.core.strategy import KNOBS, Record, life_s
from jobspec.manifest import Checkpoint
from jobspec.saves import ASSUMED_S, LAST_SAVE_S, LEAST_S, LONGEST_S, WARNED, Costs, Market, interval
from jobspec.saves import life_s as reckoned_life_s

HOUR = 3600.0
SECONDS = st.floats(0, 1e4)
COSTS = st.builds(Costs, SECONDS, SECONDS, st.none() | SECONDS)
MARKETS = st.sampled_from(("spot", "on-demand"))


def test_it_is_young_s_formula_where_nothing_else_binds() -> None:
    # On-demand: no warnings, a constant hazard. sqrt(2 c M)
    assert interval(Costs(0.5, 1.0, 1.0), "on-demand", 0).seconds == pytest.approx(math.sqrt(2 * 0.5 * 7 * 86400))


def test_losses_that_leave_time_for_a_last_save_make_it_rarer_by_one_over_the_root_of_their_rest() -> None:
    slow, quick = Costs(2.0, 40.0, LAST_SAVE_S), Costs(2.0, 40.0, LAST_SAVE_S - 40.0)
    assert interval(quick, "spot", HOUR).seconds == pytest.approx(interval(slow, "spot", HOUR).seconds / math.sqrt(1 - WARNED))


def test_a_last_save_is_not_counted_on_before_an_upload_was_measured() -> None:
    assert interval(Costs(2.0, 1.0), "spot", HOUR).seconds < interval(Costs(2.0, 1.0, 1.0), "spot", HOUR).seconds


@pytest.mark.parametrize("age_h", [0, 1, 10])
def test_the_hazard_of_a_spot_instance_is_the_one_that_places_it(age_h: float) -> None:
    assert reckoned_life_s("spot", age_h * HOUR) == life_s(Record(), age_h * HOUR, KNOBS)


def test_an_older_spot_instance_saves_less_often() -> None:
    ages = [interval(Costs(1.0, 5.0, 5.0), "spot", hours * HOUR).seconds for hours in (0, 1, 3, 9)]
    assert ages == sorted(ages)
    assert ages[-1] > 2 * ages[0]


def test_the_first_save_comes_early_to_be_measured() -> None:
    assert interval(None, "spot", 0).seconds == LEAST_S


@given(COSTS, MARKETS, st.floats(0, 1e7))
def test_one_save_always_gets_away_before_the_next_and_no_more_than_that_or_half_an_hour_is_risked(costs: Costs, market: Market, age_s: float) -> None:
    seconds = interval(costs, market, age_s).seconds
    assert max(LEAST_S, costs.away_s) <= seconds <= max(LONGEST_S, costs.away_s)


@given(COSTS, SECONDS, MARKETS, st.floats(0, 1e7))
def test_a_save_that_costs_more_is_never_made_more_often(costs: Costs, more_s: float, market: Market, age_s: float) -> None:
    dearer = Costs(costs.stall_s + more_s, costs.write_s, costs.upload_s)
    assert interval(dearer, market, age_s).seconds >= interval(costs, market, age_s).seconds


@pytest.mark.parametrize(
    ("costs", "why"),
    [
        (Costs(0.01, 1.0, 1.0), "no oftener than once a minute"),
        (Costs(0.01, 100.0, 300.0), "one save must get away before the next"),
        (Costs(60.0, 60.0, 10.0), "no more than 30 min of work is risked"),
        (Costs(1.0, 2.0, 2.0), "90% of its losses leave time for a last save"),
    ],
)
def test_the_reason_says_what_decided(costs: Costs, why: str) -> None:
    assert why in interval(costs, "spot", 0).reason


def test_whoever_only_reckons_with_the_interval_takes_ten_minutes_for_auto() -> None:
    assert Checkpoint().assumed_interval_s == ASSUMED_S == 600
    assert Checkpoint.model_validate({"interval": "90s"}).assumed_interval_s == 90
