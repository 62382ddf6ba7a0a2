"""The transitions' calls are counted by the doors' own run; shares are of what was measured."""

import base64
from pathlib import Path

import pytest

from bench.launch_latency import LEAST, MATTERS, calls, idle_template, share
from dropforge.translation import read


def test_each_transition_makes_its_call_once_and_nothing_below_the_least() -> None:
    found = calls()
    assert set(found) == set(MATTERS) == set(LEAST)
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
