"""What commands print: words for a person, or JSON alone on standard output."""

import json
from typing import Any

import click


def say(as_json: bool, line: str) -> None:
    """Words go to the screen, and with --json to standard error, so that standard output is JSON alone."""
    click.echo(line, err=as_json)


def print_json(as_json: bool, answer: dict[str, Any]) -> None:
    if as_json:
        click.echo(json.dumps(answer, indent=1))
