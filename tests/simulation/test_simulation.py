"""The simulator itself: it repeats itself exactly, sees what it must see, and tells it well. Long runs: docs/reliability.md."""

import itertools
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.simulation import exhaustive, kept, mutants, named
from tests.simulation.commands import cli
from tests.simulation.generator import random_scenario
from tests.simulation.kept import breaks
from tests.simulation.planting import EVERY, planted
from tests.simulation.scenario import BoxPlan, CallFault, JobPlan, Scenario, load
from tests.simulation.shrink import shrunk
from tests.simulation.world import World

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", named.ALL)
def test_every_named_scenario_keeps_the_promises(name: str) -> None:
    World(named.ALL[name], 0).run()


@pytest.mark.parametrize("first", range(0, 200, 20))
def test_random_seeds_keep_the_promises(first: int) -> None:
    for seed in range(first, first + 20):
        World(random_scenario(seed), seed).run()


@pytest.mark.parametrize("path", kept.paths(), ids=lambda path: path.stem)
def test_what_failed_once_is_kept_for_ever(path: Path) -> None:
    for world in kept.worlds(path):
        world.run()


@pytest.mark.parametrize("path", kept.paths(), ids=lambda path: path.stem)
def test_what_is_kept_would_fail_again(path: Path) -> None:
    """Each pinned scenario catches the bug that it was found by: otherwise it pins nothing."""
    assert kept.still_fails(path), "run `python -m tests.simulation repin`, and say in the commit which calls have changed"


def test_the_same_seed_gives_the_same_trace_whatever_the_hash_seed() -> None:
    script = (
        "import logging; logging.disable(50)\nfrom tests.simulation.world import World\nfrom tests.simulation.generator import random_scenario\n"
        "print([World(random_scenario(s), s).run().digest() for s in range(12)])"
    )
    said = set()
    for hash_seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join([str(ROOT / "functions"), str(ROOT)])}
        said.add(subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True, cwd=ROOT).stdout)
    assert len(said) == 1


def test_another_seed_gives_another_trace() -> None:
    assert World(named.ALL["two interruptions"], 1).run().digest() != World(named.ALL["two interruptions"], 2).run().digest()


def test_a_scenario_survives_being_written_down() -> None:
    for seed in range(50):
        scenario = random_scenario(seed)
        assert load(scenario.dump()) == scenario


def test_a_fault_hits_the_very_call_that_it_names() -> None:
    scenario = Scenario(calls=(CallFault("ec2.create_fleet", 0, "effect, then crash"),))
    world = World(scenario, 0).run()
    assert any("dies: after ec2.create_fleet" in line for line in world.trace())
    assert world.launches == 1, "the retry found the instance that the dead call had started"


def test_two_drivers_of_one_job_interleave() -> None:
    """Without interleaving the simulator could not see a race: one call of each, in turns."""
    world = World(random_scenario(39), 39).run()
    who = [line.split()[1:3] for line in world.trace() if "JOB#" in line]
    switches = sum(a != b and a in who[n + 2 :] for n, (a, b) in enumerate(itertools.pairwise(who)))
    assert switches > 5


@pytest.mark.parametrize(
    ("bug", "name", "rule"),
    [
        ("terminate in the home region", "cancelled abroad", "L2"),
        ("sweep of the home region", "a launch abroad that nobody knows of", "L2"),
        ("curfew of the home region", "no timer and no tick abroad", "I10"),
        ("look in the home region", "all of it abroad", "I1"),
        ("one call for all regions", "a region runs dry", "R1"),
        ("refused region again", "a region runs dry", "I14"),
    ],
)
def test_a_bug_that_forgets_the_other_region_is_caught(bug: str, name: str, rule: str) -> None:
    with mutants.planted(mutants.named(bug)):
        assert any(breaks(World(named.ALL[name], seed), rule) for seed in range(3))


def test_a_bug_that_starts_what_was_cancelled_before_its_start_is_caught() -> None:
    name = "a job that is cancelled before it starts, and nobody hears of it"
    with mutants.planted(mutants.named("starts what was cancelled")):
        assert any(breaks(World(named.ALL[name], seed), "S8") for seed in range(3))


@pytest.mark.parametrize(
    "bug",
    [
        "no client token",
        "latest template",
        "replacement beside a serving instance",
        "marker unverified",
        "unconditional put",
        "no budget",
        "no earlier writers",
    ],
)
def test_a_planted_bug_is_caught(bug: str) -> None:
    assert mutants.first_catch(mutants.named(bug), 400) is not None


def test_a_planted_bug_leaves_no_trace() -> None:
    before = World(random_scenario(3), 3).run().digest()
    for one in EVERY:
        with planted(one):
            pass
    assert World(random_scenario(3), 3).run().digest() == before


def test_a_failing_scenario_is_shrunk_to_what_the_failure_needs() -> None:
    busy = Scenario(
        jobs=(JobPlan(), JobPlan(put_s=30.0, notify=("accepted",))),
        boxes=(BoxPlan(), BoxPlan(fault="dies")),
        calls=(CallFault("s3.put_object", 3, "throttled"),),
        latency_s=0.5,
    )
    with planted(mutants.named("no tags at birth")):
        small = shrunk(busy, 0, "I4")
    assert len(small.jobs) == 1
    assert (small.calls, small.boxes[1], small.latency_s) == ((), BoxPlan(), Scenario().latency_s)


def test_a_failure_is_told_with_its_time_line_and_the_command_that_repeats_it() -> None:
    with planted(mutants.named("no tags at birth")):
        answer = CliRunner().invoke(cli, ["--seeds", "2", "--jobs", "1"])
    assert answer.exit_code == 1
    assert "python -m tests.simulation replay 0" in answer.output
    assert "was born without" in answer.output
    assert answer.output.strip().splitlines()[-1].startswith("2 seeds, ")
    assert " 2 violations" in answer.output.strip().splitlines()[-1]


def test_a_clean_run_ends_with_the_figures_and_status_0() -> None:
    answer = CliRunner().invoke(cli, ["--seeds", "3", "--jobs", "1"])
    assert answer.exit_code == 0
    assert " 0 violations" in answer.output.strip().splitlines()[-1]


def test_replay_prints_the_time_line() -> None:
    answer = CliRunner().invoke(cli, ["replay", "5", "--last", "0"])
    assert answer.exit_code == 0
    assert "puts jobs/tale-0.yaml" in answer.output
    assert "no violation" in answer.output


def test_some_of_every_exhaustive_part() -> None:
    """One in two hundred here; all of them with ``python -m tests.simulation exhaustive``."""
    few = list(exhaustive.single_faults({"one job": named.CORE["one job, start to end"]}))
    assert len(few) > 150
    assert [exhaustive.broken(case) for case in few[::20]] == [(1, [])] * len(few[::20])
    orders = list(exhaustive.orders_of_hints())
    assert len(orders) > 900
    assert [exhaustive._other_end(case) for case in orders[::200]] == [(1, [])] * len(orders[::200])


def test_a_second_fault_falls_on_the_calls_that_the_first_one_leads_to() -> None:
    """After a crash the retry's calls are there too, and the calls that the dead function would have made are not."""
    scenario = named.CORE["one job, start to end"]
    first = exhaustive.Case("a crash", replace(scenario, calls=(CallFault("ec2.create_fleet", 0, "crash before"),)))
    seconds = list(exhaustive.pairs_of_faults(first))
    hit = {(other.operation, other.nth) for case in seconds for other in case.scenario.calls[1:]}
    assert ("ec2.create_fleet", 1) in hit
    assert ("ec2.create_fleet", 0) not in hit
    assert all(case.scenario.calls[0] == first.scenario.calls[0] for case in seconds)
    assert not any(other.kind == "effect, then crash" and other.operation == "dynamodb.get_item" for case in seconds for other in case.scenario.calls)
    world = World(seconds[-1].scenario, 0).run()
    assert set(world.made) >= {(fault.operation, fault.nth) for fault in seconds[-1].scenario.calls}
