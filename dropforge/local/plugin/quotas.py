"""Service Quotas, as much of it as asks for a vCPU quota of EC2: the emulator has none of it, and the market knows the answer.

An account without a limit answers with one that any offered type fits into. Nothing of this service is checked against policies.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from dropforge.local.plugin.market import SpotMarket

TARGET = b"ServiceQuotasV20190624."
#: What the quota is while nobody limited the market (`dropforge local capacity --quota`).
AMPLE_VCPUS = 1000


class Quotas:
    """``codes``: quota code to market, ``spot`` or ``on-demand``."""

    def __init__(self, codes: Mapping[str, str], market: SpotMarket) -> None:
        self._codes, self._market = codes, market

    def around(self, app: Any) -> Any:
        """An ASGI application that answers for Service Quotas and leaves the rest to ``app``."""

        async def application(scope: Any, receive: Any, send: Any) -> None:
            headers = dict(scope.get("headers", ()))
            target = headers.get(b"x-amz-target", b"")
            if scope["type"] != "http" or not target.startswith(TARGET):
                await app(scope, receive, send)
                return
            body, more = b"", True
            while more:
                message = await receive()
                body, more = body + message.get("body", b""), bool(message.get("more_body"))
            status, answer = self.answer(target.removeprefix(TARGET).decode(), json.loads(body or b"{}"), _region(headers))
            await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"application/x-amz-json-1.1")]})
            await send({"type": "http.response.body", "body": json.dumps(answer).encode()})

        return application

    def answer(self, operation: str, asked: dict[str, Any], region: str) -> tuple[int, dict[str, Any]]:
        """Status and body, errors as the service's JSON protocol gives them."""
        if operation not in ("GetServiceQuota", "GetAWSDefaultServiceQuota"):
            return 400, {"__type": "UnknownOperationException", "Message": f"The local cloud does not know {operation}."}
        market = self._codes.get(str(asked.get("QuotaCode")))
        if asked.get("ServiceCode") != "ec2" or market is None:
            return 400, {"__type": "NoSuchResourceException", "Message": "The request failed because the specified quota does not exist."}
        vcpus = self._market.quota(region, market)
        value = float(AMPLE_VCPUS if vcpus is None else vcpus)
        return 200, {"Quota": {"ServiceCode": "ec2", "QuotaCode": asked["QuotaCode"], "Value": value, "Adjustable": True}}


def _region(headers: Mapping[bytes, bytes]) -> str:
    """The region that a request is signed for: a quota is each region's own."""
    found = re.search(rb"Credential=[^/]+/[0-9]+/([^/]+)/", headers.get(b"authorization", b""))
    return found[1].decode() if found else ""
