"""Reading data sets: JSON Lines of one format, every row held to it, every problem with its file and line.

No torch, no tokenizer: bad data is found in a second, before the GPU does any work.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from jobspec.marker import FailureCode
from trainer.failures import TrainerFailure
from trainer.stop import StopSignal

Format = Literal["chat", "prompt-completion", "text"]

MAX_FILE_BYTES = 2 * 1024**3
MAX_ROW_BYTES = 4 * 1024**2
MAX_MESSAGES = 2000
#: Problems shown at once: enough to see a pattern, few enough to read.
MAX_PROBLEMS = 5
ROLES = ("system", "user", "assistant", "tool")
_KEYS: dict[Format, tuple[str, ...]] = {"chat": ("messages",), "prompt-completion": ("prompt", "completion"), "text": ("text",)}
ALLOWED = 'a row is {"messages": [{"role": ..., "content": ...}]} (chat), {"prompt": ..., "completion": ...} (prompt-completion) or {"text": ...} (text)'


@dataclass(frozen=True, slots=True)
class Row:
    """One checked row: its line number (from 1) and its JSON object."""

    line: int
    value: dict[str, Any]


@dataclass(frozen=True, slots=True)
class DataFile:
    """A whole checked file. ``name`` is how messages call it (the path in the run file)."""

    name: str
    format: Format
    rows: list[Row]


def read_rows(path: Path, name: str, wanted: Format | Literal["auto"], stop: StopSignal) -> DataFile:
    """Every row of the file. Raises TrainerFailure (data_missing, data_empty, data_invalid) with located problems."""
    _check_file(path, name)
    found: Format | None = None if wanted == "auto" else wanted
    rows: list[Row] = []
    problems: list[str] = []
    for number, raw in _lines(path, name):
        if number % 1000 == 0:
            stop.check(f"reading {name}")
        value = _parsed(raw, number, problems)
        if value is None:
            continue
        if found is None:
            found = _format_of(value, name, number)
        problem = problem_of(value, found)
        if problem is None:
            rows.append(Row(number, value))
        else:
            problems.append(f"line {number}: {problem}")
        if len(problems) >= MAX_PROBLEMS:
            break
    if problems:
        more = " (and maybe more)" if len(problems) >= MAX_PROBLEMS else ""
        raise TrainerFailure(FailureCode.DATA_INVALID, f"{name}: {'; '.join(problems)}{more}. Allowed: {ALLOWED}.")
    if not rows or found is None:
        raise TrainerFailure(FailureCode.DATA_EMPTY, f"{name} has no rows: write one JSON object a line. Allowed: {ALLOWED}.")
    return DataFile(name, found, rows)


def _check_file(path: Path, name: str) -> None:
    if not path.is_file():
        raise TrainerFailure(FailureCode.DATA_MISSING, f"{name}: there is no such file. Check the data set's location in the manifest.")
    size = path.stat().st_size
    if size == 0:
        raise TrainerFailure(FailureCode.DATA_EMPTY, f"{name} is empty (0 bytes): write one JSON object a line. Allowed: {ALLOWED}.")
    if size > MAX_FILE_BYTES:
        raise TrainerFailure(FailureCode.DATA_INVALID, f"{name} has {size} bytes; the limit is {MAX_FILE_BYTES}. Split the data set, or take a sample of it.")


def _lines(path: Path, name: str) -> Iterator[tuple[int, bytes]]:
    """Numbered lines that are not blank. A line over the limit ends the reading: nothing after it can be trusted."""
    with path.open("rb") as file:
        number = 0
        while raw := file.readline(MAX_ROW_BYTES + 1):
            number += 1
            if len(raw) > MAX_ROW_BYTES:
                raise TrainerFailure(
                    FailureCode.DATA_INVALID, f"{name}: line {number} is longer than {MAX_ROW_BYTES} bytes. Allowed: one JSON object a line, each within that."
                )
            if raw.strip():
                yield number, raw


def _parsed(raw: bytes, number: int, problems: list[str]) -> dict[str, Any] | None:
    try:
        value = json.loads(raw.decode("utf-8-sig" if number == 1 else "utf-8"))
    except UnicodeDecodeError as error:
        problems.append(f"line {number}: byte {error.start} is not UTF-8 text (is the file compressed, or in another encoding?)")
    except json.JSONDecodeError as error:
        problems.append(f"line {number}: not JSON ({error.msg} at column {error.colno})")
    except RecursionError:
        problems.append(f"line {number}: nested too deeply")
    else:
        if isinstance(value, dict):
            return value
        hint = "; one object a line, not one array for the file" if isinstance(value, list) else ""
        problems.append(f"line {number}: {_kind(value)} where a JSON object belongs{hint}")
    return None


def _format_of(value: dict[str, Any], name: str, number: int) -> Format:
    for known, keys in _KEYS.items():
        if all(key in value for key in keys):
            return known
    found = ", ".join(sorted(str(key)[:40] for key in value)[:10]) or "none"
    raise TrainerFailure(FailureCode.DATA_INVALID, f"{name}: line {number} has the keys {found}; none of the known formats. Allowed: {ALLOWED}.")


def problem_of(value: dict[str, Any], wanted: Format) -> str | None:
    """What keeps ``value`` from being a row of that format, or None."""
    missing = [key for key in _KEYS[wanted] if key not in value]
    if missing:
        found = ", ".join(sorted(str(key)[:40] for key in value)[:10]) or "none"
        return f"no {' and no '.join(repr(key) for key in missing)} (found the keys {found}; this file is {wanted})"
    if wanted == "chat":
        return _messages_problem(value["messages"])
    for key in _KEYS[wanted]:
        if problem := _text_problem(value[key], key, blank_allowed=key == "prompt"):
            return problem
    return None


def _messages_problem(messages: object) -> str | None:
    if not isinstance(messages, list) or not messages:
        return f"'messages' is {_kind(messages)}; allowed: a list of messages that is not empty"
    if len(messages) > MAX_MESSAGES:
        return f"{len(messages)} messages; the limit is {MAX_MESSAGES}"
    for index, message in enumerate(messages):
        if not isinstance(message, dict):
            return f"messages[{index}] is {_kind(message)}; allowed: an object with role and content"
        role = message.get("role")
        if role not in ROLES:
            return f"messages[{index}].role is {_kind(role)} {role!r:.60}; allowed: {', '.join(ROLES)}"
        if problem := _text_problem(message.get("content"), f"messages[{index}].content", blank_allowed=True):
            return problem
    return _turns_problem(messages)


def _turns_problem(messages: list[dict[str, Any]]) -> str | None:
    spoken = [message["role"] for message in messages if message["role"] != "system"]
    if not spoken or spoken[0] != "user":
        return f"the first turn is {spoken[0] if spoken else 'missing'}; allowed: a user turn first (after any system message)"
    if not any(message["role"] == "assistant" and message["content"].strip() for message in messages):
        return "no assistant turn with text: there is nothing to learn from"
    return None


def _text_problem(value: object, name: str, *, blank_allowed: bool) -> str | None:
    if not isinstance(value, str):
        return f"{name!r} is {_kind(value)}; allowed: a text"
    if not blank_allowed and not value.strip():
        return f"{name!r} is blank; allowed: a text that is not"
    try:
        value.encode()
    except UnicodeEncodeError as error:
        return f"{name!r} holds half of a surrogate pair at character {error.start}; allowed: valid Unicode"
    return None


def _kind(value: object) -> str:
    names = {dict: "an object", list: "an empty list" if value == [] else "a list", str: "the text", bool: "a boolean", type(None): "missing or null"}
    return names.get(type(value), "a number")
