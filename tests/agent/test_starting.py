"""What the agent tells of its instance's start."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.progress import Told
from agent.starting import before_agent, in_trainer

NOW = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
OWN = {"prepare": 4.0, "import": 9.0, "load": 20.0, "measure": 12.0, "first_step": 8.0}


def told(folder: Path, text: str, ago_s: float = 7.0) -> Path:
    path = folder / "stages"
    path.write_text(text)
    os.utime(path, (NOW.timestamp() - ago_s,) * 2)
    return path


def test_the_seconds_before_the_agent_come_from_the_script_and_the_kernels_age(tmp_path: Path) -> None:
    (tmp_path / "uptime").write_text("210.50 99.00\n")
    stages_s = before_agent(told(tmp_path, "3 163\n"), NOW, tmp_path / "uptime")
    assert stages_s == {"boot": 40.5, "bootstrap": 3.0, "pull": 160.0, "agent": 7.0}
    assert sum(stages_s.values()) == 210.5


def test_a_kernel_that_is_not_the_instances_tells_no_boot(tmp_path: Path) -> None:
    assert before_agent(told(tmp_path, "0 2\n"), NOW, None) == {"bootstrap": 0.0, "pull": 2.0, "agent": 7.0}


@pytest.mark.parametrize("text", ["", "3", "3 -1\n", "a b\n", "3 99999999\n", "1 2 3\n"])
def test_what_cannot_be_read_tells_nothing(tmp_path: Path, text: str) -> None:
    assert before_agent(told(tmp_path, text), NOW) == {}
    assert before_agent(tmp_path / "none", NOW) == {}


def test_what_no_stage_of_the_trainer_says_was_the_start_of_its_container() -> None:
    found = in_trainer(Told(started_at=NOW, stages_s=OWN), NOW - timedelta(seconds=35))
    assert found == (OWN | {"trainer": 2.0}, NOW + timedelta(seconds=20))


def test_without_a_first_step_there_is_nothing_to_tell() -> None:
    assert in_trainer(Told(started_at=NOW), NOW) is None
    assert in_trainer(Told(stages_s=OWN), NOW) is None


def test_an_agent_that_does_not_know_when_it_asked_tells_the_rest() -> None:
    assert in_trainer(Told(started_at=NOW, stages_s=OWN), None) == (OWN, NOW + timedelta(seconds=20))
