"""boto3 clients with short timeouts. Typed ``Any``: stubs of each service would be a large dependency for a few calls.

Standard mode retries throttling, 5xx answers and lost connections. That is safe for every call made here: reads; puts of
whole objects; DynamoDB transactions, which carry a request token of botocore's making; TerminateInstances, which is idempotent;
and CreateFleet, because a retry repeats the very request, client token included, and EC2 answers it with the first result.
PutEvents may send twice, which its readers expect anyway. SNS Publish has no token: it is tried once, and the publish
ledger says whether a lost answer had its effect.
"""

from typing import Any

import boto3
from botocore.config import Config

_CONNECT_TIMEOUT_S = 3
#: Seconds for an answer, and attempts. CreateFleet "instant" waits for the launch itself; the others answer in milliseconds.
#: All attempts together stay below a function's timeout of 60 s, so that a lost call ends as an error that is logged and not with the function.
_LIMITS = {"ec2": (20, 2), "sns": (8, 1)}
_USUAL_LIMITS = (8, 3)
#: Calls that a tick has under way at one time, each on a connection of its own.
AT_ONCE = 32


def client(service: str, region: str | None = None) -> Any:
    """A client of the service, in the function's own region where none is named."""
    read_timeout_s, attempts = _LIMITS.get(service, _USUAL_LIMITS)
    config = Config(
        connect_timeout=_CONNECT_TIMEOUT_S,
        read_timeout=read_timeout_s,
        retries={"mode": "standard", "total_max_attempts": attempts},
        max_pool_connections=AT_ONCE,
    )
    # boto3-stubs knows client() only for literal names of services whose stubs are installed.
    make: Any = boto3.client
    return make(service, region_name=region, config=config)
