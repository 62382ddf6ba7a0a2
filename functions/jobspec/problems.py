"""A problem of a manifest: where it is, what was found, what is allowed; and how a list of them reads.

The model is :class:`jobspec.status.ProblemLine`. Whatever a stranger wrote is shown cut short and as printable ASCII, so that
no e-mail, log or terminal is steered by it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jobspec.status import ProblemLine

Path: TypeAlias = tuple[str | int, ...]
Value: TypeAlias = "bool | int | float | str | list[Value] | dict[str, Value] | None"

MAX_SHOWN_CHARACTERS = 100
#: Problems that are listed; a file with more is not a manifest with mistakes but something else.
MAX_PROBLEMS = 40
_MAX_PATH_PARTS = 20


def shown(text: str) -> str:
    """``text`` as printable ASCII of bounded length: other characters as ``\\u202e``, the rest as ``...``."""
    cut = text[:MAX_SHOWN_CHARACTERS]
    safe = "".join(c if " " <= c <= "~" else c.encode("unicode_escape", "backslashreplace").decode("ascii") for c in cut)
    return safe + "..." if len(text) > len(cut) else safe


def dotted(path: Path) -> str:
    """``training.learning_rate``, ``compute.zones[1]``; empty for the whole document."""
    text = ""
    for part in path[:_MAX_PATH_PARTS]:
        text += f"[{part}]" if isinstance(part, int) else ("." if text else "") + shown(part)
    return text


def problem(path: Path, message: str, *, line: int | None = None, found: str = "", allowed: str = "") -> ProblemLine:
    """One problem. ``message`` and ``allowed`` are our words; ``found`` may be anything and is made safe here."""
    # Here, for many only want ``shown``.
    from jobspec.status import ProblemLine

    return ProblemLine(path=dotted(path), line=line, message=message, found=shown(found), allowed=allowed)


def in_order(problems: Iterable[ProblemLine]) -> tuple[ProblemLine, ...]:
    """By line, what has no line first; at most MAX_PROBLEMS, the last of which then says how many were left out."""
    ordered = sorted(problems, key=lambda p: p.line or 0)
    if len(ordered) <= MAX_PROBLEMS:
        return tuple(ordered)
    left_out = len(ordered) - MAX_PROBLEMS + 1
    return (*ordered[: MAX_PROBLEMS - 1], problem((), f"has {left_out} more problems; they are not listed"))


def render_problems(problems: Iterable[ProblemLine]) -> str:
    """Plain text for an e-mail or a terminal: two or three lines for each problem, with a closing newline."""
    lines: list[str] = []
    for each in problems:
        where = f"line {each.line}: " if each.line else ""
        lines.append(f"{where}{each.path or 'the manifest'} {each.message}")
        if each.found:
            lines.append(f"    found:   {each.found}")
        if each.allowed:
            lines.append(f"    allowed: {each.allowed}")
    return "".join(line + "\n" for line in lines)
