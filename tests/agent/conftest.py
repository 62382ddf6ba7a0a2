"""Fixtures of the agent's tests: the cloud in this process and instances in it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from tests.agent.cloud import FIRST, Cloud, Instance
from tests.iam.hearing import Hearing
from tests.iam.instances import hear_instances
from tests.iam.site import the_site
from tests.imds import FakeImds

Launch = Callable[..., Instance]


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "testing")
    for name in ("AWS_ENDPOINT_URL", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    make: Any = boto3.client  # its stubs do not name S3
    with mock_aws():
        cloud = Cloud(make("s3"))
        hearing = Hearing(the_site())
        hear_instances(hearing, cloud)
        yield cloud
        # What a test's manifest asks for in a bucket that is not the stack's is refused on purpose.
        asked_of_ours = [refusal for refusal in hearing.refusals if "s3:::elsewhere" not in refusal]
        assert asked_of_ours == [], "the instance role does not allow what the agent asked for"


@pytest.fixture
def launch(cloud: Cloud, tmp_path: Path) -> Iterator[Launch]:
    """``launch(instance_id, **facts)`` gives an instance with its own metadata service; all end with the test."""
    with ExitStack() as stack:

        def start(instance_id: str = FIRST, **facts: Any) -> Instance:
            imds = stack.enter_context(FakeImds(instance_id))
            instance = Instance(cloud, imds, tmp_path / instance_id, **facts)
            stack.callback(instance.host.join, 5)
            stack.callback(instance.host.over.set)
            return instance

        yield start
