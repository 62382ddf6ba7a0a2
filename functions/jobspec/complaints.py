"""The models' complaints about a manifest, said to the person who wrote it: no word of pydantic, no type name, no URL."""

import json
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError

from jobspec.allowed import Node, choices, keys_at, kinds_at, node_at, words_at
from jobspec.methods import Located
from jobspec.problems import Path, Value, problem
from jobspec.status import ProblemLine
from jobspec.tree import Tree
from jobspec.units import DURATION_PATTERN

_KINDS = {"string": "text", "integer": "a whole number", "number": "a number", "boolean": "true or false", "array": "a list", "object": "a section"}
_OUT_OF_RANGE = {"greater_than", "greater_than_equal", "less_than", "less_than_equal", "finite_number"}
_NO_CHOICE = {"literal_error", "enum"}
_LENGTH = {"too_long", "too_short", "string_too_long", "string_too_short"}


def complaints(error: ValidationError, tree: Tree) -> list[ProblemLine]:
    """One problem for each path that the models complain about and that no structural problem speaks for already."""
    found: dict[Path, ProblemLine] = {}
    absent: list[Path] = []
    meant: set[Path] = set()
    for detail in error.errors(include_url=False):
        path = (*_path_in(tree.value, detail["loc"]), *_at(detail))
        if path in found or _spoken_for(path, detail["type"], tree):
            continue
        if detail["type"] == "missing":
            absent.append(path)
        elif detail["type"] == "extra_forbidden":
            near = _nearest(str(path[-1]), keys_at(path[:-1]))
            meant.update((*path[:-1], key) for key in near)
            found[path] = _unknown_key(path, near, tree)
        else:
            found[path] = _wrong_value(path, detail, tree)
    for path in absent:
        if path not in meant:
            found[path] = problem(path, "is missing", line=tree.lines.get(path[:-1]) if len(path) > 1 else None, allowed=_purpose(path))
    # Of a choice between a word and a list, the complaint about the list's entry says it all.
    return [each for path, each in found.items() if not any(len(other) > len(path) and other[: len(path)] == path for other in found)]


def _spoken_for(path: Path, type_: str, tree: Tree) -> bool:
    """True where a structural problem at the path, or above it, or inside a section that is judged as a whole, says it already."""
    above = any(path[:n] in tree.spoiled for n in range(len(path) + 1))
    return above or (type_ == "value_error" and any(other[: len(path)] == path for other in tree.spoiled))


def _path_in(value: Value, loc: tuple[int | str, ...]) -> Path:
    """The part of a complaint's location that exists in the document, and a missing key at its end.

    Between them pydantic names the branch of a choice that it tried (``tuple[...]``), which no document holds.
    """
    path: list[int | str] = []
    for position, part in enumerate(loc):
        if isinstance(value, dict) and isinstance(part, str):
            path.append(part)
            if part not in value:
                break
            value = value[part]
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            path.append(part)
            value = value[part]
        elif position == 0:
            break
    return tuple(path)


def _at(detail: Any) -> Path:
    """Where in its section a complaint of the whole section belongs."""
    error = detail.get("ctx", {}).get("error")
    return error.at if isinstance(error, Located) else ()


def _value_at(value: Value, path: Path) -> Value:
    for part in path:
        if isinstance(value, dict) and isinstance(part, str):
            value = value.get(part)
        elif isinstance(value, list) and isinstance(part, int):
            value = value[part]
    return value


def _nearest(key: str, known: list[str]) -> list[str]:
    folded = key.lower().replace("-", "_")
    return get_close_matches(folded, known, n=1, cutoff=0.6)


def _unknown_key(path: Path, near: list[str], tree: Tree) -> ProblemLine:
    known = keys_at(path[:-1])
    message = f"is not a key; did you mean `{near[0]}`?" if near else "is not a key here"
    return problem(path, message, line=tree.lines.get(path), found=str(path[-1]), allowed=", ".join(known))


def _purpose(path: Path) -> str:
    """What a missing key is for: its description, or what may stand there."""
    node = node_at(path)
    told = next((text for each in _with_choices(node) if (text := each.get("description"))), "") if node is not None else ""
    return told.replace("\n", " ") or words_at(path)


def _with_choices(node: Node) -> Iterator[Node]:
    yield node
    yield from choices(node)


def _wrong_value(path: Path, detail: Any, tree: Tree) -> ProblemLine:
    value = _value_at(tree.value, path)
    message, allowed = _said(path, detail, value, tree)
    line = tree.lines.get(path, tree.lines.get(path[:-1]))
    return problem(path, message, line=line, found=_as_written(path, value, tree), allowed=allowed)


def _said(path: Path, detail: Any, value: Value, tree: Tree) -> tuple[str, str]:
    """The message and what is allowed."""
    allowed, kinds = words_at(path), kinds_at(path)
    type_ = detail["type"]
    if type_ == "value_error" and isinstance(detail["ctx"]["error"], Located):
        return str(detail["ctx"]["error"]), ""
    if value is None:
        return "has no value", f"{allowed}; or leave the key out, where there is a default"
    if _is_duration(path):
        return _said_of_duration(value, detail, allowed)
    if type_ == "value_error" and kinds == {"object"}:
        return str(detail["ctx"]["error"]), ""
    if not _fits(value, kinds):
        wanted = " or ".join(sorted(_KINDS[kind] for kind in kinds))
        return f"is {_kind_of(value)} where {wanted} is wanted", allowed + _quotes_hint(path, value, kinds, tree)
    if type_ in _OUT_OF_RANGE:
        return "is out of range", allowed
    if type_ in _NO_CHOICE:
        near = get_close_matches(str(value).lower(), allowed.removeprefix("one of ").split(", "), n=1)
        return f"is not one of the choices; did you mean `{near[0]}`?" if near else "is not one of the choices", allowed
    if type_ in _LENGTH:
        return f"has the wrong length ({len(value) if isinstance(value, str | list) else 0})", allowed
    if type_ == "timezone_aware":
        return "is a time without a zone", allowed
    return "has the wrong form", allowed


def _said_of_duration(value: Value, detail: Any, allowed: str) -> tuple[str, str]:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return "is a duration without a unit", f"{allowed}; {value} seconds are `{value}s`"
    return ("is out of range" if detail["type"] in _OUT_OF_RANGE else "is not a duration"), allowed


def _is_duration(path: Path) -> bool:
    node = node_at(path)
    return node is not None and any(each.get("pattern") == DURATION_PATTERN for each in choices(node))


def _fits(value: Value, kinds: set[str]) -> bool:
    mine = _kind_name(value)
    return mine in kinds or (mine == "integer" and "number" in kinds)


def _kind_name(value: Value) -> str:
    # bool before int: True is an int to Python.
    pairs = ((bool, "boolean"), (int, "integer"), (float, "number"), (str, "string"), (list, "array"), (dict, "object"))
    return next(name for type_, name in pairs if isinstance(value, type_))


def _kind_of(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else _KINDS[_kind_name(value)]


def _quotes_hint(path: Path, value: Value, kinds: set[str], tree: Tree) -> str:
    written = tree.written.get(path, "")
    if "string" in kinds and isinstance(value, bool | int | float):
        return f'; put it in quotes: "{written[:60]}"'
    if isinstance(value, str) and kinds & {"integer", "number", "boolean"} and _reads_as_number(value):
        return "; write it without quotes"
    return ""


def _reads_as_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return text in ("true", "false")
    return True


def _as_written(path: Path, value: Value, tree: Tree) -> str:
    if path in tree.written:
        return tree.written[path]
    if isinstance(value, dict):
        return "the keys " + ", ".join(value) if value else "an empty section"
    return json.dumps(value) if isinstance(value, list) else ""
