"""Following on the screen: decisions and news as they fall, and below them one line that always says what is waited for.

Without a terminal that line is printed instead, whenever nothing else was for five seconds.
"""

import time
from collections.abc import Callable
from datetime import datetime
from types import TracebackType

from rich.console import Console, RenderableType
from rich.live import Live
from rich.markup import escape

from dropforge.jobs.follow import Line

#: No silence longer than this on the screen.
NEWS_EVERY_S = 5.0
_CONTROL_PLANE = "control plane"


class Screen:
    """``clock`` writes a time into a line's first column."""

    def __init__(self, console: Console, clock: Callable[[datetime], str]) -> None:
        self._console, self._clock = console, clock
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        self._quiet_since = time.monotonic()

    def __enter__(self) -> "Screen":
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()

    def line(self, at: datetime, who: str, text: str, style: str = "") -> None:
        self._quiet_since = time.monotonic()
        self._console.print(f"[dim]{self._clock(at)}[/dim]  [cyan]{who:<14}[/cyan]{escape(text)}", style=style, highlight=False, soft_wrap=True)

    def told(self, news: Line) -> None:
        self.line(news.at, news.who, news.text, "bold" if news.who == _CONTROL_PLANE else "")

    def waits(self, state: RenderableType) -> None:
        """The live line, as things stand now."""
        if self._live is not None:
            self._live.update(state, refresh=True)
        elif time.monotonic() - self._quiet_since >= NEWS_EVERY_S:
            self._quiet_since = time.monotonic()
            self._console.print(state, style="dim", highlight=False, soft_wrap=True)
