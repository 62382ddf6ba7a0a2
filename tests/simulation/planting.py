"""How a bug is planted, and taken out again. The bugs themselves: ``mutants``, ``mutants_kin``, ``mutants_gangs``."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

Undo = Callable[[], None]


@dataclass(frozen=True)
class Mutant:
    name: str
    #: What is wrong, in a sentence.
    what: str
    plant: Callable[["Patch"], None]


class Patch:
    """Sets attributes, and remembers how to put them back."""

    def __init__(self) -> None:
        self._undo: list[Undo] = []

    def set(self, target: Any, name: str, value: Any) -> Any:
        """Replace an attribute; the old one."""
        old = target.__dict__[name] if isinstance(target, type) else getattr(target, name)
        setattr(target, name, value)
        self._undo.append(lambda: setattr(target, name, old))
        return old.__func__ if isinstance(old, staticmethod) else old

    def undo(self) -> None:
        while self._undo:
            self._undo.pop()()


EVERY: list[Mutant] = []


def mutant(what: str) -> Callable[[Callable[[Patch], None]], Callable[[Patch], None]]:
    def add(plant: Callable[[Patch], None]) -> Callable[[Patch], None]:
        EVERY.append(Mutant(plant.__name__.strip("_").replace("_", " "), what, plant))
        return plant

    return add


@contextmanager
def planted(one: Mutant) -> Iterator[None]:
    patch = Patch()
    one.plant(patch)
    try:
        yield
    finally:
        patch.undo()
