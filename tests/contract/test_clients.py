"""The clients' limits: nothing waits longer than a function lives, and the retries are those whose safety was thought through."""

import pytest

from control_plane.adapters.clients import client

#: ``Timeout`` of the functions in template.yaml.
FUNCTION_TIMEOUT_S = 60


@pytest.mark.usefixtures("aws")
@pytest.mark.parametrize("service", ["ec2", "dynamodb", "s3", "sns", "events"])
def test_all_attempts_of_a_call_together_end_before_the_function_does(service: str) -> None:
    config = client(service).meta.config
    attempts = config.retries["total_max_attempts"]
    assert config.retries["mode"] == "standard"
    # Publish has no token: a second try would be a second e-mail. Whether the first one was sent, the publish ledger says.
    assert attempts == 1 if service == "sns" else attempts >= 2
    assert attempts * (config.connect_timeout + config.read_timeout) < FUNCTION_TIMEOUT_S
