"""Reading a manifest: bytes from a stranger in, a valid :class:`Manifest` or every problem at once out. Never raises.

In this order: size, encoding, structure (tree.py), the models (manifest.py), and each model's complaint said in plain words.
"""

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import ValidationError

from jobspec.base import NAME_PATTERN
from jobspec.children import WrongChild, child_of
from jobspec.complaints import complaints
from jobspec.manifest import Manifest
from jobspec.problems import Value, in_order, problem
from jobspec.status import ProblemLine
from jobspec.sweep import told
from jobspec.tree import Tree, odd_character, read_tree
from jobspec.units import WRITTEN_BY_A_PERSON

MAX_MANIFEST_BYTES = 64 * 1024

_NAME = re.compile(NAME_PATTERN)
_WIDE_MARKS = (b"\xff\xfe", b"\xfe\xff")
#: Control characters, line breaks that editors do not show, and characters that turn text around: nowhere, not even in comments.
_HIDDEN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ufffe\uffff]")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a manifest is not accepted: at least one problem, and the job's name where the text says a valid one."""

    problems: tuple[ProblemLine, ...]
    name: str | None = None


def read_manifest(body: bytes, *, key: str = "") -> Manifest | Refusal:
    """The manifest in ``body``, YAML or JSON by its content, or its problems. ``key`` only makes the messages fit the file.

    Reads no more than MAX_MANIFEST_BYTES; a caller fetches at most one byte more and need not look at the size itself.
    """
    text = _decode(body)
    if isinstance(text, ProblemLine):
        return Refusal((text,))
    tree = read_tree(text)
    name = _name_in(tree.value)
    if not tree.whole:
        return Refusal(in_order(tree.problems), name)
    if not isinstance(tree.value, dict):
        return Refusal(in_order([*tree.problems, _no_mapping(tree, key)]), name)
    answer = _validate(tree)
    more = _of_the_jobs(answer, tree) if isinstance(answer, Manifest) else complaints(answer, tree)
    if isinstance(answer, Manifest) and not tree.problems and not more:
        return answer
    return Refusal(in_order([*tree.problems, *more]), name)


def past_deadline(manifest: Manifest, now: datetime) -> tuple[ProblemLine, ...]:
    """What the clock says of a manifest that is valid in itself: a problem where its deadline has passed, else none."""
    deadline = manifest.limits.deadline
    if deadline is None or deadline > now:
        return ()
    return (
        problem(
            ("limits", "deadline"), "is in the past", found=f"{deadline:%Y-%m-%d %H:%M} UTC", allowed=f"a time after {now.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
        ),
    )


def _of_the_jobs(manifest: Manifest, tree: Tree) -> list[ProblemLine]:
    """What is wrong with single jobs of a sweep: one wrong one refuses them all."""
    found: list[ProblemLine] = []
    if manifest.sweep is None:
        return found
    for number, choice in enumerate(manifest.sweep.choices(), start=1):
        try:
            child_of(manifest, number, choice)
        except WrongChild as wrong:
            at = tree.lines.get(("sweep", "cases", number - 1), tree.lines.get(("sweep",)))
            written = {tuple[str | int, ...](key.split(".")): str(value) for key, value in choice.items()}
            for each in complaints(wrong.error, Tree(value=wrong.document, written=written)):
                found.append(
                    problem(("sweep",), f"makes {wrong.name} ({told(choice)}): {each.path} {each.message}", line=at, found=each.found, allowed=each.allowed)
                )
    return found


def _decode(body: bytes) -> str | ProblemLine:
    """The text, without a byte order mark, or why it is none."""
    if len(body) > MAX_MANIFEST_BYTES:
        return problem((), f"is larger than {MAX_MANIFEST_BYTES // 1024} KiB", allowed="64 KiB at most: data and models are named, not put in")
    if body.startswith(_WIDE_MARKS):
        return problem((), "is UTF-16 text", allowed="UTF-8: save the file again with that encoding")
    if b"\0" in body:
        line = body.count(b"\n", 0, body.index(b"\0")) + 1
        return problem((), "holds a NUL byte: it is binary, or UTF-16 text", line=line, allowed="YAML or JSON as UTF-8 text")
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = body.count(b"\n", 0, error.start) + 1
        return problem((), f"is not UTF-8 text: byte 0x{body[error.start]:02X} fits nowhere", line=line, allowed="YAML or JSON as UTF-8 text")
    hidden = _HIDDEN.search(text)
    if hidden:
        line = text.count("\n", 0, hidden.start()) + 1
        return problem((), f"holds the hidden character {odd_character(hidden.group())}", line=line, allowed="characters that can be seen: delete it")
    return text


def _name_in(value: Value) -> str | None:
    name = value.get("name") if isinstance(value, dict) else None
    return name if isinstance(name, str) and _NAME.fullmatch(name) else None


def _no_mapping(tree: Tree, key: str) -> ProblemLine:
    allowed = "a mapping of keys, such as `name: my-first-job`; events/manifests/minimal.yaml is a whole one"
    if tree.value is None:
        return problem((), "is empty" if not key.endswith(".json") else "is empty JSON", allowed=allowed)
    kind = "a list" if isinstance(tree.value, list) else "a single value"
    return problem((), f"is {kind}", line=1, found=tree.written.get((), ""), allowed=allowed)


def _validate(tree: Tree) -> Manifest | ValidationError:
    # Strict JSON mode: lists may be tuples and texts may be times, but no text is a number and no number a text.
    try:
        return Manifest.model_validate_json(json.dumps(tree.value), strict=True, context=WRITTEN_BY_A_PERSON)
    except ValidationError as error:
        return error
