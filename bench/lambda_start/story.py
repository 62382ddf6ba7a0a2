"""One job's story, told to every door in turn: a world in moto, and for each door the event that finds work in it."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import yaml

from jobspec import keys, wire
from jobspec.base import FileDigest
from jobspec.heartbeat import Heartbeat, Phase
from jobspec.marker import CompletionMarker, Outcome, Results
from tests.contract.sides import MotoSide
from tests.driver.house import MANIFEST, MATERIAL

EVENTS = Path(__file__).parents[2] / "events"
DATA, OUTPUTS, ROLE_ID = "dropforge-databucket-example", "dropforge-outputsbucket-example", "AROAEXAMPLEID"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_SESSION_TOKEN": "testing", "AWS_DEFAULT_REGION": "us-east-1"}


@dataclass
class Story:
    """``environment``: what template.yaml tells every function."""

    environment: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.s3, self.ec2, sns = (boto3.client(name) for name in ("s3", "ec2", "sns"))
        for bucket in (DATA, OUTPUTS):
            self.s3.create_bucket(Bucket=bucket)
            self.s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        for key, body in MATERIAL.items():
            self.s3.put_object(Bucket=DATA, Key=key, Body=body)
        MotoSide().job_table()
        subnets = [subnet["SubnetId"] for subnet in self.ec2.describe_subnets()["Subnets"]][:2]
        image = self.ec2.register_image(Name="gpu", RootDeviceName="/dev/sda1")["ImageId"]
        data = {"ImageId": image, "InstanceType": "g5.xlarge"}
        template = self.ec2.create_launch_template(LaunchTemplateName="lt", LaunchTemplateData=data)["LaunchTemplate"]
        self.environment = {
            "PROJECT": "dropforge",
            "TABLE_NAME": "jobs",
            "DATA_BUCKET": DATA,
            "OUTPUTS_BUCKET": OUTPUTS,
            "TOPIC_ARN": sns.create_topic(Name="mail")["TopicArn"],
            "INSTANCE_ROLE_ID": ROLE_ID,
            "LAUNCH_TEMPLATE_ID": template["LaunchTemplateId"],
            "LAUNCH_TEMPLATE_VERSION": "1",
            "SUBNET_IDS": ",".join(subnets),
            # So long that the one heartbeat of the story is fresh throughout.
            "HEARTBEAT_SECONDS": "300",
            "NOTICE_SECONDS": "120",
            "STRAY_GRACE_SECONDS": "3600",
            "MAX_CONCURRENT_JOBS": "10",
            "BUDGET_ACTION": "pause",
            "MONTHLY_CAP_USD": "200",
            "VOLUME_GIB": "150",
            "POWERTOOLS_METRICS_NAMESPACE": "Dropforge/bench",
            "POWERTOOLS_SERVICE_NAME": "dropforge",
        }

    def scenes(self) -> list[tuple[str, str, Callable[[], Any]]]:
        """(handler, what happens in it, the world made ready: its event), in an order in which each finds work."""
        return [
            ("submit", "a manifest: job and launch", self._manifest),
            ("reconcile", "a tick over one job that trains", self._trains),
            ("report", "a status: its page", lambda: _sample("status-created", bucket={"name": DATA}, object={"key": keys.status_key("tale")})),
            ("interruption", "a warning: a replacement", lambda: _sample("spot-interruption-warning", **{"instance-id": self._live()[0]})),
            ("instance_state", "an instance's end", self._ends),
            ("completion", "a marker: the instance's end, the e-mail", self._marked),
            ("publish_ledger", "a published notice", lambda: _sample("published-notice-sns")),
            ("budget_relay", "AWS Budgets' mail", lambda: _sample("budget-mail-sns")),
            ("budget", "a budget alert: launches held", lambda: _sample("budget-alert")),
            ("curfew", "a look for overdue instances", lambda: _sample("curfew")),
            ("operator", "a request that nobody waits for any more", lambda: _sample("operator-request")),
            ("webhook", "an event that is none", dict),
        ]

    def _manifest(self) -> Any:
        self.s3.put_object(Bucket=DATA, Key="jobs/tiny.yaml", Body=yaml.safe_dump(MANIFEST).encode())
        return _sample("manifest-created", bucket={"name": DATA}, object={"key": "jobs/tiny.yaml"})

    def _trains(self) -> Any:
        (first,) = self._live()
        beat = Heartbeat(job_id=self._job_id(), attempt=1, instance_id=first, seq=1, at="2026-11-01T00:00:00Z", phase=Phase.TRAINING, step=5, total_steps=9)
        self.s3.put_object(Bucket=OUTPUTS, Key=keys.heartbeat_key(self._job_id(), keys.writer_of(ROLE_ID, first)), Body=wire.dump(beat))
        return _sample("tick")

    def _ends(self) -> Any:
        first = self._launched()[0]
        self.ec2.terminate_instances(InstanceIds=[first])
        return _sample("instance-terminated", **{"instance-id": first})

    def _marked(self) -> Any:
        second = self._launched()[1]
        writer = keys.writer_of(ROLE_ID, second)
        body = b"weights"
        self.s3.put_object(Bucket=OUTPUTS, Key=keys.run_prefix(self._job_id(), writer) + "final/a.safetensors", Body=body)
        marker = CompletionMarker(
            job_id=self._job_id(),
            attempt=2,
            instance_id=second,
            outcome=Outcome.COMPLETED,
            at="2026-11-01T00:00:00Z",
            files=(FileDigest(path="final/a.safetensors", size=len(body), sha256=hashlib.sha256(body).hexdigest()),),
            results=Results(steps=3),
        )
        key = keys.marker_key(self._job_id(), writer)
        self.s3.put_object(Bucket=OUTPUTS, Key=key, Body=wire.dump(marker))
        return _sample("marker-created", bucket={"name": OUTPUTS}, object={"key": key})

    def _instances(self) -> list[Any]:
        found = [one for reservation in self.ec2.describe_instances()["Reservations"] for one in reservation["Instances"]]
        return sorted(found, key=lambda one: next(int(tag["Value"]) for tag in one["Tags"] if tag["Key"].endswith("attempt")))

    def _launched(self) -> list[str]:
        return [one["InstanceId"] for one in self._instances()]

    def _live(self) -> list[str]:
        return [one["InstanceId"] for one in self._instances() if one["State"]["Name"] in ("pending", "running")]

    def _job_id(self) -> str:
        return str(json.loads(self.s3.get_object(Bucket=DATA, Key=keys.status_key("tale"))["Body"].read())["job_id"])


def _sample(name: str, **detail: Any) -> Any:
    """A committed sample event, with parts of its detail replaced."""
    event: dict[str, Any] = json.loads((EVENTS / f"{name}.json").read_text())
    return event | {"detail": event["detail"] | detail} if detail else event
