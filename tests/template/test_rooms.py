"""The template is one file with rooms: the table at its top is the rooms that there are, and every resource is in one."""

import re

from tests.template.stack import ROOT, Stack

LINES = (ROOT / "template.yaml").read_text().splitlines()
_BANNER = re.compile(r"^ *# -{20,} room: (.+)$")


def banners() -> dict[str, int]:
    """Each room's name, with the line of its banner."""
    return {found[1]: number for number, line in enumerate(LINES) if (found := _BANNER.match(line))}


def table() -> list[list[str]]:
    """The rows at the top: room, what is in it, its tests."""
    start = next(number for number, line in enumerate(LINES) if line.startswith("#   room "))
    rows = [line for line in LINES[start + 1 :] if line.startswith("#   ")][: len(banners())]
    return [re.split(r" {2,}", row.removeprefix("#   ")) for row in rows]


def test_the_table_at_the_top_lists_the_rooms_in_their_order() -> None:
    assert [room for room, _, _ in table()] == list(banners())


def test_each_room_names_tests_that_are_there() -> None:
    assert [tests for _, _, tests in table() if not (ROOT / "tests/template" / tests).exists()] == []


def test_every_resource_stands_in_a_room_of_resources() -> None:
    begins = sorted(banners().values())
    first, last = begins[1], begins[-1]
    places = {name: LINES.index(f"  {name}:") for name in Stack().template["Resources"] if f"  {name}:" in LINES}
    assert len(places) > 80, "the others are written by SAM"
    assert [name for name, number in places.items() if not first < number < last] == []
