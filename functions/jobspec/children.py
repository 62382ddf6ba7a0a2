"""The jobs of a sweep: the manifest of each, made of the sweep's own. The same manifest always gives the same jobs."""

import json
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from jobspec.manifest import Manifest
from jobspec.schedule import dated_name, time_in
from jobspec.sweep import Choice, told

#: A name of ``child_name``, or the id of such a job.
_CHILD = re.compile(r"(.+)-[0-9]{3}(-[0-9a-f]{10})?")


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


def child_id(sweep: str, sweep_id: str, number: int) -> str:
    """The id that a job of the sweep has, or will have: both ids end in the digest of the manifest that they share."""
    return child_name(sweep, number) + sweep_id.removeprefix(sweep)


def sweep_of(child: str) -> str | None:
    """The name of the sweep that a job of that name may be of, or the id of one where ``child`` is an id; None where it can be no sweep's."""
    found = _CHILD.fullmatch(child)
    return found.group(1) + (found.group(2) or "") if found else None


def limit_usd(manifest: Manifest) -> float:
    """The most that each job of the sweep may cost: its own limit, and no more than its part of the whole for those that run at a time."""
    assert manifest.sweep is not None
    return min(manifest.limits.budget_usd, manifest.sweep.budget_usd / min(manifest.sweep.concurrency, manifest.sweep.size))


def child_of(manifest: Manifest, number: int, choice: Choice) -> Child:
    """Raises WrongChild."""
    document = _chosen(manifest.model_dump(mode="json"), manifest, number, choice)
    try:
        # Strict, as a person's manifest is read; what was read once already holds whole seconds for durations.
        return Child(number, document["name"], choice, Manifest.model_validate_json(json.dumps(document), strict=True))
    except ValidationError as error:
        raise WrongChild(document["name"], choice, document, error) from None


def instance_of(manifest: Manifest, at: datetime) -> Manifest:
    """The job, or the sweep, that the schedule puts at that time."""
    return manifest.model_copy(update={"name": dated_name(manifest.name, at), "schedule": None})


def alone(written: dict[str, Any], manifest: Manifest, name: str) -> dict[str, Any] | None:
    """What a person would write for one job alone: of a schedule, of a sweep, or of a sweep that a schedule has put. None where no job has that name.

    ``written``: the document that ``manifest`` was read from.
    """
    if manifest.schedule is not None:
        at = time_in(name, manifest.name)
        if at is None:
            return None
        manifest = instance_of(manifest, at)
        written = {key: value for key, value in written.items() if key != "schedule"} | {"name": manifest.name}
        if name == manifest.name:
            return written
    for number, choice in enumerate(manifest.sweep.choices() if manifest.sweep is not None else (), start=1):
        if name == child_name(manifest.name, number):
            return _chosen(written, manifest, number, choice)
    return None


def _chosen(document: dict[str, Any], manifest: Manifest, number: int, choice: Choice) -> dict[str, Any]:
    """The document of a sweep's job, made of the sweep's."""
    document = {key: value for key, value in document.items() if key not in ("sweep", "schedule")}
    document["name"] = child_name(manifest.name, number)
    document["limits"] = {**(document.get("limits") or {}), "budget_usd": limit_usd(manifest)}
    for path, value in choice.items():
        section, _, key = path.partition(".")
        document[section] = {**(document.get(section) or {}), key: value}
    return document


def children_of(manifest: Manifest) -> tuple[Child, ...]:
    """Every job of the sweep. Raises WrongChild, which a manifest that was accepted never does."""
    assert manifest.sweep is not None
    return tuple(child_of(manifest, number, choice) for number, choice in enumerate(manifest.sweep.choices(), start=1))
