"""Functions of the stand-in stack: each does one thing that a contract test looks at."""

import json
import os
import subprocess
import time
from typing import Any

import boto3

dynamodb, sns, sts, s3 = (boto3.client(name) for name in ("dynamodb", "sns", "sts", "s3"))
identity = sts.get_caller_identity()["Arn"]


def record(event: dict[str, Any], context: Any) -> dict[str, bool]:
    """Keep the event under its detail-type; ask for faults by the object's key."""
    key = event.get("detail", {}).get("object", {}).get("key", "")
    body = {"event": event, "environment": sorted(os.environ), "arn": identity}
    item = {"pk": {"S": f"{event['detail-type']}#{context.aws_request_id}"}, "body": {"S": json.dumps(body)}}
    dynamodb.put_item(TableName=os.environ["TABLE_NAME"], Item=item)
    if "fail" in key:
        print(f"about to fail on {key}")
        raise ValueError(f"asked to fail by {key}")
    return {"kept": True}


def faults(event: dict[str, Any], context: Any) -> dict[str, int]:
    """Whatever the payload asks for."""
    if event.get("sleep_s"):
        child = subprocess.Popen(["sleep", "60"])
        print(f"child {child.pid}", flush=True)
        time.sleep(event["sleep_s"])
    if event.get("forbidden_bucket"):
        s3.put_object(Bucket=event["forbidden_bucket"], Key="x", Body=b"")
    return {"pid": os.getpid()}


def publish(event: dict[str, str], context: Any) -> None:
    sns.publish(TopicArn=os.environ["TOPIC_ARN"], Subject=event["subject"], Message=event["message"])
