"""The instance role's side: the real agent over S3, and what the bootstrap and Docker ask for beside it."""

import re
from pathlib import Path
from typing import Any

import boto3
from boto3.s3.transfer import TransferConfig

import agent.store
from agent.digests import digest_of
from agent.parameters import connect as connect_parameters
from agent.store import Store
from dropforge.local.iam.policies import Request
from jobspec.keys import checkpoint_prefix, final_prefix
from jobspec.tracking import SERVICES
from tests.agent import cloud as clouds
from tests.agent.cloud import Cloud, Instance
from tests.iam.calls import World
from tests.iam.hearing import Hearing, as_instance, instance_keys
from tests.iam.site import SHARED
from tests.imds import FakeImds
from tools.stack import ROOT

THIRD, FOURTH = "i-0000000000000000c", "i-0000000000000000d"
BOOTSTRAP = ROOT / "agent/bootstrap.sh"
#: AWS's own policy for pulling (AmazonEC2ContainerRegistryPullOnly) has these two, beside the sign-in and the import of upstream images.
PULL = ("ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer")
#: Docker guide, "Amazon CloudWatch Logs logging driver", the group being there; of a function: Lambda guide, AWSLambdaBasicExecutionRole.
LOGS = ("CreateLogStream", "PutLogEvents")
#: What a command of the AWS CLI asks for.
_COMMANDS = {"ecr get-login-password": "ecr:GetAuthorizationToken"}


def hear_instances(hearing: Hearing, cloud: Cloud) -> None:
    """From here on each instance of the cloud works with a client of its own, whose calls are told."""
    site = hearing.site
    names = {clouds.DATA: site.arn("DataBucket").rpartition(":")[2], clouds.OUTPUTS: site.arn("OutputsBucket").rpartition(":")[2]}
    own = {theirs: mine for mine, theirs in names.items()}
    world = World(site, is_there=lambda bucket, key: Store(cloud.s3).read(own.get(bucket, bucket), key) is not None)

    def client_of(instance_id: str) -> Any:
        make: Any = boto3.client  # its stubs do not name S3
        client, hear = make("s3"), as_instance(hearing, world, names, instance_id, clouds.ROLE)
        client.meta.events.register("provide-client-params.s3.*", lambda params, model, **_: hear("s3", model.name, params))
        return client

    def parameters_of(instance_id: str) -> Any:
        client, hear = connect_parameters(None), as_instance(hearing, world, names, instance_id, clouds.ROLE)
        client.meta.events.register("provide-client-params.ssm.*", lambda params, model, **_: hear("ssm", model.name, params))
        return client

    cloud.client_of, cloud.parameters_of = client_of, parameters_of


def work(hearing: Hearing, cloud: Cloud, folder: Path) -> None:
    """Two attempts of one job: saves and prunes, is taken over, resumes, is asked to stop.

    Then one that reads elsewhere, an upload in parts, and one that is given up.
    """
    hear_instances(hearing, cloud)
    cloud.orders(step_s=0.01, save_every=2)
    cloud.ticket(max_steps=60)
    _run(cloud, clouds.FIRST, folder)
    cloud.replacement(until_s=0.5, max_steps=80)
    cloud.order_stop(instance_id=clouds.SECOND, attempt=2)
    _run(cloud, clouds.SECOND, folder)
    _reads_elsewhere(cloud, folder)
    _reports(cloud, folder)
    _uploads_in_parts(cloud, folder)


def _reads_elsewhere(cloud: Cloud, folder: Path) -> None:
    """Model and rows in a bucket of ReadBuckets."""
    cloud.s3.create_bucket(Bucket=SHARED)
    for key in ("config.json", "tokenizer.json", "model.safetensors"):
        cloud.s3.copy_object(Bucket=SHARED, Key=f"tiny/{key}", CopySource={"Bucket": clouds.DATA, "Key": f"models/tiny/{key}"})
    cloud.s3.copy_object(Bucket=SHARED, Key="rows.jsonl", CopySource={"Bucket": clouds.DATA, "Key": "data/rows.jsonl"})
    cloud.ticket(THIRD, max_steps=2, manifest={"model": {"s3": f"s3://{SHARED}/tiny"}, "data": {"train": f"s3://{SHARED}/rows.jsonl"}})
    _run(cloud, THIRD, folder)
    marker = cloud.marker(THIRD)
    assert marker is not None
    assert marker.failure is None


def _reports(cloud: Cloud, folder: Path) -> None:
    """To both services, of which none is there: their keys are read before."""
    for service in SERVICES:
        connect_parameters(None).put_parameter(Name=f"{clouds.TRACKING}/{service}", Type="SecureString", Value="http://127.0.0.1:9")
    cloud.ticket(FOURTH, max_steps=2, manifest={"report_to": dict.fromkeys(SERVICES, "an-experiment")})
    _run(cloud, FOURTH, folder)
    marker = cloud.marker(FOURTH)
    assert marker is not None
    assert marker.failure is None


def _run(cloud: Cloud, instance_id: str, folder: Path) -> None:
    with FakeImds(instance_id) as imds:
        instance = Instance(cloud, imds, folder / instance_id)
        try:
            instance.run()
        finally:
            instance.host.over.set()
            instance.host.join(5)


class GivenUp(Exception):
    """Raised in the middle of an upload, as when an instance is asked to end."""


def _uploads_in_parts(cloud: Cloud, folder: Path) -> None:
    store, writer = Store(cloud.client_of(clouds.FIRST)), clouds.writer(clouds.FIRST)
    path = folder / "large.bin"
    # A part has 5 MiB at least.
    path.write_bytes(b"x" * (6 * 1024 * 1024))
    file = digest_of(path, "large.bin")
    whole_put, transfer = agent.store.WHOLE_PUT_BYTES, agent.store.TRANSFER
    agent.store.WHOLE_PUT_BYTES = 1024
    agent.store.TRANSFER = TransferConfig(multipart_threshold=1024, multipart_chunksize=5 * 1024 * 1024, use_threads=False)
    try:
        store.upload(clouds.OUTPUTS, checkpoint_prefix(clouds.JOB, writer, 90) + file.path, path, file, lambda: None)
        checks = iter([None] * 8)

        def give_up() -> None:
            # Hashing checks as well; by then the upload has begun.
            if next(checks, GivenUp) is GivenUp:
                raise GivenUp

        try:
            store.upload(clouds.OUTPUTS, final_prefix(clouds.JOB, writer) + file.path, path, file, give_up)
        except GivenUp:
            pass
        else:
            raise AssertionError("the upload was not given up")
    finally:
        agent.store.WHOLE_PUT_BYTES, agent.store.TRANSFER = whole_put, transfer


def boot(hearing: Hearing) -> None:
    """What ``bootstrap.sh`` has the instance ask for: each ``aws`` command, the pull, and Docker's log driver."""
    site, text = hearing.site, BOOTSTRAP.read_text()
    caller = instance_keys("i-0123456789abcdef0")
    for command in re.findall(r"^\s*aws ([a-z-]+ [a-z-]+)", text, re.MULTILINE):
        hearing.note("InstanceRole", [Request(_COMMANDS[command], "*", caller)])
    if "docker pull" in text:
        hearing.note("InstanceRole", [Request(action, site.arn("Repository"), caller) for action in PULL])
    if "--log-driver=awslogs" in text:
        group = site.arn("InstanceLogs").removesuffix(":*")
        hearing.note("InstanceRole", [Request(f"logs:{action}", f"{group}:log-stream:tiny-0123456789/1/agent", caller) for action in LOGS])
