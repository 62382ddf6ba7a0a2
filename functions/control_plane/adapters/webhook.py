"""A webhook over HTTPS, its address kept in a parameter of Systems Manager. Nothing that is raised or logged here holds the address."""

import http.client
import ssl
from typing import Any

from control_plane.core.webhooks import Told, body_of, headers_of, target_of
from control_plane.ports import Clock

#: To connect, and again for each part of the answer.
_TIMEOUT_S = 8


class WebhookRefused(RuntimeError):
    """The endpoint did not take the message, or could not be reached; Lambda delivers it again."""


class SsmWebhook:
    """``parameter``: the name of a SecureString. It is read for every message: a changed address counts from the next one on."""

    def __init__(self, ssm: Any, parameter: str, now: Clock) -> None:
        self._ssm, self._parameter, self._now = ssm, parameter, now

    def post(self, told: Told) -> None:
        """Raises WebhookRefused, and ValueError where the parameter holds no address."""
        try:
            target = target_of(self._ssm.get_parameter(Name=self._parameter, WithDecryption=True)["Parameter"]["Value"])
        except ValueError as error:
            raise ValueError(f"parameter {self._parameter}: {error}") from None
        body = body_of(told, target.host)
        headers = headers_of(told, target, body, int(self._now().timestamp()))
        connection = http.client.HTTPSConnection(target.host, target.port, timeout=_TIMEOUT_S, context=ssl.create_default_context())
        try:
            # http.client follows no redirect: what was signed for one address goes to no other.
            connection.request("POST", target.path, body, headers)
            status = connection.getresponse().status
        except (OSError, http.client.HTTPException) as error:
            raise WebhookRefused(f"{target.host} was not reached: {type(error).__name__}") from None
        finally:
            connection.close()
        if not 200 <= status < 300:
            raise WebhookRefused(f"{target.host} answered {status}")
