"""The jobs of a sweep: the manifest of each, made of the sweep's own. The same manifest always gives the same jobs."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from jobspec.manifest import Manifest
from jobspec.schedule import dated_name
from jobspec.sweep import Choice, told


@dataclass(frozen=True, slots=True)
class Child:
    """``number`` counts from 1."""

    number: int
    name: str
    choice: Choice
    manifest: Manifest


class WrongChild(ValueError):
    """A choice of values that makes no valid manifest. ``document`` is what was refused."""

    def __init__(self, name: str, choice: Choice, document: dict[str, Any], error: ValidationError) -> None:
        super().__init__(f"{name} ({told(choice)}) is not valid")
        self.name, self.choice, self.document, self.error = name, choice, document, error


def child_name(sweep: str, number: int) -> str:
    return f"{sweep}-{number:03d}"


def limit_usd(manifest: Manifest) -> float:
    """The most that each job of the sweep may cost: its own limit, and no more than its part of the whole for those that run at a time."""
    assert manifest.sweep is not None
    return min(manifest.limits.budget_usd, manifest.sweep.budget_usd / min(manifest.sweep.concurrency, manifest.sweep.size))


def child_of(manifest: Manifest, number: int, choice: Choice) -> Child:
    """Raises WrongChild."""
    document = manifest.model_dump(mode="json", exclude={"sweep", "schedule"})
    document["name"] = child_name(manifest.name, number)
    document["limits"]["budget_usd"] = limit_usd(manifest)
    for path, value in choice.items():
        section, _, key = path.partition(".")
        document[section] = {**(document[section] or {}), key: value}
    try:
        # Strict, as a person's manifest is read; what was read once already holds whole seconds for durations.
        return Child(number, document["name"], choice, Manifest.model_validate_json(json.dumps(document), strict=True))
    except ValidationError as error:
        raise WrongChild(document["name"], choice, document, error) from None


def instance_of(manifest: Manifest, at: datetime) -> Manifest:
    """The job, or the sweep, that the schedule puts at that time."""
    return manifest.model_copy(update={"name": dated_name(manifest.name, at), "schedule": None})


def children_of(manifest: Manifest) -> tuple[Child, ...]:
    """Every job of the sweep. Raises WrongChild, which a manifest that was accepted never does."""
    assert manifest.sweep is not None
    return tuple(child_of(manifest, number, choice) for number, choice in enumerate(manifest.sweep.choices(), start=1))
