"""The walk of a spot warning through the trainer, as docs/architecture.md tells it."""

from pathlib import Path

from tests.trainer.rig import do_run, make_run, stop_after
from tests.walks import missed, steps, walked


def test_a_stop_is_heeded_and_saved_as_the_page_tells_it(tiny_model: Path, tmp_path: Path) -> None:
    path = make_run(tmp_path / "run", tiny_model)
    with walked() as calls:
        assert do_run(path, now=stop_after(tmp_path / "run", "step", 1)) == 75
    told = steps("In the trainer there")
    assert len(told) > 4
    assert missed(told, calls) == []
