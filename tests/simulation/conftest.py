"""What the simulator's own tests leave behind them is nothing."""

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def logging_goes_on() -> Iterator[None]:
    """The simulator's commands silence logging for their whole process, which here is every test's."""
    yield
    logging.disable(logging.NOTSET)
