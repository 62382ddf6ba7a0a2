"""The clients' limits: nothing waits longer than a function lives, and the retries are those whose safety was thought through."""

import pytest

from control_plane.adapters.clients import client


@pytest.mark.usefixtures("aws")
@pytest.mark.parametrize(("service", "read_timeout_s"), [("ec2", 30), ("dynamodb", 8), ("s3", 8), ("sns", 8), ("events", 8)])
def test_every_client_has_short_timeouts_and_three_attempts(service: str, read_timeout_s: int) -> None:
    config = client(service).meta.config
    assert (config.connect_timeout, config.read_timeout) == (3, read_timeout_s)
    assert (config.retries["mode"], config.retries["total_max_attempts"]) == ("standard", 3)
