"""The simulator behind docs/placement.md: it gives the published numbers, its bound is the best there is, bad traces are refused."""

import functools
import itertools
import json
import math
from pathlib import Path
from typing import Any

import pytest

from bench.spot.__main__ import main
from bench.spot.bound import bounds
from bench.spot.model import EPSILON_S, IDLE, ON_DEMAND, Settings, Sight, Window, is_late, replay
from bench.spot.traces import TraceError, half_of, load, worlds

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "spot-traces"
H = 3600.0


def window(*rows: str, gap_s: float = H, spot: float = 1.0, on_demand: float = 3.0) -> Window:
    """One row of 0 and 1 a pool."""
    ticks = list(zip(*rows, strict=True))
    available = tuple(tuple(pool for pool, has in enumerate(tick) if has == "1") for tick in ticks)
    return Window(gap_s, available, ((spot,) * len(rows),) * len(ticks), on_demand)


def scripted(*answers: int) -> Any:
    left = iter(answers)
    return lambda sight: next(left)


# --- the published numbers ---------------------------------------------------------------------------------------------


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data/spot-traces, which is not part of this repository")
def test_table_3_of_cant_be_late_is_reproduced_to_the_printed_digit(capsys: pytest.CaptureFixture[str]) -> None:
    """NSDI'24, Table 3: hours of work on on-demand and on spot; and the cost ratios that a re-implementation gave (shared/facts)."""
    assert main(["--traces", str(SHARED / "two-week-us-west-2"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["policies"]
    hours = {name: (round(of["on_demand_h_mean"], 1), round(of["spot_h_mean"], 1), round(of["cost_ratio"], 3)) for name, of in found.items()}
    assert hours["greedy"] == (30.8, 17.2, 0.773)
    assert hours["uniform_progress"] == (25.1, 22.9, 0.712)
    # The paper has 20.7 and 27.4, the re-implementation 20.6 on a third of the windows: the optimum is not unique in hours, its cost is.
    assert hours["bound"] == (20.6, 27.4, 0.635)
    assert {name: (of["late"], of["runs"]) for name, of in found.items()} == dict.fromkeys(found, (0, 2400))


# --- the model ---------------------------------------------------------------------------------------------------------


def test_a_start_is_paid_for_its_delay_and_works_after_it() -> None:
    run = replay(window("1111"), Settings(2 * H, 4 * H, 0.5 * H), scripted(0, 0, 0))
    assert (run.usd, run.spot_ticks, run.spot_work_s, run.finished_s) == (3.0, 3, 2 * H, 2.5 * H)


def test_a_delay_longer_than_a_tick_goes_on_in_the_next() -> None:
    run = replay(window("11111"), Settings(1 * H, 5 * H, 1.5 * H), scripted(0, 0, 0))
    assert (run.spot_ticks, run.finished_s) == (3, 2.5 * H)


def test_a_pool_without_capacity_takes_its_instance_back_and_a_new_start_pays_a_new_delay() -> None:
    seen: list[tuple[int, int]] = []

    def policy(sight: Sight) -> int:
        seen.append((sight.held, sight.lost))
        return 0 if sight.available else IDLE

    run = replay(window("1011"), Settings(1.5 * H, 9 * H, 0.5 * H), policy)
    assert seen == [(IDLE, IDLE), (IDLE, 0), (IDLE, IDLE), (0, IDLE)]
    assert (run.launches, run.usd, run.finished_s) == (2, 3.0, 3.5 * H)


def test_with_the_first_hour_rule_only_what_ec2_takes_back_within_the_hour_is_free() -> None:
    settings = Settings(10 * H, 60 * H, 0.0, first_hour_free=True)
    half_hours = window("101111", gap_s=H / 2)
    assert replay(half_hours, settings, scripted(0, IDLE, 0, IDLE, IDLE, IDLE)).usd == 0.5, "the second was given up by choice"
    assert replay(window("110000", gap_s=H / 2), settings, scripted(0, 0, *[IDLE] * 4)).usd == 1.0, "a whole hour is not within the hour"
    assert replay(half_hours, Settings(10 * H, 60 * H, 0.0), scripted(0, IDLE, 0, IDLE, IDLE, IDLE)).usd == 1.0


def test_a_policy_cannot_have_what_is_not_there() -> None:
    with pytest.raises(ValueError, match="no capacity in tick 1"):
        replay(window("101"), Settings(9 * H, 9 * H, 0.0), scripted(0, 0))


def test_a_run_that_ends_after_its_deadline_or_never_is_late() -> None:
    settings = Settings(2 * H, 2.5 * H, 0.5 * H)
    assert not is_late(replay(window("0000"), settings, scripted(*[ON_DEMAND] * 4)), settings)
    assert is_late(replay(window("0000"), settings, scripted(IDLE, *[ON_DEMAND] * 3)), settings)
    assert is_late(replay(window("0"), settings, scripted(ON_DEMAND)), settings)


# --- the bound ---------------------------------------------------------------------------------------------------------


def cheapest(one: Window, settings: Settings) -> float:
    """Every run that there is, one after the other: what the bound must find without trying them."""

    @functools.cache
    def rest(tick: int, held: int, work_s: float, delay_s: float) -> float:
        if work_s <= EPSILON_S:
            return 0.0
        if tick == len(one.available) or tick * one.gap_s + EPSILON_S >= settings.deadline_s:
            return math.inf
        held = held if held < 0 or held in one.available[tick] else IDLE
        best = math.inf
        for answer in (IDLE, ON_DEMAND, *one.available[tick]):
            owed_s = delay_s if answer == held else settings.delay_s if tick else 0.0
            worked_s = 0.0 if answer == IDLE else min(work_s, max(0.0, one.gap_s - owed_s))
            if worked_s == work_s and tick * one.gap_s + owed_s + work_s > settings.deadline_s + EPSILON_S:
                continue
            price = 0.0 if answer == IDLE else one.on_demand_usd_per_h if answer == ON_DEMAND else one.spot_usd_per_h[tick][answer]
            after = rest(tick + 1, answer, work_s - worked_s, max(0.0, owed_s - one.gap_s) if answer != IDLE else 0.0)
            best = min(best, price * one.gap_s / 3600 + after)
        return best

    return rest(0, IDLE, settings.work_s, 0.0)


@pytest.mark.parametrize(("delay_h", "deadline_h"), [(0.5, 6.0), (1.0, 6.0), (1.5, 5.5), (0.0, 4.0), (0.25, 4.25)])
def test_the_bound_is_the_cheapest_of_all_runs(delay_h: float, deadline_h: float) -> None:
    settings = Settings(3 * H, deadline_h * H, delay_h * H)
    rows = ["".join(bits) for bits in itertools.product("01", repeat=6)]
    some = [window(row) for row in rows] + [window(row, spot=2.9) for row in rows[::5]]
    for one, found in zip(some, bounds(some[: len(rows)], settings) + bounds(some[len(rows) :], settings), strict=True):
        assert found.usd == pytest.approx(cheapest(one, settings)), one.available
        assert not is_late(found, settings)
    pairs = [window(rows[a], rows[b]) for a, b in itertools.product(range(3, 64, 9), range(5, 64, 11))]
    for one, found in zip(pairs, bounds(pairs, settings), strict=True):
        assert found.usd == pytest.approx(cheapest(one, settings)), one.available


def test_the_bound_holds_what_is_free_until_it_is_taken_back() -> None:
    settings = Settings(1 * H, 6 * H, 0.0, first_hour_free=True)
    (found,) = bounds([window("10101000", gap_s=H / 2)], settings)
    assert (found.usd, found.spot_work_s, found.launches) == (0.0, 1 * H, 2)
    (paid,) = bounds([window("10101000", gap_s=H / 2)], Settings(1 * H, 6 * H, 0.0))
    assert paid.usd == 1.0


# --- traces ------------------------------------------------------------------------------------------------------------


def put(folder: Path, name: str, **document: Any) -> None:
    (folder / name).write_text(json.dumps(document))


GOOD: dict[str, Any] = {"metadata": {"gap_seconds": 600, "zone": "us-east-1a"}, "available": [0, 1, 1] * 200}


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ({"available": [1]}, "metadata"),
        ({"metadata": {"gap_seconds": 0}, "available": [1]}, "gap_seconds is 0"),
        ({"metadata": {"gap_seconds": True}, "available": [1]}, "gap_seconds is True"),
        ({"metadata": {"gap_seconds": 60}, "available": []}, "needs a list"),
        ({"metadata": {"gap_seconds": 60}, "available": [1, 0, 2]}, "tick 2 is 2"),
        ({"metadata": {"gap_seconds": 60}, "available": [1, 0], "spot_usd_per_h": [0.5]}, "one price for each of the 2 ticks"),
        ({"metadata": {"gap_seconds": 60}, "available": [1, 0], "spot_usd_per_h": [0.5, -1]}, r"spot_usd_per_h\[1\] is -1"),
        ({"metadata": {"gap_seconds": 60, "on_demand_usd_per_h": "3"}, "available": [1]}, "on_demand_usd_per_h is '3'"),
    ],
)
def test_an_unsound_trace_is_refused_with_its_file_and_what_is_wrong(tmp_path: Path, document: dict[str, Any], says: str) -> None:
    put(tmp_path, "bad.json", **document)
    with pytest.raises(TraceError, match=says) as refused:
        load(tmp_path)
    assert "bad.json" in str(refused.value)


def test_a_folder_without_traces_is_refused_and_names_those_below_it_that_have_some(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "inner").mkdir()
    put(tmp_path / "inner", "a.json", **GOOD)
    assert main(["--traces", str(tmp_path)]) == 2
    assert str(tmp_path / "inner") in capsys.readouterr().err
    assert main(["--traces", str(tmp_path / "nowhere")]) == 2
    assert "is no folder" in capsys.readouterr().err
    (tmp_path / "inner" / "b.json").write_text("{")
    assert main(["--traces", str(tmp_path / "inner")]) == 2
    assert "cannot be read as JSON" in capsys.readouterr().err


def test_a_trace_too_short_for_the_deadline_and_a_deadline_too_short_for_the_work_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(tmp_path, "a.json", **GOOD)
    assert main(["--traces", str(tmp_path), "--work-h", "90", "--deadline-h", "120"]) == 2
    assert "has 600 ticks of 600 s; a run of this deadline needs more than 722" in capsys.readouterr().err
    assert main(["--traces", str(tmp_path), "--work-h", "10", "--deadline-h", "10.1"]) == 2
    assert "cannot be met" in capsys.readouterr().err


def test_pools_of_one_region_are_replayed_side_by_side_cut_to_the_shortest(tmp_path: Path) -> None:
    put(tmp_path, "b.json", metadata={"gap_seconds": 600, "zone": "us-east-1b"}, data=[1, 0, 1, 1], spot_usd_per_h=[0.5, None, 0.6, 0.7])
    put(tmp_path, "a.json", metadata={"gap_seconds": 600, "zone": "us-east-1a"}, data=[0, 0, 1])
    put(tmp_path, "eu-west-1a_x.json", metadata={"gap_seconds": 300}, data=[1])
    pools = load(tmp_path)
    groups = {world.name: world for world in worlds(pools, "region")}
    assert [pool.name for pool in groups["us-east-1"].pools] == ["a", "b"]
    assert groups["us-east-1"].ticks == 3
    assert groups["us-east-1"].pools[1].spot_usd_per_h.tolist() == [0.5, 0.5, 0.6]
    assert groups["eu-west-1"].gap_s == 300
    assert len(worlds(pools, "each")) == 3
    assert [half_of(pools[1], which).available.tolist() for which in ("first", "second")] == [[True, False], [True, True]]
    with pytest.raises(TraceError, match="need one gap"):
        worlds(pools, "all")


def test_the_report_has_every_figure_of_every_policy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(tmp_path, "a.json", **GOOD)
    put(tmp_path, "b.json", **{**GOOD, "metadata": {"gap_seconds": 600, "zone": "us-east-1b"}, "available": [1, 0, 0] * 200})
    for together in ("each", "region", "all"):
        assert main(["--traces", str(tmp_path), "--work-h", "10", "--deadline-h", "14", "--windows", "5", "--pools", together, "--json"]) == 0
        report = json.loads(capsys.readouterr().out)
        floor = report["policies"]["bound"]
        assert floor["gap_to_bound_p75"] == 0
        for name, of in report["policies"].items():
            keys = {"cost_ratio", "usd_mean", "late", "runs", "launches_mean", "on_demand_h_mean", "spot_h_mean", "gap_to_bound_p75"}
            assert set(of) == keys, name
            assert of["cost_ratio"] >= floor["cost_ratio"] - 1e-9
            assert of["late"] == 0
            assert of["on_demand_h_mean"] + of["spot_h_mean"] == pytest.approx(10, abs=1e-3)
            assert of["runs"] == (10 if together == "each" else 5)
    assert main(["--traces", str(tmp_path), "--work-h", "10", "--deadline-h", "14", "--windows", "2"]) == 0
    assert "uniform_progress" in capsys.readouterr().out
