"""The manifest that ``dropforge init`` writes: ten lines with what cannot be guessed, and where the rest is explained.

Pure, but for ``commit_of``, which asks the model hub.
"""

import json
import re
import urllib.error
import urllib.request
from dataclasses import dataclass

from dropforge.manifests.kinds import Template
from jobspec.places import COMMIT_PATTERN, HUB_ID_PATTERN

HUB = "https://huggingface.co"
ASKED_WITHIN_S = 10
SCHEMA_LINE = "# yaml-language-server: $schema=docs/schema/manifest.v1.schema.json"


@dataclass(frozen=True, slots=True)
class Answers:
    """What was asked. ``model``: a hub id with ``revision``, or an S3 location without."""

    name: str
    model: str
    revision: str | None
    train: str
    memory_gib: float


def manifest_text(answers: Answers, template: Template) -> str:
    """The manifest, ready for ``dropforge validate``."""
    model = [f"  hub: {answers.model}", f'  revision: "{answers.revision}"'] if answers.revision else [f"  s3: {answers.model}"]
    lines = [
        SCHEMA_LINE,
        f"# Each line of the data file: {template.row}",
        "# Every other key has a default: docs/manifest.md",
        f"name: {answers.name}",
        "model:",
        *model,
        "data:",
        f"  train: {answers.train}",
        *template.lines,
        "compute:",
        f"  gpu: {{memory_gib: {answers.memory_gib:g}}}",
    ]
    return "\n".join(lines) + "\n"


def is_hub_id(model: str) -> bool:
    return re.match(HUB_ID_PATTERN, model) is not None and not model.startswith("s3://")


def is_commit(revision: str) -> bool:
    return re.match(COMMIT_PATTERN, revision) is not None


def commit_of(model: str) -> str | None:
    """The commit that the hub's main branch of ``model`` is at; None where the hub does not answer or has no such model."""
    try:
        with urllib.request.urlopen(f"{HUB}/api/models/{model}/revision/main", timeout=ASKED_WITHIN_S) as answer:  # noqa: S310 - a fixed https address
            said = json.loads(answer.read(1_000_000)).get("sha", "")
    except (OSError, ValueError, AttributeError):
        return None
    return said if isinstance(said, str) and is_commit(said) else None
