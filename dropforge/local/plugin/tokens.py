"""Client tokens: a retry of the same request gets the first answer, a changed one IdempotentParameterMismatch.

Scope (EC2 guide, "Ensuring idempotency"): zonal where the request names a zone or subnet, else regional, so the same
token in two zones or in two regions is two requests. Only a launch is remembered, never an error. A token whose instance has ended
meanwhile is refused with IdempotentInstanceTerminated (error code list).
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

MAX_TOKEN_CHARACTERS = 64
_NOT_THE_REQUEST = frozenset({"ClientToken", "DryRun", "AWSAccessKeyId", "Signature"})

Response = tuple[int, dict[str, str], bytes]


@dataclass(frozen=True, slots=True)
class Remembered:
    fingerprint: str
    response: Response
    instance_ids: tuple[str, ...]


class TokenRefused(Exception):
    """An EC2 error: ``code`` and message."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class ClientTokens:
    """The launches of this cloud's life, by action, scope and token."""

    def __init__(self, ended: Callable[[str], bool]) -> None:
        self._ended = ended
        self._seen: dict[tuple[str, str, str], Remembered] = {}

    def recall(self, action: str, scope: str, request: Mapping[str, Any]) -> Response | None:
        """The first answer to this request, or None if it is new. Raises TokenRefused."""
        token = str(request.get("ClientToken") or "")
        if len(token) > MAX_TOKEN_CHARACTERS or not token.isascii():
            raise TokenRefused("InvalidParameterValue", f"The client token is longer than {MAX_TOKEN_CHARACTERS} ASCII characters.")
        first = self._seen.get((action, scope, token)) if token else None
        if first is None:
            return None
        if first.fingerprint != fingerprint(request):
            raise TokenRefused("IdempotentParameterMismatch", "The client token has been used before with different request parameters.")
        if first.instance_ids and all(self._ended(instance_id) for instance_id in first.instance_ids):
            raise TokenRefused("IdempotentInstanceTerminated", "The client token belongs to an instance that has been terminated.")
        return first.response

    def remember(self, action: str, scope: str, request: Mapping[str, Any], response: Response, instance_ids: list[str]) -> None:
        token = str(request.get("ClientToken") or "")
        if token:
            self._seen[action, scope, token] = Remembered(fingerprint(request), response, tuple(instance_ids))


def fingerprint(request: Mapping[str, Any]) -> str:
    """The request without what may differ between two sendings of it."""
    return json.dumps({key: value for key, value in request.items() if key not in _NOT_THE_REQUEST}, sort_keys=True)
