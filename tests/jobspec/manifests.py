"""Manifests to read in tests: one good one, and a way to write a wrong one with everything else right."""

from jobspec.manifest import Manifest
from jobspec.reading import Refusal, read_manifest
from jobspec.status import ProblemLine

GOOD = """\
name: a-job
model:
  s3: models/base
data:
  train: data/train.jsonl
compute:
  instance_types: [g5.xlarge]
"""


def accepted(text: str | bytes) -> Manifest:
    """The manifest; a refusal fails the test with its problems."""
    answer = read_manifest(text if isinstance(text, bytes) else text.encode())
    assert isinstance(answer, Manifest), answer
    return answer


def refused(text: str | bytes) -> tuple[ProblemLine, ...]:
    """The problems; an accepted manifest fails the test."""
    answer = read_manifest(text if isinstance(text, bytes) else text.encode())
    assert isinstance(answer, Refusal), f"accepted: {text!r:.200}"
    assert answer.problems
    return answer.problems


def only_problem(text: str | bytes) -> ProblemLine:
    """The one problem of a text with one mistake."""
    problems = refused(text)
    assert len(problems) == 1, [f"{p.path}: {p.message}" for p in problems]
    return problems[0]
