"""The walk of a spot warning through the control plane, as docs/architecture.md tells it."""

from tests.driver.house import House
from tests.walks import missed, steps, walked


def test_a_warning_goes_through_the_control_plane_as_the_page_tells_it(house: House) -> None:
    house.put()
    house.beat()
    house.tick()
    warned = house.attempt
    with walked() as calls:
        house.warn(warned)
    assert house.attempt.number == warned.number + 1, "a replacement is there"
    told = steps("In the control plane")
    assert len(told) > 12
    assert missed(told, calls) == []


def test_a_walk_that_is_told_otherwise_is_noticed(house: House) -> None:
    told = steps("In the control plane")
    assert missed([*told[1:2], *told[:1]], told) == told[:1], "in another order"
    assert missed([*told, ("control_plane/driver.py", "no_such_function")], told) == [("control_plane/driver.py", "no_such_function")]
