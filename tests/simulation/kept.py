"""Scenarios that failed once, kept in ``pinned/`` with the bug that each was found by.

A change that makes the handlers call AWS more or less often moves every later call: the same seed then gives another timing,
and the planted bug may slip through it. So each is run in ``TIMINGS`` timings, from its own seed on; where none of them catches
the bug any more, ``repin`` looks for a seed that does, and writes it back.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.simulation import mutants
from tests.simulation.checks import Violation
from tests.simulation.planting import planted
from tests.simulation.scenario import load
from tests.simulation.world import World

PINNED = Path(__file__).parent / "pinned"
#: Timings that each scenario is run in.
TIMINGS = 25
#: Seeds that ``repin`` tries.
TRIED = 5000


def paths() -> list[Path]:
    return sorted(PINNED.glob("*.json"))


def worlds(path: Path) -> Iterator[World]:
    """The scenario in each of its timings."""
    kept = _read(path)
    return (_world(kept, kept["seed"] + number) for number in range(TIMINGS))


def still_fails(path: Path) -> bool:
    """True if the bug that the scenario was found by, planted again, breaks the same rule in one of the timings."""
    kept = _read(path)
    with planted(mutants.named(kept["bug"])):
        return any(breaks(_world(kept, kept["seed"] + number), kept["rule"]) for number in range(TIMINGS))


def repin(path: Path, say: Callable[[str], None]) -> bool:
    """Give the scenario a seed at which it fails again, where its own does not. False if none was found."""
    if still_fails(path):
        say(f"{path.stem}: fails still")
        return True
    kept = _read(path)
    with planted(mutants.named(kept["bug"])):
        found = next((seed for seed in range(TRIED) if breaks(_world(kept, seed), kept["rule"])), None)
    if found is None:
        say(f"{path.stem}: no seed below {TRIED} makes it break {kept['rule']}: shrink a newer failure of the bug {kept['bug']!r}")
        return False
    path.write_text(json.dumps(kept | {"seed": found}, indent=1) + "\n")
    say(f"{path.stem}: seed {kept['seed']} -> {found}")
    return True


def _read(path: Path) -> dict[str, Any]:
    kept: dict[str, Any] = json.loads(path.read_text())
    return kept


def _world(kept: dict[str, Any], seed: int) -> World:
    return World(load(json.dumps(kept["scenario"])), seed)


def breaks(world: World, rule: str) -> bool:
    try:
        world.run()
    except Violation as violation:
        return violation.rule == rule
    return False
