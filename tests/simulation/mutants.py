"""Planted bugs: each is one small, named change to the real code, such as a hand in a hurry makes. A checker that has not
been seen to catch them is not to be trusted. The bugs lie by what they spoil, in ``mutants_*.py`` beside this file.

``hunt`` plants one after the other and runs seeds until a promise breaks. A bug that nobody catches is a hole in the checks.
"""

import logging
import multiprocessing
import statistics
import time

import click

# Planted by being read.
from tests.simulation import mutants_ends, mutants_gangs, mutants_instances, mutants_kin, mutants_launches, mutants_looks, mutants_mails, mutants_records  # noqa: F401
from tests.simulation.checks import Violation
from tests.simulation.generator import random_scenario
from tests.simulation.named import ALL as SCENARIOS
from tests.simulation.planting import EVERY, Mutant, planted
from tests.simulation.scenario import Scenario
from tests.simulation.world import World

#: Timings in which a bug that no seed catches is tried in each named scenario.
NAMED_TIMINGS = 3


def named(name: str) -> Mutant:
    """Raises KeyError for a name that no planted bug has."""
    return {one.name: one for one in EVERY}[name]


def first_catch(one: Mutant, seeds: int) -> tuple[int, str] | None:
    """The first seed that catches the bug, and how; None where none of them does. A crash of the code is a catch too.

    A seed that fails without the bug catches nothing.
    """
    for seed in range(seeds):
        with planted(one):
            found = _failure(seed)
        if found and not _failure(seed):
            return seed, found
    return None


def named_catch(one: Mutant) -> tuple[str, str] | None:
    """The first named scenario that catches the bug in one of some timings, and how: for what chance seldom brings about."""
    for name, scenario in SCENARIOS.items():
        for seed in range(NAMED_TIMINGS):
            with planted(one):
                found = _failure(seed, scenario)
            if found and not _failure(seed, scenario):
                return name, found
    return None


def _failure(seed: int, scenario: Scenario | None = None) -> str:
    try:
        World(scenario or random_scenario(seed), seed).run()
    except Violation as violation:
        return str(violation)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def _try(arguments: tuple[int, int]) -> tuple[int, tuple[int, str] | None, tuple[str, str] | None, float]:
    number, seeds = arguments
    logging.disable(logging.CRITICAL)
    started = time.monotonic()
    found = first_catch(EVERY[number], seeds)
    return number, found, named_catch(EVERY[number]) if found is None else None, time.monotonic() - started


def hunt(seeds: int, jobs: int, only: str) -> int:
    """Plant each bug. 1 if one escapes."""
    wanted = [(number, seeds) for number, one in enumerate(EVERY) if only in one.name]
    caught: list[int] = []
    by_name = 0
    with multiprocessing.get_context("fork").Pool(jobs) as pool:
        for number, found, scenario, took_s in pool.imap_unordered(_try, wanted):
            one = EVERY[number]
            if found is not None:
                caught.append(found[0])
            by_name += scenario is not None
            told = f"ESCAPED {seeds} seeds"
            if found is not None:
                told = f"seed {found[0]:>5}: {found[1][:110]}"
            elif scenario is not None:
                told += f", caught by the scenario {scenario[0]!r}: {scenario[1][:80]}"
            click.echo(f"{one.name:<45} {told}  [{took_s:.1f} s]\n{'':<45} ({one.what})")
    if caught:
        click.echo(f"first seeds: median {statistics.median(caught):.0f}, worst {max(caught)}")
    click.echo(f"caught {len(caught) + by_name} of {len(wanted)}" + (f", {by_name} of them by a named scenario only" if by_name else ""))
    return 0 if len(caught) + by_name == len(wanted) else 1
