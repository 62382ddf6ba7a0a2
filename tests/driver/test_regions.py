"""A region that does not answer: the others' instances are looked after all the same, and it is said."""

from typing import Any

import pytest

from control_plane import curfew
from control_plane.core.state import JobState
from control_plane.driver import Driver
from tests.driver.house import House


class Dumb:
    """Another region's fleet, whose EC2 does not answer."""

    def instances(self, job_id: str | None = None) -> tuple[Any, ...]:
        raise ConnectionError("us-west-2 does not answer")


class WithDumbPeer:
    """The house's fleets, with that one beside them."""

    def __init__(self, own: Any) -> None:
        self._own = own
        self.names = ("us-west-2",)

    def offers(self) -> Any:
        return self._own.offers()

    def at(self, zone: str) -> Any:
        return self._own.at(zone)

    def parts(self) -> tuple[Any, ...]:
        return (*self._own.parts(), Dumb())


@pytest.fixture
def house() -> House:
    return House()


def with_a_dumb_peer(house: House) -> Driver:
    driver = house.rooms.driver
    fleets = WithDumbPeer(driver.fleets)
    object.__setattr__(driver, "fleets", fleets)
    object.__setattr__(driver.watcher, "fleets", fleets)
    return driver


def test_jobs_at_home_go_on_and_the_tick_says_what_it_could_not_see(house: House) -> None:
    with_a_dumb_peer(house)
    house.put()
    first = house.attempt.instance_id
    house.ec2.end(first, "Server.SpotInstanceTermination")
    with pytest.raises(Exception, match="a peer region: ConnectionError: us-west-2 does not answer"):
        house.tick()
    assert house.attempt.instance_id != first, "the lost instance was seen, and replaced"
    assert house.job.state is not JobState.WAITING


def test_the_curfew_ends_at_home_what_is_overdue_though_another_region_is_dumb(house: House) -> None:
    driver = with_a_dumb_peer(house)
    house.put()
    overdue = house.attempt
    count, failures = curfew.end_overdue((Dumb(), *driver.fleets.parts()[:1]), driver.project, overdue.plan.deadline_at.replace(year=2030))
    assert (count, len(failures)) == (1, 1)
    assert overdue.instance_id not in house.live()
