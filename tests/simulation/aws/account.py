"""One account: its services, its clients, and the gate that every call passes."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, Protocol

from tests.simulation.aws.dynamodb import DynamoDb
from tests.simulation.aws.ec2 import Ec2
from tests.simulation.aws.parameters import Ssm
from tests.simulation.aws.regions import RegionalEc2, RegionalSsm
from tests.simulation.aws.s3 import S3
from tests.simulation.aws.topics import Events, Sns

HOME = "us-east-1"


class Gate(Protocol):
    def __call__(self, operation: str, subject: str, effect: Callable[[], Any]) -> Any:
        """Make the call, or let it fail. ``subject`` names what it is about, for people."""


def _straight(operation: str, subject: str, effect: Callable[[], Any]) -> Any:
    return effect()


class Account:
    """``emit`` hears every event that AWS would send: (source, detail-type, detail). ``later`` runs something after some seconds."""

    def __init__(self, now: Callable[[], datetime], *, project: str = "proj", role_id: str = "AROAEXAMPLEROLEID0001") -> None:
        self.now = now
        self.project = project
        self.role_id = role_id
        self.gate: Gate = _straight
        self.emit: Callable[[str, str, dict[str, Any]], None] = lambda source, kind, detail: None
        self.later: Callable[[float, Callable[[], None]], None] = lambda seconds, work: work()
        #: Stands between a client and whoever asks for it: tests/iam listens there.
        self.through: Callable[[str, Any, str], Any] = lambda service, client, region: client
        self.dynamodb = DynamoDb(self)
        self.ec2 = Ec2(self)
        self.s3 = S3(self)
        self.sns = Sns(self)
        self.events = Events(self)
        self.ssm = Ssm(self)

    def client(self, service: str, region: str | None = None) -> Any:
        """What ``boto3.client(service, region_name=region)`` would give. Without other regions' subnets the account is one region."""
        if service == "ssm" and region is not None:
            return self.through(service, RegionalSsm(self, region), region)
        if service == "ec2" and any(zone[:-1] != HOME for zone in self.ec2.subnets.values()):
            return self.through(service, RegionalEc2(self.ec2, region or HOME), region or HOME)
        return self.through(service, getattr(self, service), HOME)

    def call(self, operation: str, subject: str, effect: Callable[[], Any]) -> Any:
        return self.gate(operation, subject, effect)
