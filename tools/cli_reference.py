"""Writes docs/cli.md from the commands themselves: ``python -m tools.cli_reference [--check]``."""

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from dropforge.cli import main as dropforge
from tools.generated import write_or_check

TARGET = Path("docs/cli.md")
_WIDTH = 100
_HEAD = """# The command line

Generated from the commands by `python -m tools.cli_reference`; do not edit. How to use them: [jobs.md](jobs.md) for jobs,
[operations.md](operations.md) for a stack, [../dropforge/local/README.md](../dropforge/local/README.md) for the cloud on this machine.

Account, region and endpoint come from the usual AWS settings, the stack from `--stack` or `$DROPFORGE_STACK`. Words go to standard output; with
`--json` standard output is JSON alone. What goes wrong is one sentence with the next step; `--debug` before the command shows the stack trace.

| exit status | meaning |
|---|---|
| 0 | done; with `--wait` or `--watch`: the job succeeded |
| 1 | refused, failed, or the job did not succeed |
| 2 | wrong words on the command line |
| 130 | Ctrl-C while following: the job goes on |
"""


def page() -> str:
    """The whole page: each command's own help."""
    parts = [_HEAD]
    for words, command, context in _commands(dropforge, ("dropforge",), None):
        parts.append(f"\n## {' '.join(words)}\n\n```\n{command.get_help(context)}\n```\n")
    return "".join(parts)


def _commands(command: click.Command, words: tuple[str, ...], parent: click.Context | None) -> Iterator[tuple[tuple[str, ...], click.Command, click.Context]]:
    context = click.Context(command, info_name=words[-1], parent=parent, terminal_width=_WIDTH, max_content_width=_WIDTH)
    yield words, command, context
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None, name
            yield from _commands(child, (*words, name), context)


if __name__ == "__main__":
    sys.exit(write_or_check(TARGET, page(), "the command line"))
