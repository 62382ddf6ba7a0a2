"""From a failing scenario to a small one: a part is taken away for as long as the same promise stays broken."""

from collections.abc import Callable

from tests.simulation.checks import Violation
from tests.simulation.scenario import Scenario, without
from tests.simulation.world import World

#: Runs that shrinking may take; a run is some hundredths of a second.
MOST_RUNS = 400


def shrunk(scenario: Scenario, seed: int, rule: str, say: Callable[[str], object] = lambda line: None) -> Scenario:
    """The smallest scenario found that breaks ``rule`` with this seed. The same input gives the same output."""
    runs, found = 0, True
    while found and runs < MOST_RUNS:
        found = False
        for smaller in without(scenario):
            runs += 1
            if _breaks(smaller, seed, rule):
                scenario, found = smaller, True
                break
            if runs >= MOST_RUNS:
                break
    say(f"shrunk in {runs} runs")
    return scenario


def _breaks(scenario: Scenario, seed: int, rule: str) -> bool:
    try:
        World(scenario, seed).run()
    except Violation as violation:
        return violation.rule == rule
    return False
