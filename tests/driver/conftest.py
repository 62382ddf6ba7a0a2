"""The house, and IAM at its doors: no test of this folder may pass by a call that the deployed function would be refused."""

from collections.abc import Iterator

import pytest

from tests.driver.house import House
from tests.iam.hearing import Hearing
from tests.iam.runs import hear_house
from tests.iam.site import the_site


@pytest.fixture
def house() -> Iterator[House]:
    house, hearing = House(), Hearing(the_site())
    hear_house(hearing, house)
    yield house
    assert hearing.refusals == []
