"""GPU use over a sliding window, from what nvidia-smi said; and its way into the heartbeat."""

import os
from pathlib import Path

import pytest

from agent.gpus import GpuWatch
from agent.world import AgentExit
from jobspec.heartbeat import GpuUse, Phase
from tests.agent.cloud import JOB, SECOND, Cloud, until, writer
from tests.agent.conftest import Launch


class Driver:
    """A driver that says something each 5 seconds, and a watch that hears it."""

    def __init__(self, folder: Path, window_s: float = 600) -> None:
        self.path, self.now_s, self.said = folder / "gpus.csv", 1000.0, 0
        self.watch = GpuWatch(self.path, window_s, lambda: self.now_s)
        self.says("0, 99, 1, 2")
        assert self.watch.take() == (), "what lay there before is of no known time"

    def says(self, *lines: str) -> None:
        self.said += 1
        self.path.write_text("".join(line + "\n" for line in lines))
        os.utime(self.path, ns=(self.said * 10**9, self.said * 10**9))

    def goes_on(self, seconds: float, *lines: str) -> tuple[GpuUse, ...]:
        """The same for so long; what is known at its end."""
        use: tuple[GpuUse, ...] = ()
        for _ in range(int(seconds / 5)):
            self.now_s += 5
            self.says(*lines)
            use = self.watch.take()
        return use


def test_the_mean_of_a_growing_and_then_a_sliding_window(tmp_path: Path) -> None:
    driver = Driver(tmp_path, window_s=600)
    (use,) = driver.goes_on(105, "0, 80, 9000, 24564")
    assert use == GpuUse(index=0, percent=80, memory_mib=9000, memory_total_mib=24564, window_s=100)
    (use,) = driver.goes_on(105, "0, 0, 5000, 24564")
    assert (use.percent, use.memory_mib, use.window_s) == (40, 9000, 205)
    (use,) = driver.goes_on(400, "0, 0, 5000, 24564")
    assert (use.window_s, round(use.percent, 1)) == (600, 13.8)
    (use,) = driver.goes_on(300, "0, 0, 5000, 24564")
    assert (use.window_s, use.percent, use.memory_mib) == (600, 0, 5000)


def test_each_gpu_has_its_own_mean(tmp_path: Path) -> None:
    use = Driver(tmp_path).goes_on(60, "0, 97, 9000, 24564", "1, 0, 3, 24564")
    assert [(one.index, one.percent) for one in use] == [(0, 97), (1, 0)]


@pytest.mark.parametrize(
    "line", ["0, [N/A], 9000, 24564", "0, [Not Supported], 1, 2", "No devices were found", "", "0, 101, 1, 2", "0, nan, 1, 2", "0, -1, 1, 2", "999, 1, 1, 1"]
)
def test_what_the_driver_does_not_tell_is_no_zero(tmp_path: Path, line: str) -> None:
    assert Driver(tmp_path).goes_on(60, line) == ()


def test_one_gpu_that_is_not_told_of_hides_no_other(tmp_path: Path) -> None:
    use = Driver(tmp_path).goes_on(60, "0, [N/A], 9000, 24564", "1, 50, 3, 24564")
    assert [(one.index, one.percent) for one in use] == [(1, 50)]


def test_without_a_driver_there_is_nothing_to_tell(tmp_path: Path) -> None:
    assert GpuWatch(tmp_path / "gpus.csv", 600).take() == ()


def test_a_driver_that_falls_silent_is_not_believed_any_more_and_its_window_begins_anew(tmp_path: Path) -> None:
    driver = Driver(tmp_path)
    driver.goes_on(300, "0, 0, 1, 2")
    driver.now_s += 59
    assert driver.watch.take(), "a slow answer"
    driver.now_s += 1
    assert driver.watch.take() == ()
    (use,) = driver.goes_on(10, "0, 0, 1, 2")
    assert use.window_s == 5


def test_an_answer_is_counted_once_however_often_it_is_looked_at(tmp_path: Path) -> None:
    driver = Driver(tmp_path)
    driver.goes_on(5, "0, 100, 1, 2")
    for _ in range(50):
        driver.watch.take()
    (use,) = driver.goes_on(5, "0, 0, 1, 2")
    assert use.percent == 50


def test_a_long_window_is_kept_in_few_slices(tmp_path: Path) -> None:
    driver = Driver(tmp_path, window_s=86400)
    (use,) = driver.goes_on(2 * 86400, "0, 30, 1, 2")
    assert (use.percent, use.window_s) == (30, 86400)
    assert len(driver.watch._slices) <= 62


def test_nothing_is_measured_before_the_training(cloud: Cloud, launch: Launch) -> None:
    cloud.replacement(until_s=60)
    instance = launch(SECOND)
    instance.start()
    until(lambda: cloud.keys(f"runs/{JOB}/{writer(SECOND)}/") and cloud.heartbeat(SECOND).phase is Phase.WAITING)
    for percent in range(4):
        instance.folders.gpus.write_text(f"0, {percent}, 9000, 24564\n")
        seq = cloud.heartbeat(SECOND).seq
        until(lambda seq=seq: cloud.heartbeat(SECOND).seq > seq + 1)
    beat = cloud.heartbeat(SECOND)
    assert (beat.phase, beat.gpus) == (Phase.WAITING, ())
    instance.imds.interrupt(20)
    assert instance.join() is AgentExit.HANDED_OVER


def test_the_heartbeat_tells_the_use_while_it_trains_and_keeps_the_last_after(cloud: Cloud, launch: Launch) -> None:
    cloud.orders(hold_at=8)
    cloud.ticket(max_steps=100, manifest={"limits": {"idle_gpu": {"window": "1s"}}})
    instance = launch()
    instance.start()
    until(lambda: (instance.folders.run / "progress.jsonl").exists() and cloud.heartbeat().phase is Phase.TRAINING)
    assert cloud.heartbeat().gpus == (), "no driver, no word"
    until(lambda: instance.folders.gpus.write_text("0, 50, 9000, 24564\n") and cloud.heartbeat().gpus)
    (instance.folders.run / "go").touch()
    assert instance.join() is AgentExit.FINISHED
    (use,) = cloud.heartbeat().gpus
    assert (use.index, use.memory_mib, use.memory_total_mib, use.percent) == (0, 9000, 24564, 50)
