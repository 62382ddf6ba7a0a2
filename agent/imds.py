"""Instance metadata, version 2 only: identity, tags, the interruption notice and the rebalance recommendation.

404 means "there is none". Notices are best effort (EC2 guide, "Spot Instance interruption notices"), so no answer and an
unreadable answer are "none known" too, said once in the log. ``spot/termination-time`` is legacy, can hold a past time
after a failed termination, and is not read.
"""

import http.client
import json
import logging
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import datetime, timedelta

from pydantic import TypeAdapter

from jobspec.base import UtcTime
from jobspec.heartbeat import Notice

TOKEN_LIFE_S = 21600
TIMEOUT_S = 2.0
MAX_ANSWER_BYTES = 64 * 1024
#: What EC2 promises at best between a notice and the end.
NOTICE = timedelta(minutes=2)

log = logging.getLogger(__name__)
_time = TypeAdapter(UtcTime)


class ImdsUnreachable(Exception):
    """No answer from the metadata service."""


class Imds:
    """One instance's metadata at ``endpoint`` (no closing slash); ``now`` gives aware times."""

    def __init__(self, endpoint: str, now: Callable[[], datetime]) -> None:
        self._endpoint = endpoint
        self._now = now
        self._token = ""
        # No proxy: metadata is link-local, and a proxy would answer for itself.
        self._open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
        self._quiet = False

    def instance_id(self) -> str:
        """Raises ImdsUnreachable."""
        found = self._get("instance-id")
        if found is None:
            raise ImdsUnreachable("the metadata service knows no instance id")
        return found

    def instance_type(self) -> str | None:
        """The EC2 type, or None where the service knows none (the local cloud's). Raises ImdsUnreachable."""
        return self._get("instance-type")

    def interruption(self) -> Notice | None:
        """The spot interruption notice, if there is one; a notice without a readable time gives two minutes from now."""
        document = self._look("spot/instance-action")
        return None if document is None else Notice(kind="interruption", at=self._time_in(document, "time", NOTICE))

    def rebalance(self) -> Notice | None:
        document = self._look("events/recommendations/rebalance")
        return None if document is None else Notice(kind="rebalance", at=self._time_in(document, "noticeTime", timedelta()))

    def _look(self, path: str) -> str | None:
        try:
            found = self._get(path)
        except ImdsUnreachable as error:
            if not self._quiet:
                log.warning("no metadata: %s; a notice may be missed", error)
            self._quiet = True
            return None
        self._quiet = False
        return found

    def _get(self, path: str, *, again: bool = True) -> str | None:
        if not self._token:
            self._token = self._call("PUT", "/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_LIFE_S)}) or ""
        try:
            return self._call("GET", f"/latest/meta-data/{path}", {"X-aws-ec2-metadata-token": self._token})
        except PermissionError:
            self._token = ""
            if again:
                return self._get(path, again=False)
            raise ImdsUnreachable("the metadata service refuses its own token") from None

    def _call(self, method: str, path: str, headers: dict[str, str]) -> str | None:
        # The endpoint is this machine's own setting, http by nature.
        request = urllib.request.Request(self._endpoint + path, method=method, headers=headers)  # noqa: S310
        try:
            with self._open(request, timeout=TIMEOUT_S) as answer:
                body: bytes = answer.read(MAX_ANSWER_BYTES)
            return body.decode()
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 404:
                return None
            if error.code == 401:
                raise PermissionError(path) from None
            raise ImdsUnreachable(f"status {error.code} for {path}") from None
        except (OSError, http.client.HTTPException, UnicodeDecodeError) as error:
            raise ImdsUnreachable(f"{path}: {error}") from None

    def _time_in(self, document: str, field: str, later: timedelta) -> datetime:
        try:
            return _time.validate_python(json.loads(document)[field])
        except (ValueError, KeyError, TypeError):
            log.warning("a notice without a readable %s: %.200r", field, document)
            return self._now() + later
