"""Reading and writing the contract's JSON documents: one way, with a size limit before a parser sees a byte."""

from typing import TypeVar

from pydantic import ValidationError

from jobspec.base import Document
from jobspec.problems import shown

D = TypeVar("D", bound=Document)

#: Control documents are small; anything larger is not ours.
MAX_DOCUMENT_BYTES = 1024 * 1024
#: A marker with its 1000 files has some 3000. Every wrong value costs pydantic a kilobyte, so a megabyte of them would cost a
#: function its memory: what holds more is not read at all. JSON with n commas has at most n + 1 values that are no list or section.
MAX_VALUES = 10_000


class UnreadableDocument(ValueError):
    """Bytes that are not the document they should be; the message says where and why, in one line."""


def dump(document: Document) -> bytes:
    """The document as UTF-8 JSON with a closing newline, keys in the model's order."""
    return document.model_dump_json(indent=1).encode() + b"\n"


def load(model: type[D], body: bytes) -> D:
    """The document in ``body``. Raises UnreadableDocument for anything but a valid one."""
    if len(body) > MAX_DOCUMENT_BYTES:
        raise UnreadableDocument(f"{model.__name__}: {len(body)} bytes, the limit is {MAX_DOCUMENT_BYTES}")
    if body.count(b",") >= MAX_VALUES:
        raise UnreadableDocument(f"{model.__name__}: more than {MAX_VALUES} values")
    try:
        return model.model_validate_json(body)
    except (ValidationError, RecursionError) as error:
        raise UnreadableDocument(f"{model.__name__}: {_first_problem(error)}") from None


def _first_problem(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return "nested too deeply"
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    # A key that is not the model's is the stranger's own text.
    where = shown(".".join(str(part) for part in first["loc"]))[:120] or "document"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"{where}: {first['msg'][:200]}{more}"
