"""Prepared rows go to S3 once, and a later attempt of the same job begins with them."""

from pathlib import Path
from typing import Any

from agent.digests import digest_of
from agent.prepared import PreparedRows
from agent.store import Store
from jobspec.keys import prepared_prefix
from jobspec.prepared import PreparedManifest
from jobspec.wire import dump
from tests.agent.cloud import FIRST, JOB, OUTPUTS, SECOND, Cloud, writer
from tests.agent.conftest import Launch

PREFIX = prepared_prefix(JOB, writer(FIRST))


def prepare(folder: Path, job_id: str = JOB) -> None:
    """What the trainer leaves once it has prepared the rows."""
    folder.mkdir()
    (folder / "train.arrow").write_bytes(b"rows" * 1000)
    facts: dict[str, Any] = dict.fromkeys(("rows", "held_out", "tokens", "supervised", "supervised_lost", "rows_cut", "rows_dropped"), 1)
    facts |= {"format": "text", "rows_without_stop": 0, "shortest": 1, "median": 1, "longest": 1, "histogram": {"32": 1}}
    manifest = PreparedManifest.model_validate(
        {
            "job_id": job_id,
            "key": "0" * 64,
            "facts": facts,
            "parts": [{"rows": 1}],
            "samples": [],
            "probe": {"question": "", "prompt": "", "special_tokens": True},
            "seconds": 1.0,
            "files": [digest_of(folder / "train.arrow", "train.arrow")],
        }
    )
    (folder / "prepared.json").write_bytes(dump(manifest))


def rows_of(cloud: Cloud, launch: Launch, instance_id: str, **ticket: Any) -> tuple[PreparedRows, Path]:
    folders = launch(instance_id).folders
    return PreparedRows(Store(cloud.s3), cloud.ticket(instance_id, **ticket), folders, lambda: None), folders.run / "prepared"


def test_a_later_attempt_begins_with_what_an_earlier_one_prepared_and_does_not_send_it_again(cloud: Cloud, launch: Launch) -> None:
    first, folder = rows_of(cloud, launch, FIRST)
    first.publish()
    assert cloud.keys(PREFIX) == []
    prepare(folder)
    first.publish()
    assert [key.removeprefix(PREFIX) for key in cloud.keys(PREFIX)] == ["prepared.json", "train.arrow"]
    second, brought = rows_of(cloud, launch, SECOND, attempt=2, earlier_writers=(writer(FIRST),))
    assert second.fetch()
    assert {path.name: path.read_bytes() for path in brought.iterdir()} == {path.name: path.read_bytes() for path in folder.iterdir()}
    second.publish()
    assert cloud.keys(prepared_prefix(JOB, writer(SECOND))) == []


def test_what_is_damaged_or_of_another_job_is_left_for_the_trainer_to_prepare_again(cloud: Cloud, launch: Launch) -> None:
    first, folder = rows_of(cloud, launch, FIRST)
    prepare(folder)
    first.publish()
    cloud.put(f"{PREFIX}train.arrow", b"ROWS" * 1000, OUTPUTS)
    second, brought = rows_of(cloud, launch, SECOND, attempt=2, earlier_writers=(writer(FIRST),))
    assert not second.fetch()
    assert not brought.exists()
    cloud.put(f"{PREFIX}prepared.json", (folder / "prepared.json").read_bytes().replace(JOB.encode(), b"other-1a2b3c"), OUTPUTS)
    assert not second.fetch()


def test_an_instance_sends_what_its_trainer_prepares_while_it_trains(cloud: Cloud, launch: Launch) -> None:
    cloud.orders(step_s=0.05)
    cloud.ticket()
    instance = launch()
    prepare(instance.folders.run / "prepared")
    instance.run()
    assert f"{PREFIX}prepared.json" in cloud.keys(PREFIX)
