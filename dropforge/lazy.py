"""Commands that are imported when they are run, so that ``--help`` and ``validate`` do not wait for what they do not use."""

import importlib
from collections.abc import Iterable
from dataclasses import dataclass

import click


@dataclass(frozen=True, slots=True)
class Later:
    """Where a command is (``module:attribute``) and its line in the list; a test holds the line to the command's own."""

    where: str
    line: str


class LazyGroup(click.Group):
    """A group that also knows commands by their place."""

    def __init__(self, name: str | None = None, *, later: dict[str, Later] | None = None, **attributes: object) -> None:
        super().__init__(name, **attributes)  # type: ignore[arg-type]  # click.Group's own keywords, passed on as they are
        self.later = later or {}

    def list_commands(self, context: click.Context) -> list[str]:
        return sorted({*super().list_commands(context), *self.later})

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        place = self.later.get(name)
        if place is None:
            return super().get_command(context, name)
        module, _, attribute = place.where.partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command), place.where
        return command

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(self._lines(context)))

    def _lines(self, context: click.Context) -> Iterable[tuple[str, str]]:
        for name in self.list_commands(context):
            own = self.commands.get(name)
            yield name, own.get_short_help_str(limit=LINE_CHARACTERS) if own is not None else self.later[name].line


#: Of a command's help, this much goes into the list.
LINE_CHARACTERS = 100
