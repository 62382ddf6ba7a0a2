"""What is not left to chance: every fault at every AWS call, every pair of faults in the core, every order of the hints."""

import logging
import multiprocessing
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import permutations

import click

from tests.simulation import named
from tests.simulation.checks import Violation
from tests.simulation.scenario import CALL_FAULTS, CRASH_AFTER, CallFault, Scenario
from tests.simulation.world import World

#: Hints whose every order is tried: with none, one, ... all of them delivered.
MOST_HINTS = 5


@dataclass(frozen=True)
class Case:
    """One run. ``name`` says what is done to which scenario."""

    name: str
    scenario: Scenario


def single_faults(scenarios: dict[str, Scenario] = named.EXHAUSTIBLE) -> Iterator[Case]:
    """Every call that the scenario makes when nothing fails, times every kind of fault."""
    for name, scenario in scenarios.items():
        for fault in _faults(World(scenario, 0).run().made):
            yield Case(f"{name}: {fault.kind} at {fault.operation} {fault.nth}", replace(scenario, calls=(fault,)))


def pairs_of_faults(first: Case) -> Iterator[Case]:
    """A second fault at every call that is made after the first fault, in the very run that the first one leads to."""
    (one,) = first.scenario.calls
    world = World(first.scenario, 0).run()
    after = world.made[world.made.index((one.operation, one.nth)) + 1 :]
    for other in _faults(after):
        yield Case(f"{first.name}, then {other.kind} at {other.operation} {other.nth}", replace(first.scenario, calls=(one, other)))


def _faults(calls: list[tuple[str, int]]) -> list[CallFault]:
    return [CallFault(operation, nth, kind) for operation, nth in calls for kind in CALL_FAULTS if not (kind == CRASH_AFTER and _only_reads(operation))]


def _only_reads(operation: str) -> bool:
    """A function that dies after a read leaves the world as one that dies before it: with nothing done and nobody told."""
    return operation.partition(".")[2].startswith(("get_", "head_", "list_", "describe_", "query"))


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


#: How many runs a case took, and what was found.
Answer = tuple[int, list[str]]


def broken(case: Case) -> Answer:
    """The promise that the case breaks."""
    try:
        World(case.scenario, 0).run()
    except Violation as violation:
        return 1, [f"{case.name}: {violation}"]
    return 1, []


def broken_by_a_second(first: Case) -> Answer:
    """The promises that the case breaks with a second fault after its own."""
    found = broken(first)[1]
    cases = list(pairs_of_faults(first)) if not found else []
    for case in cases:
        found += broken(case)[1]
    return len(cases), found


def _other_end(case: Case) -> Answer:
    """The difference from the ticks alone."""
    try:
        alone, now = outcome(replace(case.scenario, hints=())), outcome(case.scenario)
    except Violation as violation:
        return 1, [f"{case.name}: {violation}"]
    return 1, [] if alone == now else [f"{case.name}: ended as {now}, ticks alone as {alone}"]


def run(pairs: bool, jobs: int) -> int:
    """Try everything; 1 if a promise was broken."""
    logging.disable(logging.CRITICAL)
    found = 0
    parts: list[tuple[str, Iterable[Case], Callable[[Case], Answer]]] = [
        (f"every fault at every call of {len(named.EXHAUSTIBLE)} scenarios", single_faults(), broken),
        (f"every order of {MOST_HINTS} hints", orders_of_hints(), _other_end),
    ]
    if pairs:
        parts = [(f"every pair of faults in {len(named.CORE)} scenarios", single_faults(named.CORE), broken_by_a_second)]
    for what, cases, check in parts:
        found += _tried(what, cases, check, jobs)
    return 1 if found else 0


def _tried(what: str, cases: Iterable[Case], check: Callable[[Case], Answer], jobs: int) -> int:
    started = said = time.monotonic()
    done = bad = 0
    with multiprocessing.get_context("fork").Pool(jobs) as pool:
        for runs, answers in pool.imap_unordered(check, cases, chunksize=1 if check is broken_by_a_second else 20):
            done += runs
            bad += len(answers)
            for answer in answers:
                click.echo(f"  {answer}")
            if time.monotonic() - said >= 10:
                said = time.monotonic()
                click.echo(f"  {done} so far, {done / (said - started):.0f} a second", err=True)
    click.echo(f"{what}: {done} runs, {done / (time.monotonic() - started):.0f} a second, {bad} violations")
    return bad
