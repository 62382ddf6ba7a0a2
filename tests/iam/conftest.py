"""One hearing of everything, made once and shared: nobody changes it."""

import logging
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from tests.agent.cloud import Cloud
from tests.iam import instances, runs, services
from tests.iam.hearing import Hearing
from tests.iam.site import the_site
from tests.simulation import named
from tests.simulation.generator import random_scenario

#: Random scenarios beside the named ones: faults, strangers, outages.
SEEDS = 40


@pytest.fixture(scope="session")
def hearing(tmp_path_factory: pytest.TempPathFactory) -> Hearing:
    """Every request of every role, from simulated worlds, doors, agents, and the services that work on the stack's behalf."""
    found = Hearing(the_site())
    logging.disable(logging.CRITICAL)
    try:
        runs.simulate(found, [(scenario, 0) for scenario in named.ALL.values()] + [(random_scenario(seed), seed) for seed in range(SEEDS)])
        runs.wake_each_driver(found)
        runs.take_up(found)
        runs.draw_pages(found)
        runs.post_to_a_webhook(found)
        runs.sweep(found)
        runs.speak_of_money_and_holds(found)
    finally:
        logging.disable(logging.NOTSET)
    services.in_roles_of_the_stack(found)
    services.as_themselves(found)
    instances.boot(found)
    _work_of_instances(found, tmp_path_factory.mktemp("instances"))
    return found


def _work_of_instances(found: Hearing, folder: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
            patch.setenv(name, "testing")
        for name in ("AWS_ENDPOINT_URL", "AWS_PROFILE"):
            patch.delenv(name, raising=False)
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        make: Any = boto3.client  # its stubs do not name S3
        with mock_aws():
            instances.work(found, Cloud(make("s3")), folder)
