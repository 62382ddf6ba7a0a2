"""``python -m bench.spot`` on traces of other shapes than those of ../shared: a right answer, or a sentence that says what is wrong and where."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from bench.spot.__main__ import main

JOB = ["--work-h", "10", "--deadline-h", "14", "--delay-h", "0.2"]
NAMES = {"greedy", "uniform_progress", "bound", "dropforge"}
FIGURES = {"cost_ratio", "usd_mean", "late", "runs", "launches_mean", "on_demand_h_mean", "spot_h_mean", "gap_to_bound_p75"}
#: What the paper's prices are to each other, which stand in where a trace has none.
SPOT_SHARE = 0.9731 / 3.06


def spells(seed: int, ticks: int) -> list[int]:
    """Capacity that comes and goes, in spells of one to forty ticks."""
    dice, series = random.Random(seed), []
    while len(series) < ticks:
        series += [len(series) % 2] * dice.randint(1, 40)
    return series[:ticks]


def put(folder: Path, name: str, available: list[Any], gap_s: float = 300, newline: str = "\n", **more: Any) -> None:
    metadata = {"gap_seconds": gap_s, "zone": more.pop("zone", name.split("_")[0]), "instance_type": "p9.huge", "note": None} | more.pop("metadata", {})
    document = {"metadata": metadata, "available": available, "columns": ["a", "b"], "probe": {"by": "somebody"}} | more
    (folder / f"{name}.json").write_bytes(json.dumps(document, indent=1).replace("\n", newline).encode())


def odd_folder(folder: Path, gap_s: float) -> Path:
    """Two regions: pools of different lengths, one always up, one never, prices with gaps, CRLF, a byte order mark; and files that are no traces."""
    ticks = int(60 * 3600 / gap_s)
    put(folder, "us-east-1a_x_1", spells(1, ticks), gap_s, newline="\r\n")
    put(folder, "us-east-1b_x_1", spells(2, ticks - 7), gap_s, spot_usd_per_h=[None, 0.7, *[None] * 5, 0.8] + [0.9] * (ticks - 15))
    put(folder, "us-east-1c_x_1", [0] * (ticks + 50), gap_s, metadata={"on_demand_usd_per_h": 2})
    put(folder, "eu-north-1a_x_1", [True] * ticks, gap_s)
    marked = folder / "eu-north-1a_x_1.json"
    marked.write_bytes(b"\xef\xbb\xbf" + marked.read_bytes())
    (folder / "README.md").write_text("What this is.")
    (folder / "prices.csv").write_text("zone,usd\r\n")
    (folder / "older").mkdir()
    (folder / "older" / "broken.json").write_text("{")
    return folder


def report(capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, Any]:
    assert main([*options, *JOB, "--json"]) == 0, capsys.readouterr().err
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


@pytest.mark.parametrize("gap_s", [300, 900])
@pytest.mark.parametrize(("together", "groups"), [("each", 4), ("region", 2), ("all", 1)])
def test_a_folder_of_odd_shapes_gives_every_figure_and_nobody_is_late(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], gap_s: float, together: str, groups: int
) -> None:
    traces = str(odd_folder(tmp_path, gap_s))
    for windows in (1, 7):
        paid, free = (report(capsys, "--traces", traces, "--pools", together, "--windows", str(windows), *rule) for rule in ([], ["--first-hour-free"]))
        assert {"settings", "policies"} <= set(paid)
        assert set(paid["policies"]) == NAMES
        for name, of in paid["policies"].items():
            assert set(of) == FIGURES, name
            assert (of["late"], of["runs"]) == (0, groups * windows), name
            assert of["on_demand_h_mean"] + of["spot_h_mean"] == pytest.approx(10, abs=1e-3), name
            assert of["cost_ratio"] >= paid["policies"]["bound"]["cost_ratio"] - 1e-6, name
            assert free["policies"][name]["cost_ratio"] <= of["cost_ratio"] + 1e-6, name
        assert (paid["settings"]["first_hour_free"], free["settings"]["first_hour_free"]) == (False, True)


def test_a_pool_that_is_always_up_costs_spot_and_one_that_never_is_costs_on_demand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """10 h and a start of 12 min: 123 started ticks of five minutes, against 120 of on-demand from the start; the bound's first start costs no time."""
    put(tmp_path, "us-east-1a_always", [1] * 400)
    put(tmp_path, "us-west-1a_never", [0] * 400)
    of = report(capsys, "--traces", str(tmp_path), "--windows", "3")["worlds"]
    always, never = of["us-east-1a_always"], of["us-west-1a_never"]
    for name in NAMES:
        ticks = 120 if name == "bound" else 123
        assert always[name]["cost_ratio"] == pytest.approx(ticks / 120 * SPOT_SHARE, abs=1e-5), name
        assert never[name]["cost_ratio"] == pytest.approx(ticks / 120, abs=1e-5), name
        assert (always[name]["spot_h_mean"], never[name]["on_demand_h_mean"]) == (10, 10), name


def test_one_pool_alone_is_the_same_world_by_itself_as_a_region_and_as_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(tmp_path, "somewhere", spells(5, 500), zone="my-cellar")
    found = [report(capsys, "--traces", str(tmp_path), "--pools", together, "--windows", "4")["policies"] for together in ("each", "region", "all")]
    assert found[0] == found[1] == found[2]


def test_pools_of_one_run_are_cut_to_the_shortest_and_each_by_itself_is_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(tmp_path, "us-east-1a_long", [1] * 400)
    put(tmp_path, "us-east-1b_short", [1] * 100)
    assert main(["--traces", str(tmp_path), *JOB, "--pools", "region"]) == 2
    assert "us-east-1 has 100 ticks of 300 s; a run of this deadline needs more than 170" in capsys.readouterr().err
    assert main(["--traces", str(tmp_path), *JOB]) == 2
    assert "us-east-1b_short has 100 ticks" in capsys.readouterr().err


def test_ticks_of_five_and_of_fifteen_minutes_go_side_by_side_but_not_into_one_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(tmp_path, "us-east-1a_five", spells(3, 400), gap_s=300)
    put(tmp_path, "us-east-1b_fifteen", spells(4, 400), gap_s=900)
    assert set(report(capsys, "--traces", str(tmp_path), "--windows", "2")["worlds"]) == {"us-east-1a_five", "us-east-1b_fifteen"}
    for together in ("region", "all"):
        assert main(["--traces", str(tmp_path), *JOB, "--pools", together]) == 2
        assert "probed every 300 and 900 s" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"metadata": {"gap_seconds": 300}, "available": [1, null, 0]}', "tick 1 is None; a tick is 1 (available) or 0"),
        ('{"metadata": {"gap_seconds": 300}, "available": ["1", "0"]}', "tick 0 is '1'"),
        ('{"metadata": {"gap_seconds": 300}, "available": [1, NaN]}', "tick 1 is nan"),
        ('{"metadata": {"gap_seconds": 300}, "available": {"0": 1}}', "needs a list `available`"),
        ('{"metadata": {"gap_seconds": 300}, "available": [1, [0]]}', "tick 1 is [0]"),
        ('{"metadata": {"gap_seconds": "5 min"}, "available": [1]}', "gap_seconds is '5 min'"),
        ('[{"available": [1]}]', "is no trace"),
        ('{"pools": 3}', "is no trace"),
        ("", "cannot be read as JSON"),
    ],
)
def test_a_gap_in_the_probes_or_another_json_file_is_named_and_no_run_begins(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, says: str) -> None:
    put(tmp_path, "us-east-1a_good", [1] * 400)
    (tmp_path / "us-east-1b_odd.json").write_text(text)
    for together in ("each", "region", "all"):
        assert main(["--traces", str(tmp_path), *JOB, "--pools", together]) == 2
        told = capsys.readouterr()
        assert says in told.err
        assert "us-east-1b_odd.json" in told.err
        assert told.out == ""
