"""What each room promises (pyproject.toml, import-linter) is kept, a breach of each promise is seen, and the page draws the rooms as they are."""

import re
import shutil
import subprocess
import sys
import tomllib
from graphlib import CycleError
from pathlib import Path

import pytest

from tools import rooms

ROOT = Path(__file__).parents[1]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
LINT = Path(sys.executable).parent / "lint-imports"

#: The contract, the file that breaks it, and the line that does.
BREACHES = [
    ("one-way", "control_plane/look.py", "from control_plane.driver import Driver"),
    ("one-way", "control_plane/core/decide.py", "from control_plane.ports import Clock"),
    ("one-way", "control_plane/adapters/s3.py", "from control_plane.look import Watcher"),
    ("one-way", "control_plane/a_room_without_a_place.py", ""),
    ("adapters", "control_plane/driver.py", "def late():\n    from control_plane.adapters.s3 import S3Objects"),
    ("adapters", "control_plane/settings.py", "from control_plane.adapters.clients import client"),
    ("aws", "jobspec/keys.py", "import boto3"),
    ("aws", "trainer/finish.py", "from botocore.exceptions import ClientError"),
    ("aws", "control_plane/tick.py", "import boto3"),
    ("doors", "control_plane/tick.py", "from aws_lambda_powertools import Logger"),
    ("torch", "agent/store.py", "import torch"),
    ("torch", "dropforge/plan/show.py", "from transformers import AutoConfig"),
    ("core", "control_plane/core/decide.py", "import time"),
    ("core", "control_plane/core/letters.py", "import logging"),
    ("pages", "pages/charts.py", "import os"),
    ("drawn", "control_plane/tick.py", "from pages import charts"),
    ("contract", "jobspec/keys.py", "from control_plane.core.state import Job"),
    ("contract", "jobspec/units.py", "import time"),
    ("strangers", "trainer/rows.py", "from agent.store import Store"),
    ("strangers", "dropforge/stack.py", "from control_plane.ports import Clock"),
    ("strangers", "agent/store.py", "from trainer.digests import file_sha256"),
    ("no-credentials", "trainer/finish.py", "import urllib.request"),
    ("planning", "planning/memory.py", "import socket"),
    ("planned", "control_plane/submission.py", "from planning.estimate import plan_of"),
    ("workshop", "dropforge/cli.py", "from tools.stack import Stack"),
    ("circles", "jobspec/units.py", "from jobspec.manifest import Manifest"),
    ("circles", "dropforge/manifests/summary.py", "from dropforge.jobs.find import ENDS"),
]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is shipped, to be spoilt."""
    house = tmp_path_factory.mktemp("house")
    for package in SETTINGS["root_packages"]:
        found = next(folder for folder in (ROOT / "functions" / package, ROOT / package) if folder.is_dir())
        shutil.copytree(found, house / package, ignore=shutil.ignore_patterns("__pycache__", "shims"))
    shutil.copy(ROOT / "pyproject.toml", house)
    return house


def linted(house: Path, *contracts: str) -> str:
    """What import-linter says of the copy, on one line."""
    chosen = [word for contract in contracts for word in ("--contract", contract)]
    done = subprocess.run([str(LINT), "--no-cache", *chosen], cwd=house, env={"PYTHONPATH": str(house)}, capture_output=True, text=True, check=False)
    return re.sub(r"\s+", " ", done.stdout + done.stderr)


def test_every_promise_is_kept(house: Path) -> None:
    assert f"Contracts: {len(SETTINGS['contracts'])} kept, 0 broken." in linted(house)


def test_every_promise_has_a_breach_here() -> None:
    assert {contract["id"] for contract in SETTINGS["contracts"]} == {contract for contract, _, _ in BREACHES}


@pytest.mark.parametrize(("contract", "file", "line"), BREACHES, ids=[f"{contract}: {file}" for contract, file, _ in BREACHES])
def test_a_breach_is_seen(house: Path, contract: str, file: str, line: str) -> None:
    path = house / file
    before = path.read_text() if path.exists() else None
    path.write_text(f"{before or ''}\n{line}\n")
    try:
        assert "Contracts: 0 kept, 1 broken." in linted(house, contract)
    finally:
        path.unlink() if before is None else path.write_text(before)


def test_the_page_shows_the_rooms_as_they_are() -> None:
    page = rooms.TARGET.read_text()
    assert rooms.page(page) == page, "run: make generate"
    assert "control_plane.handlers --> control_plane.adapters" in page


def test_an_arrow_that_follows_from_others_is_left_out() -> None:
    house = {"door": frozenset({"driver", "core"}), "driver": frozenset({"core"}), "core": frozenset[str]()}
    assert rooms.arrows(house) == [("door", "driver"), ("driver", "core")]


def test_two_rooms_that_need_each_other_cannot_be_drawn() -> None:
    with pytest.raises(CycleError):
        rooms.arrows({"agent": frozenset({"trainer"}), "trainer": frozenset({"agent"})})
