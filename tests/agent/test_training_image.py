"""The training image comes while the agent stages: what the agent does meanwhile, and where it comes late, never, or of another build."""

from dataclasses import replace
from pathlib import Path

import pytest

from agent import image
from agent.image import FAILED, PULLING, UNKNOWN
from agent.world import AgentExit
from jobspec.heartbeat import Phase
from jobspec.marker import FailureCode, Outcome
from jobspec.stages import STAGES
from tests.agent import cloud as clouds
from tests.agent.cloud import FIRST, SECOND, Cloud, Instance, now, until
from tests.agent.conftest import Launch


def say(instance: Instance, word: str) -> None:
    """As bootstrap.sh does."""
    (instance.folders.control / "image.new").write_text(f"{word}\n")
    (instance.folders.control / "image.new").rename(instance.folders.control / "image")


def started(launch: Launch, word: str = PULLING, instance_id: str = FIRST) -> Instance:
    instance = launch(instance_id)
    say(instance, word)
    instance.start()
    return instance


def staged(cloud: Cloud, instance: Instance, instance_id: str = FIRST) -> bool:
    """The agent has everything but the training image, and has said so."""
    return cloud.says("still being pulled", instance_id) and (instance.folders.run / "model" / "model.safetensors").exists()


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clouds, "QUICK", replace(clouds.QUICK, image_wait_s=clouds.PATIENCE_S))


def test_all_else_is_staged_while_the_image_is_pulled_and_the_trainer_starts_once_it_is_there(cloud: Cloud, launch: Launch) -> None:
    cloud.ticket()
    began = now()
    instance = started(launch)
    until(lambda: staged(cloud, instance))
    seq = cloud.heartbeat().seq
    until(lambda: cloud.heartbeat().seq >= seq + 3)  # a long pull is no silence
    assert (cloud.heartbeat().phase, instance.host.starts) == (Phase.STAGING, 0)
    there = now()
    say(instance, UNKNOWN)
    assert instance.join() is AgentExit.FINISHED
    beat = cloud.heartbeat()
    assert beat.stages_s["pull"] > 0
    assert beat.first_step_at is not None
    # Each second in one stage: what was waited for the image is in none but its own.
    assert beat.stages_s["trainer"] <= (beat.first_step_at - there).total_seconds()
    assert sum(beat.stages_s.values()) <= (beat.first_step_at - began).total_seconds()


def test_the_wait_comes_after_the_staging_that_it_does_not_hold_up_and_before_the_trainer() -> None:
    names = list(STAGES)
    assert names.index("stage_model") < names.index("pull") < names.index("handover") < names.index("trainer")


def test_a_notice_during_the_pull_hands_over_at_once_without_a_trainer(cloud: Cloud, launch: Launch) -> None:
    cloud.ticket()
    instance = started(launch)
    until(lambda: staged(cloud, instance))
    instance.imds.interrupt(60)
    assert instance.join() is AgentExit.HANDED_OVER
    assert instance.host.starts == 0
    notice = cloud.heartbeat().notice
    assert notice is not None
    assert notice.kind == "interruption"
    assert cloud.marker() is None


def test_bad_rows_end_the_attempt_while_the_image_is_still_being_pulled(cloud: Cloud, launch: Launch) -> None:
    cloud.put("data/rows.jsonl", b"not json\n")
    cloud.ticket()
    assert started(launch).join() is AgentExit.FINISHED
    marker = cloud.marker()
    assert marker is not None
    assert marker.failure is not None
    assert marker.failure.code is FailureCode.DATA_INVALID


@pytest.mark.parametrize(("log", "said"), [("", "see logs/bootstrap.log"), (None, "see logs/bootstrap.log"), ("full", "manifest for x:v1 not found; see logs")])
def test_an_image_that_cannot_be_pulled_ends_the_attempt_with_dockers_reason(cloud: Cloud, launch: Launch, log: str | None, said: str) -> None:
    cloud.ticket()
    instance = launch()
    if log is not None:
        text = "2026-11-26T00:00:00Z dropforge: power-off in 65 minutes\nmanifest for x:v1 not found\n\n2026-11-26T00:00:09Z dropforge: pull failed (5 of 5)\n"
        (instance.folders.logs / "bootstrap.log").write_text(text if log else "")
    say(instance, FAILED)
    assert instance.run() is AgentExit.FINISHED
    marker = cloud.marker()
    assert marker is not None
    assert marker.failure is not None
    assert (marker.outcome, marker.failure.code) == (Outcome.FAILED, FailureCode.IMAGE_NOT_PULLED)
    assert said in marker.failure.message


def test_an_image_that_never_comes_is_waited_for_no_longer_than_a_first_heartbeat_was(cloud: Cloud, launch: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clouds, "QUICK", replace(clouds.QUICK, image_wait_s=0.2))
    cloud.ticket()
    assert started(launch).join() is AgentExit.FINISHED
    marker = cloud.marker()
    assert marker is not None
    assert marker.failure is not None
    assert marker.failure.code is FailureCode.IMAGE_NOT_PULLED
    assert "still being pulled" in marker.failure.message


def test_the_agents_patience_is_that_of_the_control_plane() -> None:
    from agent.settings import Pace
    from control_plane.core.events import Rules

    assert Pace().image_wait_s == Rules().boot_s


def test_an_agent_of_another_build_asks_for_no_trainer_and_names_both(cloud: Cloud, launch: Launch, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cloud.ticket()
    (tmp_path / "build").write_text("a" * 64 + "\n")
    monkeypatch.setattr(image, "BUILD", tmp_path / "build")
    instance = started(launch, "b" * 64)
    assert instance.join() is AgentExit.OTHER_BUILD
    assert instance.host.starts == 0
    assert not (instance.folders.run / "run.json").exists()
    message = cloud.heartbeat().message
    assert f"build {'a' * 12}," in message
    assert f"build {'b' * 12}:" in message
    assert cloud.marker() is None
    # The training image's own agent takes over, in the same folder.
    (tmp_path / "build").write_text("b" * 64)
    assert instance.run() is AgentExit.FINISHED
    marker = cloud.marker()
    assert marker is not None
    assert marker.outcome is Outcome.COMPLETED


def test_a_replacement_is_not_ready_before_its_image_is_there(cloud: Cloud, launch: Launch) -> None:
    """Else the instance that still works would be told to leave for one that cannot train."""
    cloud.replacement(until_s=600)
    instance = started(launch, PULLING, SECOND)
    until(lambda: staged(cloud, instance, SECOND))
    assert cloud.heartbeat(SECOND).phase is Phase.STAGING
    say(instance, UNKNOWN)
    until(lambda: cloud.heartbeat(SECOND).phase is Phase.WAITING)
    instance.imds.interrupt(60)
    assert instance.join() is AgentExit.HANDED_OVER
