"""Answers in pages."""

from collections.abc import Callable, Iterator
from typing import Any


class Paginator:
    """A boto3 paginator: each page is a call of its own, so that a fault can fall between two pages."""

    def __init__(self, call: Callable[..., dict[str, Any]]) -> None:
        self._call = call

    def paginate(self, **request: Any) -> Iterator[dict[str, Any]]:
        request.pop("PaginationConfig", None)
        token = 0
        while True:
            page = self._call(**request, _start=token)
            token = page.pop("_next")
            yield page
            if token is None:
                return
