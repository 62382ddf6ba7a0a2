import pytest

from tests.driver.house import House


@pytest.fixture
def house() -> House:
    return House()
