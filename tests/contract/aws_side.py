"""The AWS side in process: moto's account, with the table, topic, buckets and network that the adapters expect."""

from functools import cache
from typing import Any

import boto3
from botocore.config import Config

TABLE = "jobs"
#: One attempt, so that a fault on the wire is seen once and no test waits for a back-off.
_ONCE = Config(region_name="us-east-1", retries={"mode": "standard", "total_max_attempts": 1})


@cache
def _session() -> Any:
    """One for all tests, made inside moto: reading a service's model is most of what a client costs. Hooks stay with their client."""
    return boto3.Session(aws_access_key_id="testing", aws_secret_access_key="testing")


def client(service: str) -> Any:
    return _session().client(service, config=_ONCE)


def job_table() -> Any:
    """The client of a new job table, as the template makes it."""
    dynamodb = client("dynamodb")
    dynamodb.create_table(
        TableName=TABLE,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}, {"AttributeName": "open", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        GlobalSecondaryIndexes=[
            {
                "IndexName": "open",
                "KeySchema": [{"AttributeName": "open", "KeyType": "HASH"}, {"AttributeName": "pk", "KeyType": "RANGE"}],
                "Projection": {"ProjectionType": "KEYS_ONLY"},
            }
        ],
    )
    return dynamodb
