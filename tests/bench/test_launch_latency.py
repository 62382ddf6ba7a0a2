"""The transitions' calls are counted by the doors' own run; shares are of what was measured."""

import base64
import json
from pathlib import Path

import pytest

from bench.door_lines import DOORS, Doors, doors, share
from bench.launch_latency import LEAST, MATTERS, calls, idle_template
from dropforge.translation import read


def test_each_transition_makes_its_call_once_and_nothing_below_the_least() -> None:
    found = calls()
    assert set(found) == set(MATTERS) == set(LEAST) == set(DOORS)
    for name, (operation, least) in MATTERS.items():
        assert found[name].index(operation) + 1 >= least == LEAST[name].count(", ") + 1, name


@pytest.mark.parametrize(("part", "value"), [(0.5, 50), (0.95, 95), (1.0, 100)])
def test_a_share_is_the_value_that_so_many_do_not_exceed(part: float, value: int) -> None:
    assert share([float(one) for one in range(100, 0, -1)], part) == value
    assert share([7.0], part) == 7.0


def test_instances_without_user_data_are_the_only_difference_to_the_template(tmp_path: Path) -> None:
    ours, theirs = read(idle_template(tmp_path)), read(Path("template.yaml"))
    data = ours["Resources"]["LaunchTemplate"]["Properties"]["LaunchTemplateData"]
    assert not base64.b64decode(data["UserData"]).startswith(b"#!")
    data["UserData"] = theirs["Resources"]["LaunchTemplate"]["Properties"]["LaunchTemplateData"]["UserData"]
    ours["Globals"]["Function"]["CodeUri"] = theirs["Globals"]["Function"]["CodeUri"]
    assert ours["Resources"] == theirs["Resources"]


def _logged(home: Path, function: str, at: float, *, error: bool = False, **said: object) -> None:
    entry = {"at": at, "function": f"dropforge-{function}-1A2B", "error": error, "lines": ["START", json.dumps({"message": "handled", **said})]}
    (home / "logs").mkdir(exist_ok=True)
    with (home / "logs" / f"{function}.jsonl").open("a") as out:
        out.write(json.dumps(entry) + "\n")


def test_the_doors_own_time_is_told_apart_by_whether_their_process_had_just_started(tmp_path: Path) -> None:
    _logged(tmp_path, "SubmitFunction", 9, took_ms=1.0, cold_start=False, outcome="done")
    _logged(tmp_path, "SubmitFunction", 11, took_ms=300.5, cold_start=True, outcome="done")
    _logged(tmp_path, "SubmitFunction", 12, took_ms=80.5, cold_start=False, outcome="done")
    _logged(tmp_path, "CompletionFunction", 12, took_ms=3.0, cold_start=False, outcome="ignored")
    _logged(tmp_path, "ReportFunction", 13, took_ms=7.0, cold_start=False, outcome="done")
    found = doors(tmp_path, 10)
    assert found == {"manifest to launch": Doors([80.5], [300.5]), "warning to replacement": Doors([], []), "marker to end": Doors([], [])}
    assert "1 just started: p50 300" in found["manifest to launch"].told()
    _logged(tmp_path, "ReportFunction", 14, error=True)
    with pytest.raises(SystemExit, match="ReportFunction"):
        doors(tmp_path, 10)
