"""boto3 clients with short timeouts. Typed ``Any``: stubs of each service would be a large dependency for a few calls.

Standard mode retries throttling, 5xx answers and lost connections. That is safe for every call made here: reads; puts of
whole objects; DynamoDB transactions, which carry a request token of botocore's making; TerminateInstances, which is idempotent;
and CreateFleet, because a retry repeats the very request, client token included, and EC2 answers it with the first result.
SNS Publish and PutEvents may send twice, which their readers expect of those services anyway.
"""

from typing import Any

import boto3
from botocore.config import Config

#: Seconds for an answer. CreateFleet "instant" waits for the launch itself; the others answer in milliseconds.
_READ_TIMEOUT_S = {"ec2": 30}
_OTHERS_READ_TIMEOUT_S = 8
_CONNECT_TIMEOUT_S = 3
_ATTEMPTS = 3


def client(service: str) -> Any:
    """A client of the service in the function's own region."""
    config = Config(
        connect_timeout=_CONNECT_TIMEOUT_S,
        read_timeout=_READ_TIMEOUT_S.get(service, _OTHERS_READ_TIMEOUT_S),
        retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
    )
    # boto3-stubs knows client() only for literal names of services whose stubs are installed.
    make: Any = boto3.client
    return make(service, config=config)
