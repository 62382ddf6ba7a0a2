"""The worlds that the adapters are held against: the AWS in memory, moto in process, and on request a live account.

moto and a live account are asked for the same things in the same way. A live side makes scratch resources of its own, under
names that hold a random word, and removes them at its end: nothing that a stack owns is written.
"""

import json
import secrets
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache
from typing import Any, Protocol

import boto3
from botocore.config import Config

from tests.contract.samples import PROJECT, ROLE_ID, now
from tests.simulation.aws import Account

TABLE = "jobs"
REGION = "us-east-1"
#: One attempt, so that a fault on the wire is seen once and no test waits for a back-off.
_ONCE = Config(region_name=REGION, retries={"mode": "standard", "total_max_attempts": 1})

Box = Callable[[], list[dict[str, Any]]]


class Side(Protocol):
    """What a test may ask of a world."""

    kind: str
    #: The name of the table that ``job_table`` makes.
    table: str

    def client(self, service: str) -> Any: ...

    def job_table(self) -> Any:
        """The DynamoDB client of an empty job table, as the template makes it."""

    def bucket(self, label: str) -> str:
        """The name of an empty, versioned bucket."""

    def topic(self) -> tuple[str, Box]:
        """An e-mail topic's ARN, and what its subscriber was sent, oldest first."""

    def bus_target(self, source: str) -> Box:
        """What a rule for that source brings to its target."""


class InMemorySide:
    kind = "in-memory"
    table = TABLE

    def __init__(self) -> None:
        self.account = Account(now, project=PROJECT, role_id=ROLE_ID)

    def client(self, service: str) -> Any:
        return self.account.client(service)

    def job_table(self) -> Any:
        return self.account.dynamodb

    def bucket(self, label: str) -> str:
        self.account.s3.make_bucket(label)
        return label

    def topic(self) -> tuple[str, Box]:
        return "arn:aws:sns:us-east-1:123456789012:mail", lambda: self.account.sns.published

    def bus_target(self, source: str) -> Box:
        found: list[dict[str, Any]] = []

        def hear(sender: str, kind: str, detail: dict[str, Any]) -> None:
            if sender == source:
                found.append({"source": sender, "detail-type": kind, "detail": detail})

        self.account.emit = hear
        return lambda: found


@cache
def _nobodys_session() -> Any:
    """One for all tests, made inside moto: reading a service's model is most of what a client costs. Hooks stay with their client."""
    return boto3.Session(aws_access_key_id="testing", aws_secret_access_key="testing")


class MotoSide:
    kind = "moto"
    table = TABLE

    def client(self, service: str) -> Any:
        return _nobodys_session().client(service, config=_ONCE)

    def job_table(self) -> Any:
        dynamodb = self.client("dynamodb")
        dynamodb.create_table(
            TableName=self.table,
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "open", "place")],
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
            GlobalSecondaryIndexes=[
                {
                    "IndexName": "open",
                    "KeySchema": [{"AttributeName": "open", "KeyType": "HASH"}, {"AttributeName": "place", "KeyType": "RANGE"}],
                    "Projection": {"ProjectionType": "KEYS_ONLY"},
                }
            ],
        )
        return dynamodb

    def bucket(self, label: str) -> str:
        bucket = self._named(label)
        s3 = self.client("s3")
        s3.create_bucket(Bucket=bucket)
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        return bucket

    def topic(self) -> tuple[str, Box]:
        sns = self.client("sns")
        arn: str = sns.create_topic(Name=self._named("mail"))["TopicArn"]
        queue, box = self._queue("sns.amazonaws.com")
        sns.subscribe(TopicArn=arn, Protocol="sqs", Endpoint=queue)
        return arn, box

    def bus_target(self, source: str) -> Box:
        events, rule = self.client("events"), self._named("ours")
        events.put_rule(Name=rule, EventPattern=json.dumps({"source": [source]}))
        queue, box = self._queue("events.amazonaws.com")
        events.put_targets(Rule=rule, Targets=[{"Id": "queue", "Arn": queue}])
        return box

    def _named(self, label: str) -> str:
        return label

    def _queue(self, sender: str) -> tuple[str, Box]:
        sqs = self.client("sqs")
        url = sqs.create_queue(QueueName=self._named("target"))["QueueUrl"]
        arn: str = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        statement = {"Effect": "Allow", "Principal": {"Service": sender}, "Action": "sqs:SendMessage", "Resource": arn}
        sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": json.dumps({"Version": "2012-10-17", "Statement": [statement]})})
        return arn, lambda: [json.loads(message["Body"]) for message in self._received(sqs, url)]

    def _received(self, sqs: Any, url: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
        return found


class LiveSide(MotoSide):
    """The account and the region that boto3 finds. Everything made here is removed by ``close``."""

    kind = "live"

    def __init__(self) -> None:
        self._run = secrets.token_hex(4)
        self._undo = ExitStack()
        self.table = self._named("jobs")

    def client(self, service: str) -> Any:
        # boto3-stubs knows client() only for literal names of services whose stubs are installed.
        make: Any = boto3.client
        return make(service)

    def close(self) -> None:
        self._undo.close()

    def job_table(self) -> Any:
        dynamodb = super().job_table()
        self._undo.callback(dynamodb.delete_table, TableName=self.table)
        dynamodb.get_waiter("table_exists").wait(TableName=self.table, WaiterConfig={"Delay": 2})
        return dynamodb

    def bucket(self, label: str) -> str:
        bucket = self._named(label)
        # In the region that boto3 finds; us-east-1 is the one region that CreateBucket does not take by name.
        region = boto3.session.Session().region_name
        s3 = self.client("s3")
        s3.create_bucket(Bucket=bucket, **({} if region == REGION else {"CreateBucketConfiguration": {"LocationConstraint": region}}))
        self._undo.callback(self._drop_bucket, bucket)
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        return bucket

    def topic(self) -> tuple[str, Box]:
        arn, box = super().topic()
        self._undo.callback(self.client("sns").delete_topic, TopicArn=arn)
        return arn, box

    def bus_target(self, source: str) -> Box:
        box, rule, events = super().bus_target(source), self._named("ours"), self.client("events")
        self._undo.callback(events.delete_rule, Name=rule)
        self._undo.callback(events.remove_targets, Rule=rule, Ids=["queue"])
        # "Changes to a rule might take a short time to apply" (EventBridge guide); an event put before is not brought.
        time.sleep(30)
        return box

    def _named(self, label: str) -> str:
        return f"dropforge-contract-{self._run}-{label}"

    def _queue(self, sender: str) -> tuple[str, Box]:
        arn, box = super()._queue(sender)
        sqs = self.client("sqs")
        self._undo.callback(sqs.delete_queue, QueueUrl=sqs.get_queue_url(QueueName=self._named("target"))["QueueUrl"])
        return arn, box

    def _received(self, sqs: Any, url: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=10).get("Messages", [])
        return found

    def _drop_bucket(self, bucket: str) -> None:
        boto3.resource("s3").Bucket(bucket).object_versions.delete()
        self.client("s3").delete_bucket(Bucket=bucket)
