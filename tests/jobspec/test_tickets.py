"""The gang in a ticket: whole and of one mind, or refused."""

from typing import Any

import pytest

from jobspec import wire
from jobspec.ticket import Gang

MEMBERS = ("AROAEXAMPLE:i-0000000000000000a", "AROAEXAMPLE:i-0000000000000000b")
GOOD: dict[str, Any] = {"size": 2, "rank": 1, "leader_address": "10.0.1.7", "members": MEMBERS, "addresses": ("10.0.1.7", "10.0.1.8")}


def test_a_gang_is_read_back_as_it_was_written() -> None:
    gang = Gang(**GOOD)
    assert wire.load(Gang, wire.dump(gang)) == gang
    assert gang.port == 29400


@pytest.mark.parametrize(
    "change",
    [
        {"size": 1, "rank": 0, "members": MEMBERS[:1], "addresses": ("10.0.1.7",)},
        {"size": 17},
        {"rank": 2},
        {"rank": -1},
        {"size": 3},
        {"members": MEMBERS[:1]},
        {"members": MEMBERS[:1] * 2},
        {"addresses": ("10.0.1.7", "10.0.1.7")},
        {"addresses": ("10.0.1.7",)},
        {"leader_address": "10.0.1.8"},
        {"leader_address": "10.0.1.256", "addresses": ("10.0.1.256", "10.0.1.8")},
        {"leader_address": "010.0.1.7", "addresses": ("010.0.1.7", "10.0.1.8")},
        {"addresses": ("10.0.1.7", "10.0.1.8; reboot")},
        {"addresses": ("10.0.1.7", "fe80::1")},
        {"port": 22},
        {"port": 40000},
    ],
    ids=str,
)
def test_a_gang_that_is_not_whole_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"gang|Gang"):
        Gang(**{**GOOD, **change})
