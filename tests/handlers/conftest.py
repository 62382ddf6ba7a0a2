"""IAM at the real doors: what a handler asks moto for is held to its function's policies; what a test's own hands ask for is not."""

import os
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.client import BaseClient
from moto.ec2.models import ec2_backends
from moto.s3.exceptions import HeadOnDeleteMarker
from moto.s3.models import s3_backends

from tests.iam.calls import World
from tests.iam.hearing import Hearing, as_function, role_of_the_door
from tests.iam.site import the_site

ACCOUNT, REGION = "123456789012", "us-east-1"


def _names() -> dict[str, str]:
    """The functions' environment by the site's names."""
    site = the_site()
    return {
        os.environ["DATA_BUCKET"]: site.arn("DataBucket").rpartition(":")[2],
        os.environ["OUTPUTS_BUCKET"]: site.arn("OutputsBucket").rpartition(":")[2],
        os.environ["TABLE_NAME"]: site.arn("JobTable").rpartition("/")[2],
        os.environ["TOPIC_ARN"]: site.arn("Topic"),
        os.environ["LAUNCH_TEMPLATE_ID"]: site.ref("LaunchTemplate"),
    }


def _tags(resource_id: str) -> dict[str, str]:
    found = ec2_backends[ACCOUNT][REGION].describe_tags({"resource-id": [resource_id]})
    return {tag["key"]: tag["value"] for tag in found}


def _is_there(bucket: str, key: str) -> bool:
    (own,) = (mine for mine, theirs in _names().items() if theirs == bucket)
    try:
        return s3_backends[ACCOUNT]["aws"].head_object(own, key) is not None
    except HeadOnDeleteMarker:
        return False


@pytest.fixture(autouse=True)
def _heard(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    hearing, make = Hearing(the_site()), BaseClient._make_api_call  # type: ignore[attr-defined]  # the one place that every call of every client passes
    world = World(the_site(), _tags, _is_there)

    def heard(client: Any, operation: str, params: dict[str, Any]) -> Any:
        if role_of_the_door() is not None:
            as_function(hearing, world, _names())(client.meta.service_model.service_name, operation, params)
        return make(client, operation, params)

    monkeypatch.setattr(BaseClient, "_make_api_call", heard)
    yield
    assert hearing.refusals == []
