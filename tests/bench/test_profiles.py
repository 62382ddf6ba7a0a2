"""The profiles are counts that can be done by hand."""

from collections import Counter

import pytest

from bench import profiles

LISTING = """import time: self [us] | cumulative | imported package
import time:       100 |        100 |     torch.a
import time:       300 |        400 |   torch
import time:       600 |       1000 | trl
not a line
"""


def test_an_import_listing_is_summed_by_package_and_sorted_by_what_each_brings() -> None:
    own, whole = profiles.listing(LISTING)
    assert own == pytest.approx({"torch": 400e-6, "trl": 600e-6})
    assert [name for _, name in whole] == ["trl", "torch", "torch.a"]
    assert whole[0][0] == pytest.approx(1000e-6)


def test_stacks_outside_of_the_training_loop_do_not_count_and_recursion_counts_once() -> None:
    stacks = Counter({"a.main;t._inner_training_loop;x.f;x.f;x.g": 3, "a.main;t._inner_training_loop;x.g": 1, "a.main;x.load": 96})
    assert profiles.inside(stacks) == {"loop;x.f;x.f;x.g": 3, "loop;x.g": 1}
    assert profiles.shares(profiles.inside(stacks)) == [(1.0, "loop"), (1.0, "x.g"), (0.75, "x.f")]
