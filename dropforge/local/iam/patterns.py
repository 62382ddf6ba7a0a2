"""Patterns of policies against names: wildcards, policy variables, the parts of an ARN.

IAM guide, "Policy elements: Resource" (wildcards in ARNs), "Variables and tags", "Condition operators: ARN".
"""

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache

#: Values of condition keys by lower-case key; a tuple for a key that holds several values.
Context = Mapping[str, str | tuple[str, ...]]

_TOKEN = re.compile(r"\$\{([^}]*)\}|.", re.DOTALL)
_VARIABLE = re.compile(r"([A-Za-z0-9:/_.-]+)(?:, *'([^']*)')?")
#: ``${*}``, ``${?}`` and ``${$}`` stand for the characters themselves.
_LITERAL = frozenset("*?$")
_ARN_PARTS = 6


def matches(pattern: str, text: str, context: Context, *, ignore_case: bool = False) -> bool:
    """Whether the whole text is what the pattern says. A pattern whose variable has no value matches nothing."""
    found = substituted(pattern, context)
    return found is not None and _plain(found, ignore_case).fullmatch(text) is not None


def arn_matches(pattern: str, arn: str, context: Context, *, apart: bool = False) -> bool:
    """As ``matches``, part by part: a wildcard stays within its part, unless it is the part's last character.

    ``apart``: it always stays within its part, as the ARN operators of conditions compare.
    """
    found = substituted(pattern, context)
    return found is not None and _arn(found, apart).fullmatch(arn) is not None


Parts = tuple[tuple[bool, str], ...]


def substituted(pattern: str, context: Context) -> Parts | None:
    """(is a wildcard, text) for each piece of the pattern, or None where a variable has no value, or more than one.

    The value of a variable is text: a ``*`` in it matches a ``*``.
    """
    return _pieces(pattern, tuple((name, _single(context.get(name.lower()))) for name in variables(pattern)))


@lru_cache(maxsize=4096)
def variables(pattern: str) -> tuple[str, ...]:
    """The keys that a pattern has variables for, as they are written."""
    return tuple(_variable(found[1])[0] for found in _TOKEN.finditer(pattern) if found[1] is not None and found[1] not in _LITERAL)


def _variable(text: str) -> tuple[str, str | None]:
    """Name and default. Raises ValueError for what is no variable."""
    found = _VARIABLE.fullmatch(text)
    if found is None:
        raise ValueError(f"not a policy variable: ${{{text}}}")
    return found[1], found[2]


def _single(value: str | tuple[str, ...] | None) -> str | None:
    return value if isinstance(value, str) else None


@lru_cache(maxsize=65536)
def _pieces(pattern: str, values: tuple[tuple[str, str | None], ...]) -> Parts | None:
    known = dict(values)
    pieces: list[tuple[bool, str]] = []
    for found in _TOKEN.finditer(pattern):
        inner = found[1]
        if inner is None:
            pieces.append((found[0] in "*?", found[0]))
        elif inner in _LITERAL:
            pieces.append((False, inner))
        else:
            name, default = _variable(inner)
            value = known[name] if known[name] is not None else default
            if value is None:
                return None
            pieces.append((False, value))
    return tuple(pieces)


@lru_cache(maxsize=65536)
def _plain(pieces: Parts, ignore_case: bool) -> re.Pattern[str]:
    wild = {"*": ".*", "?": "."}
    return re.compile("".join(wild[text] if is_wild else re.escape(text) for is_wild, text in pieces), re.DOTALL | (re.IGNORECASE if ignore_case else 0))


@lru_cache(maxsize=65536)
def _arn(pieces: Parts, apart: bool) -> re.Pattern[str]:
    return re.compile("".join(_arn_pieces(pieces, apart)), re.DOTALL)


def _arn_pieces(pieces: Parts, apart: bool) -> Iterator[str]:
    part = 1
    for (is_wild, text), (_, following) in zip(pieces, (*pieces[1:], (False, ":")), strict=True):
        part += not is_wild and text == ":"
        free = part >= _ARN_PARTS or (not apart and following == ":")
        if not is_wild:
            yield re.escape(text)
        elif text == "*":
            yield ".*" if free else "[^:]*"
        else:
            yield "." if part >= _ARN_PARTS else "[^:]"
