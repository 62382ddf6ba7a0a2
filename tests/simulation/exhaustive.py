"""What is not left to chance: every fault at every AWS call, every pair of faults in the core, every order of the hints."""

import logging
import multiprocessing
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import combinations, permutations

import click

from tests.simulation import named
from tests.simulation.checks import Violation
from tests.simulation.scenario import CALL_FAULTS, CallFault, Scenario
from tests.simulation.world import World

#: Hints whose every order is tried: with none, one, ... all of them delivered.
MOST_HINTS = 5


@dataclass(frozen=True)
class Case:
    """One run. ``name`` says what is done to which scenario."""

    name: str
    scenario: Scenario


def single_faults(scenarios: dict[str, Scenario] = named.ALL) -> Iterator[Case]:
    """Every call that the scenario makes when nothing fails, times every kind of fault."""
    for name, scenario in scenarios.items():
        for fault in _faults(scenario):
            yield Case(f"{name}: {fault.kind} at {fault.operation} {fault.nth}", replace(scenario, calls=(fault,)))


def pairs_of_faults(scenarios: dict[str, Scenario] = named.CORE) -> Iterator[Case]:
    for name, scenario in scenarios.items():
        for one, other in combinations(_faults(scenario), 2):
            if (one.operation, one.nth) != (other.operation, other.nth):
                yield Case(
                    f"{name}: {one.kind} at {one.operation} {one.nth}, {other.kind} at {other.operation} {other.nth}", replace(scenario, calls=(one, other))
                )


def _faults(scenario: Scenario) -> list[CallFault]:
    calls = World(scenario, 0).run().calls
    return [CallFault(operation, nth, kind) for operation, count in calls.items() for nth in range(count) for kind in CALL_FAULTS]


def orders_of_hints() -> Iterator[Case]:
    """An interrupted job's hints: every choice of them in every order, each once, each twice, and the whole list again."""
    scenario = named.CORE["an interruption with notice"]
    for count in range(MOST_HINTS + 1):
        for order in permutations(range(MOST_HINTS), count):
            doubled = tuple(hint for hint in order for _ in range(2))
            for hints in dict.fromkeys((order, doubled, order + order)):
                yield Case(f"hints {hints}", replace(scenario, hints=hints))


def outcome(scenario: Scenario) -> tuple[tuple[str, str, int], ...]:
    """What a run comes to, times and attempts apart: each job's end and its e-mails. Raises Violation."""
    world = World(scenario, 0).run()
    return tuple((job.name, job.state.value, len(job.notices)) for job in sorted(world.checks.jobs.values(), key=lambda job: job.name))


def broken(case: Case) -> str:
    """The promise that the case breaks, or an empty text."""
    try:
        World(case.scenario, 0).run()
    except Violation as violation:
        return f"{case.name}: {violation}"
    return ""


def _other_end(case: Case) -> str:
    """The difference from the ticks alone, or an empty text."""
    try:
        alone, now = outcome(replace(case.scenario, hints=())), outcome(case.scenario)
    except Violation as violation:
        return f"{case.name}: {violation}"
    return "" if alone == now else f"{case.name}: ended as {now}, ticks alone as {alone}"


def run(pairs: bool, jobs: int) -> int:
    """Try everything; 1 if a promise was broken."""
    logging.disable(logging.CRITICAL)
    found = 0
    parts: list[tuple[str, Iterable[Case], Callable[[Case], str]]] = [
        (f"every fault at every call of {len(named.ALL)} scenarios", single_faults(), broken),
        (f"every order of {MOST_HINTS} hints", orders_of_hints(), _other_end),
    ]
    if pairs:
        parts.append((f"every pair of faults in {len(named.CORE)} scenarios", pairs_of_faults(), broken))
    for what, cases, check in parts:
        found += _tried(what, cases, check, jobs)
    return 1 if found else 0


def _tried(what: str, cases: Iterable[Case], check: Callable[[Case], str], jobs: int) -> int:
    started = said = time.monotonic()
    done = bad = 0
    with multiprocessing.get_context("fork").Pool(jobs) as pool:
        for answer in pool.imap_unordered(check, cases, chunksize=20):
            done += 1
            if answer:
                bad += 1
                click.echo(f"  {answer}")
            if time.monotonic() - said >= 10:
                said = time.monotonic()
                click.echo(f"  {done} so far, {done / (said - started):.0f} a second", err=True)
    click.echo(f"{what}: {done} runs, {done / (time.monotonic() - started):.0f} a second, {bad} violations")
    return bad
