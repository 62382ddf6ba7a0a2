"""The targets in the ordinary test run: every seed, every input that was ever found, and a short campaign, the same each time."""

from pathlib import Path

import pytest

from tests.fuzz import campaign
from tests.fuzz.targets import TARGETS

#: Inputs for each target here; the long campaigns are `python -m tests.fuzz --all`. The slowest target takes some three seconds.
RUNS = {"letter": 500, "manifest": 3000, "budget-mail": 3000}
KEPT = [path for name in TARGETS for path in (*campaign.seeds_of(name), *campaign.found_of(name))]


@pytest.mark.parametrize("path", KEPT, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_kept_input_keeps_the_promises(path: Path) -> None:
    TARGETS[path.parent.name](path.read_bytes())


def test_every_target_has_seeds_and_an_input_of_each_answer() -> None:
    assert {path.name for path in campaign.SEEDS.iterdir()} == set(TARGETS)
    for name in TARGETS.keys() - {"events", "budget-mail", "letter", "key"}:
        said = {TARGETS[name](path.read_bytes()) for path in campaign.seeds_of(name)}
        assert "accepted" in said, name


@pytest.mark.skipif(not campaign.has_engine(), reason=campaign.NO_ENGINE)
@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", TARGETS)
def test_no_mutation_of_the_seeds_breaks_a_promise(name: str, tmp_path: Path) -> None:
    result = campaign.fuzz(name, seed=1, runs=RUNS.get(name, 5000), keep=tmp_path)
    assert result.crash is None, result.said
    assert result.runs > 0
    assert result.edges > 0, "the engine saw no coverage"


@pytest.mark.skipif(not campaign.has_engine(), reason=campaign.NO_ENGINE)
def test_the_engine_finds_a_planted_bug_and_keeps_its_input(tmp_path: Path) -> None:
    # A reader that does not make a stranger's key printable, as jobspec/wire.py once was; planted in the engine's process alone.
    (tmp_path / "sitecustomize.py").write_text("import jobspec.problems\njobspec.problems.shown = str\n")
    result = campaign.fuzz("heartbeat", seed=1, runs=20_000, keep=tmp_path / "found", path=(tmp_path, campaign.ROOT / "functions"))
    assert result.crash is not None
    assert "not printable ASCII" in result.said
    assert TARGETS["heartbeat"](result.crash.read_bytes()) == "unknown key"
