"""Secrets of the stack, from Systems Manager's Parameter Store: read when they are needed, kept nowhere."""

from typing import Any

import boto3
from botocore.config import Config


def connect(endpoint_url: str | None) -> Any:
    """An SSM client, typed Any: boto3 makes its classes at run time."""
    make: Any = boto3.client
    return make("ssm", endpoint_url=endpoint_url, config=Config(connect_timeout=5, read_timeout=10, retries={"mode": "standard", "total_max_attempts": 3}))


class Parameters:
    """``connect`` is called at the first read: most jobs need none. ``path``: the stack's TrackingPath, empty where it has none."""

    def __init__(self, make: Any, path: str) -> None:
        self._make, self.path = make, path

    def read(self, name: str) -> str:
        """The value of ``PATH/name``. Raises what boto3 raises, which names the parameter and never its value."""
        found = self._make().get_parameter(Name=f"{self.path}/{name}", WithDecryption=True)
        return str(found["Parameter"]["Value"])
