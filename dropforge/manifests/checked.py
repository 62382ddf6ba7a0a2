"""A manifest's text, read or refused: every problem, where it stands and what is allowed."""

import click

from jobspec.manifest import Manifest
from jobspec.problems import render_problems
from jobspec.reading import Refusal, read_manifest


def checked(body: bytes, key: str, shown_as: str) -> Manifest:
    """The manifest in ``body``, as the stack would read it at ``key``. Raises ClickException with every problem; ``shown_as`` names it there."""
    answer = read_manifest(body, key=key)
    if isinstance(answer, Refusal):
        raise not_valid(answer, shown_as)
    return answer


def not_valid(refusal: Refusal, shown_as: str) -> click.ClickException:
    """The refusal as a person reads it."""
    return click.ClickException(f"{shown_as} is not a valid manifest:\n\n{render_problems(refusal.problems)}")
