"""From the text of a manifest to plain values, each with the line it stands on: a small, safe part of YAML.

Rules: works on the parser's events, one at a time, without recursion, so that limits hold before anything is built.
Anchors, aliases, tags, merge keys, duplicate keys, directives and second documents are problems, never features.
Scalars follow YAML 1.2, not 1.1: ``no``, ``on`` and ``12:30:00`` are text, ``2e-4`` is a number, and only true, false, null and
decimal numbers are anything but text. JSON is read the same way; that it begins with ``{`` is all that tells it apart.
Nothing here raises for any text: what is wrong becomes a problem with its path and line.
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from jobspec.problems import Path, Value, problem
from jobspec.status import ProblemLine

MAX_DEPTH = 16
#: The largest sensible manifest has some two hundred nodes.
MAX_NODES = 2000
#: libyaml is twenty times as fast; both give the same events (a test reads the same hostile tables with both).
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_INT = re.compile(r"[-+]?[0-9]+", re.ASCII)
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", re.ASCII)
_WORDS: dict[str, Value] = {"": None, "~": None, "null": None, "true": True, "false": False}
_LARGEST = 2**63
_PRINTABLE_ASCII = re.compile(r"[ -~]*")
_CONTROL_NAMES = {"\n": "LINE FEED", "\r": "CARRIAGE RETURN", "\t": "TAB", "\0": "NUL", "\x1b": "ESCAPE", "\x7f": "DELETE"}


@dataclass(slots=True)
class Tree:
    """Plain values and where they stand. ``whole`` is False where reading stopped early and ``value`` is only a part."""

    value: Value = None
    whole: bool = True
    #: Line (from 1) of each key or list entry, and each scalar exactly as written.
    lines: dict[Path, int] = field(default_factory=dict)
    written: dict[Path, str] = field(default_factory=dict)
    problems: list[ProblemLine] = field(default_factory=list)
    #: Paths that a problem speaks for already: what stands there is not judged again.
    spoiled: set[Path] = field(default_factory=set)


class _StopReading(Exception):
    """The rest of the text is not worth reading; the problem that says so is in the tree."""


@dataclass(slots=True)
class _Open:
    """A mapping or list that is not closed yet. ``key`` is the mapping's key that waits for its value."""

    path: Path
    items: dict[str, Value] | list[Value]
    key: str | None = None
    #: The waiting key was there before: its value is read, and dropped.
    repeated: bool = False


def read_tree(text: str) -> Tree:
    """The values of ``text``, or as much as could be read, and every structural problem."""
    reader = _Reader()
    # A tab in valid JSON is always white space between tokens; YAML does not know it there.
    source = text.replace("\t", " ") if text.lstrip().startswith("{") else text
    try:
        for event in _events(source):
            reader.take(event)
    except _StopReading:
        reader.tree.whole = False
    except yaml.YAMLError as error:
        reader.tree.whole = False
        reader.tree.problems.append(_syntax_problem(error))
    except (ValueError, OverflowError):
        # The pure-Python scanner on an escape past the last code point.
        reader.tree.whole = False
        reader.tree.problems.append(problem((), "holds an escape that is no character", allowed="plain ASCII text"))
    return reader.tree


def odd_character(text: str) -> str | None:
    """The first character that is not printable ASCII, named: ``U+202E RIGHT-TO-LEFT OVERRIDE``; None where all are."""
    if _PRINTABLE_ASCII.fullmatch(text):
        return None
    found = next(c for c in text if not " " <= c <= "~")
    name = _CONTROL_NAMES.get(found) or unicodedata.name(found, "an unnamed character")
    return f"U+{ord(found):04X} {name}"


def _events(source: str) -> Iterator[Any]:
    loader = LOADER(source)
    try:
        while loader.check_event():
            yield loader.get_event()
    finally:
        loader.dispose()


def _syntax_problem(error: yaml.YAMLError) -> ProblemLine:
    mark = getattr(error, "problem_mark", None)
    told = str(getattr(error, "problem", None) or "it cannot be read")
    allowed = "YAML or JSON: look at the indentation, the colons and the quotes on this line and the one before"
    if "start any token" in told:
        allowed = "indent with spaces, not tabs; put text that begins with @, ` or % in quotes"
    if "mapping values are not allowed" in told:
        allowed = "`key: value` with the key's indentation as its neighbours have it; text that holds `: ` in quotes"
    return problem((), f"is not valid here: {told}", line=mark.line + 1 if mark else None, allowed=allowed)


class _Reader:
    """Builds the tree from events. One instance reads one text."""

    def __init__(self) -> None:
        self.tree = Tree()
        self._open: list[_Open] = []
        self._nodes = 0
        self._documents = 0

    def take(self, event: Any) -> None:
        """One event of the parser. Raises _StopReading where a limit is passed."""
        line = event.start_mark.line + 1
        if isinstance(event, yaml.DocumentStartEvent):
            self._start_document(event, line)
        elif isinstance(event, yaml.NodeEvent):
            self._take_node(event, line)
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            self._open.pop()

    def _start_document(self, event: Any, line: int) -> None:
        self._documents += 1
        if self._documents > 1:
            self._stop((), line, "holds a second document", "one manifest in one file; without `---` between")
        if event.version or event.tags:
            self._note((), line, "begins with a % directive", "no directives")

    def _take_node(self, event: Any, line: int) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            self._stop((), line, f"holds more than {MAX_NODES} values", f"{MAX_NODES} at most")
        parent = self._open[-1] if self._open else None
        if parent is not None and isinstance(parent.items, dict) and parent.key is None:
            self._take_key(parent, event, line)
            return
        path, keep = self._place(parent)
        self.tree.lines.setdefault(path, line)
        self._refuse_extras(event, path, line)
        if isinstance(event, yaml.CollectionStartEvent):
            self._open_collection(event, path, line, parent, keep)
        else:
            self._put(parent, keep, None if isinstance(event, yaml.AliasEvent) else self._scalar(event, path, line))

    def _take_key(self, parent: _Open, event: Any, line: int) -> None:
        if isinstance(event, yaml.CollectionStartEvent):
            self._stop(parent.path, line, "has a list or a mapping as a key", "keys are plain words")
        key = f"*{event.anchor}" if isinstance(event, yaml.AliasEvent) else event.value
        path = (*parent.path, key)
        assert isinstance(parent.items, dict)
        parent.key, parent.repeated = key, key in parent.items
        if parent.repeated:
            self._note(path, line, f"is given twice; first on line {self.tree.lines.get(path, line)}", "each key once")
        self.tree.lines.setdefault(path, line)
        self._refuse_extras(event, path, line)
        if key == "<<":
            self._note(path, line, "is a merge key", "write the values out; there are no merge keys")
        odd = odd_character(key)
        if odd:
            self._note(path, line, f"holds {odd} in a key", "keys of plain ASCII letters", found=key)

    def _place(self, parent: _Open | None) -> tuple[Path, bool]:
        """Where the next value goes, and whether it is kept (a repeated key's is not)."""
        if parent is None:
            return (), True
        if isinstance(parent.items, list):
            return (*parent.path, len(parent.items)), True
        assert parent.key is not None
        return (*parent.path, parent.key), not parent.repeated

    def _open_collection(self, event: Any, path: Path, line: int, parent: _Open | None, keep: bool) -> None:
        if len(self._open) >= MAX_DEPTH:
            self._stop(path, line, f"is nested more than {MAX_DEPTH} deep", "a manifest is three deep")
        items: dict[str, Value] | list[Value] = {} if isinstance(event, yaml.MappingStartEvent) else []
        self._put(parent, keep, items)
        self._open.append(_Open(path, items))

    def _put(self, parent: _Open | None, keep: bool, value: Value) -> None:
        if parent is None:
            self.tree.value = value
        elif isinstance(parent.items, list):
            parent.items.append(value)
        else:
            assert parent.key is not None
            if keep:
                parent.items[parent.key] = value
            parent.key = None

    def _refuse_extras(self, event: Any, path: Path, line: int) -> None:
        if isinstance(event, yaml.AliasEvent):
            self._note(path, line, "is an alias (`*name`)", "write the value out, or put text that begins with * in quotes")
        elif event.anchor is not None:
            self._note(path, line, "has an anchor (`&name`)", "no anchors; put text that begins with & in quotes")
        if getattr(event, "tag", None) is not None:
            self._note(path, line, "has a tag (`!name`)", "no tags; put text that begins with ! in quotes", found=event.tag)

    def _scalar(self, event: Any, path: Path, line: int) -> Value:
        text: str = event.value
        self.tree.written.setdefault(path, text)
        odd = odd_character(text)
        if odd:
            self._note(path, line, f"holds {odd}", "plain ASCII characters on one line", found=text)
            return None
        if not event.implicit[0]:
            return text
        if _FLOAT.fullmatch(text):
            return self._number(text, path, line)
        return _WORDS.get(text, text)

    def _number(self, text: str, path: Path, line: int) -> Value:
        # Python refuses to convert thousands of digits, so the length is looked at first.
        if len(text) <= 40:
            number = int(text) if _INT.fullmatch(text) else float(text)
            if isinstance(number, float) and number.is_integer():
                number = int(number)
            if -_LARGEST <= number < _LARGEST:
                return number
        self._note(path, line, "is a number out of range", "a number of at most 63 bits; text that looks like a number in quotes", found=text)
        return None

    def _note(self, path: Path, line: int, message: str, allowed: str, found: str = "") -> None:
        self.tree.problems.append(problem(path, message, line=line, found=found, allowed=allowed))
        self.tree.spoiled.add(path)

    def _stop(self, path: Path, line: int, message: str, allowed: str) -> None:
        self._note(path, line, message, allowed)
        raise _StopReading
