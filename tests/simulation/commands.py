"""The simulator's command line: seeds, replay, shrink, repin, mutants, exhaustive."""

import gc
import logging
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click

from tests.simulation import exhaustive, kept, mutants
from tests.simulation.checks import Violation
from tests.simulation.generator import random_scenario
from tests.simulation.scenario import Scenario, load
from tests.simulation.shrink import shrunk
from tests.simulation.world import World

#: Seeds that one process takes at a time.
_CHUNK = 25


@click.group(invoke_without_command=True)
@click.option("--seeds", default=1000, show_default=True, help="How many seeds to run.")
@click.option("--first", default=0, show_default=True, help="The first seed.")
@click.option("--jobs", default=os.cpu_count() or 1, show_default="cores", help="Processes.")
@click.pass_context
def cli(context: click.Context, seeds: int, first: int, jobs: int) -> None:
    """Run the control plane against an in-memory AWS, seed by seed, and hold it to its promises.

    Exit status 1 if a promise was broken. The last line: seeds, seeds a second, violations.
    """
    logging.disable(logging.CRITICAL)
    if context.invoked_subcommand is None:
        context.exit(_run_seeds(first, seeds, jobs))


@cli.command()
@click.argument("what")
@click.option("--shrink/--whole", default=True, help="Take away what the failure does not need first.")
@click.option("--last", default=120, show_default=True, help="Lines of the time line to print; 0 for all.")
def replay(what: str, shrink: bool, last: int) -> None:
    """Replay a SEED, or a scenario FILE, and print its time line."""
    if Path(what).is_file():
        scenario, seed = load(Path(what).read_text()), 0
    else:
        seed = int(what)
        scenario = random_scenario(seed)
    violation = _violation(scenario, seed)
    if violation is not None and shrink:
        scenario = shrunk(scenario, seed, violation.rule, say=click.echo)
    sys.exit(_tell(scenario, seed, last))


@cli.command("mutants")
@click.option("--seeds", default=10_000, show_default=True, help="Seeds to try for each planted bug.")
@click.option("--jobs", default=os.cpu_count() or 1, show_default="cores", help="Processes.")
@click.option("--only", default="", help="Only the planted bugs whose name holds this.")
def plant(seeds: int, jobs: int, only: str) -> None:
    """Plant each known bug and say which seed first catches it. Exit status 1 if one escapes."""
    sys.exit(mutants.hunt(seeds, jobs, only))


@cli.command("exhaustive")
@click.option("--pairs/--single", default=False, help="All pairs of faults in the core scenarios, instead.")
@click.option("--jobs", default=os.cpu_count() or 1, show_default="cores", help="Processes.")
def every_fault(pairs: bool, jobs: int) -> None:
    """Try every fault at every AWS call of the named scenarios. Exit status 1 if a promise was broken."""
    sys.exit(exhaustive.run(pairs, jobs))


@cli.command()
def repin() -> None:
    """Find new seeds for the pinned scenarios that changed calls have put out of step. Exit status 1 if one finds none."""
    found = [kept.repin(path, click.echo) for path in kept.paths()]
    sys.exit(0 if all(found) else 1)


def _violation(scenario: Scenario, seed: int) -> Violation | None:
    try:
        World(scenario, seed).run()
    except Violation as violation:
        return violation
    return None


def _one(seed: int) -> tuple[int, str]:
    """A crash of the code is a violation too: a long run goes on."""
    if not seed % _CHUNK:
        gc.collect()
    try:
        World(random_scenario(seed), seed).run()
    except Violation as violation:
        return seed, str(violation)
    except Exception as error:
        return seed, f"{type(error).__name__}: {error}"
    return seed, ""


def _quietly() -> None:
    """A world is garbage once it is over: collected between worlds, and the modules never looked through."""
    logging.disable(logging.CRITICAL)
    gc.freeze()
    gc.disable()


def results(first: int, seeds: int, jobs: int) -> Iterator[tuple[int, str]]:
    """(seed, violation or "") for each seed, in whatever order they finish."""
    if jobs == 1:
        yield from map(_one, range(first, first + seeds))
        return
    with multiprocessing.get_context("fork").Pool(jobs, initializer=_quietly) as pool:
        yield from pool.imap_unordered(_one, range(first, first + seeds), chunksize=_CHUNK)


def _run_seeds(first: int, seeds: int, jobs: int) -> int:
    started = said = time.monotonic()
    broken: list[tuple[int, str]] = []
    done = 0
    for seed, violation in results(first, seeds, jobs):
        done += 1
        if violation:
            broken.append((seed, violation))
            click.echo(f"seed {seed}: {violation}")
        if time.monotonic() - said >= 10:
            said = time.monotonic()
            click.echo(f"  {done} of {seeds} seeds, {done / (said - started):.0f} a second", err=True)
    if broken:
        seed = min(seed for seed, _ in broken)
        click.echo(f"\nThe first broken seed, shrunk. To see it again: python -m tests.simulation replay {seed}\n")
        scenario = random_scenario(seed)
        rule = dict(broken)[seed].split(":")[0]
        _tell(shrunk(scenario, seed, rule, say=click.echo), seed, 80)
    took_s = time.monotonic() - started
    click.echo(f"{done} seeds, {done / took_s:.1f} seeds a second, {len(broken)} violations  [{_commit()}, {jobs} process(es)]")
    return 1 if broken else 0


def _tell(scenario: Scenario, seed: int, last: int) -> int:
    """Print a run's time line. 1 if it broke a promise."""
    world = World(scenario, seed)
    broken = ""
    try:
        world.run()
    except Violation as violation:
        broken = str(violation)
    lines = world.trace()[-last:] if last else world.trace()
    click.echo("   seconds  who                    what")
    click.echo("\n".join(lines))
    click.echo(f"\nscenario (keep it as tests/simulation/pinned/NAME.json):\n{scenario.dump()}\n")
    click.echo(f"trace {world.digest()}; {'VIOLATION ' + broken if broken else 'no violation'}")
    return 1 if broken else 0


def _commit() -> str:
    answer = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False, cwd=Path(__file__).parent)
    return f"commit {answer.stdout.strip()}" if answer.returncode == 0 else "no commit"


def main() -> int:
    cli(prog_name="python -m tests.simulation", standalone_mode=True)
    return 0
