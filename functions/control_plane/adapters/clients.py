"""Clients of AWS with short timeouts. Typed ``Any``: stubs of each service would be a large dependency for a few calls.

They are botocore's, the very ones that boto3 hands out, from one session: boto3 itself, with its resources and its S3 transfers, would be
imported for nothing.

Standard mode retries throttling, 5xx answers and lost connections. That is safe for every call made here: reads; puts of
whole objects; DynamoDB transactions, which carry a request token of botocore's making; TerminateInstances, which is idempotent;
and CreateFleet, because a retry repeats the very request, client token included, and EC2 answers it with the first result.
PutEvents may send twice, which its readers expect anyway. SNS Publish has no token: it is tried once, and the publish
ledger says whether a lost answer had its effect.
"""

from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

from botocore.config import Config
from botocore.loaders import Loader
from botocore.session import get_session

_CONNECT_TIMEOUT_S = 3
#: Seconds for an answer, and attempts. CreateFleet "instant" waits for the launch itself; the others answer in milliseconds.
#: All attempts together stay below a function's timeout of 60 s, so that a lost call ends as an error that is logged and not with the function.
_LIMITS = {"ec2": (20, 2), "sns": (8, 1)}
_USUAL_LIMITS = (8, 3)
SERVICES = ("dynamodb", "ec2", "events", "s3", "sns", "ssm")
#: Calls that a tick has under way at one time, each on a connection of its own.
AT_ONCE = 32
#: Where ``tools/bundle.py`` puts botocore's descriptions of the services, cut down to the calls that are made here: whole, EC2's alone takes 50 ms to
#: read. Nothing lies there as long as it has not run; then botocore's own are read.
MODELS = Path(__file__).parents[2] / "aws_models"
_making = Lock()


def client(service: str, region: str | None = None) -> Any:
    """A client of the service, in the function's own region where none is named."""
    read_timeout_s, attempts = _LIMITS.get(service, _USUAL_LIMITS)
    config = Config(
        connect_timeout=_CONNECT_TIMEOUT_S,
        read_timeout=read_timeout_s,
        retries={"mode": "standard", "total_max_attempts": attempts},
        max_pool_connections=AT_ONCE,
    )
    # A session makes one client at a time (boto3 guide, "Multithreading or multiprocessing with sessions"); the clients themselves may be shared.
    with _making:
        return _session().create_client(service, region_name=region, config=config)


@cache
def _session() -> Any:
    """One for all clients: what it has read of botocore's data serves them all."""
    session = get_session()
    session.register_component("data_loader", _Models([str(MODELS)]))
    return session


class _Models(Loader):
    """botocore looks through the folders of all its 400 services, for each kind of file, to learn that one exists: 6 ms each time. Ours do."""

    def list_available_services(self, type_name: str) -> list[str]:
        return list(SERVICES)
