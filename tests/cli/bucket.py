"""A stack's two buckets in moto, with jobs in every state: what the job commands read and write, without a cloud."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import boto3
from moto import mock_aws

from dropforge.stack import Stack
from jobspec import keys, wire
from jobspec.base import FileDigest
from jobspec.marker import CompletionMarker, Outcome, Results
from jobspec.status import AttemptStatus, Receipt, Status, TransitionLine
from tests.planning.architectures import TINY_LLAMA

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
WRITER = "AROAEXAMPLEID:i-0123456789abcdef0"
INSTANCE = "i-0123456789abcdef0"
MANIFEST = b"name: %s\nmodel: {s3: models/m/}\ndata: {train: data/t.jsonl}\ncompute: {gpu: {memory_gib: 16}}\n"


@dataclass
class Bucket:
    """A stack of moto's, and hands to fill it."""

    stack: Stack

    def put_material(self) -> None:
        """What the manifests name: a small model's configuration, and a row."""
        for key, body in (("models/m/config.json", json.dumps(TINY_LLAMA).encode()), ("data/t.jsonl", b'{"text": "a row"}\n')):
            self.stack.s3.put_object(Bucket=self.stack.data_bucket, Key=key, Body=body)

    def put_status(self, name: str, state: str = "RUNNING", **facts: Any) -> Status:
        """A job of that name, its manifest in the bucket, its status object written."""
        key = f"{keys.MANIFEST_PREFIX}{name}.yaml"
        version = self.stack.s3.put_object(Bucket=self.stack.data_bucket, Key=key, Body=MANIFEST % name.encode())["VersionId"]
        usual: dict[str, Any] = {
            "job_id": f"{name}-abc123",
            "name": name,
            "state": state,
            "reason": "because",
            "updated_at": NOW,
            "accepted_at": NOW,
            "manifest": f"s3://{self.stack.data_bucket}/{key}",
            "manifest_version": version,
            "history": (TransitionLine(at=NOW, state="ACCEPTED", reason="taken"),),
        }
        return self.write(Status(**usual | facts))

    def write(self, status: Status) -> Status:
        self.stack.s3.put_object(Bucket=self.stack.data_bucket, Key=keys.status_key(status.name), Body=wire.dump(status))
        return status

    def put_model(self, name: str, files: dict[str, bytes]) -> Status:
        """A finished job: its files, its marker, its status."""
        prefix = keys.run_prefix(f"{name}-abc123", WRITER)
        digests = []
        for path, body in files.items():
            self.stack.s3.put_object(Bucket=self.stack.outputs_bucket, Key=f"{prefix}final/{path}", Body=body)
            digests.append(FileDigest(path=f"final/{path}", size=len(body), sha256=hashlib.sha256(body).hexdigest()))
        results = Results(steps=3)
        marker = CompletionMarker(
            job_id=f"{name}-abc123", attempt=1, instance_id=INSTANCE, outcome=Outcome.COMPLETED, at=NOW, files=tuple(digests), results=results
        )
        self.stack.s3.put_object(Bucket=self.stack.outputs_bucket, Key=prefix + keys.MARKER_NAME, Body=wire.dump(marker))
        return self.put_status(name, "SUCCEEDED", model=f"s3://{self.stack.outputs_bucket}/{prefix}final/", attempts=(an_attempt(),), receipt=a_receipt())


def an_attempt(**facts: Any) -> AttemptStatus:
    usual: dict[str, Any] = {
        "number": 1,
        "market": "spot",
        "instance_id": INSTANCE,
        "instance_type": "g5.xlarge",
        "zone": "us-east-1a",
        "launched_at": NOW,
        "runtime_s": 90.0,
        "usd_per_h": 0.4,
        "cost_usd": 0.01,
    }
    return AttemptStatus(**usual | facts)


def a_receipt() -> Receipt:
    return Receipt(cost_usd=0.01, on_demand_usd=0.025, saved_usd=0.015, runtime_s=90.0, note="Estimated.")


@contextmanager
def new_bucket() -> Iterator[Bucket]:
    with mock_aws():
        s3 = boto3.client("s3", region_name="us-east-1", aws_access_key_id="testing", aws_secret_access_key="testing")
        for name in ("data", "outputs"):
            s3.create_bucket(Bucket=name)
            s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        made = Bucket(Stack("dropforge", "data", "outputs", s3))
        made.put_material()
        yield made
