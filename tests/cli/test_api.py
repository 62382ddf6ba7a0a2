"""Jobs from Python: the same bucket, the same refusals, no click in sight."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import dropforge
from dropforge import DropforgeError, api
from tests.cli.bucket import MANIFEST, Bucket, new_bucket

JOB = {"name": "mine", "model": {"s3": "models/m/"}, "data": {"train": "data/t.jsonl"}, "compute": {"gpu": {"memory_gib": 16}}}


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    with new_bucket() as made:
        monkeypatch.setattr(api, "find_stack", lambda name: made.stack)
        monkeypatch.setattr(api, "LOOK_EVERY_S", 0.0)
        yield made


def test_a_mapping_or_a_file_is_put_and_gives_a_job(bucket: Bucket, tmp_path: Path) -> None:
    assert dropforge.submit(JOB).name == "mine"
    file = tmp_path / "other.yaml"
    file.write_bytes(MANIFEST % b"other")
    assert dropforge.submit(file).name == "other"
    listed = bucket.stack.s3.list_objects_v2(Bucket="data", Prefix="jobs/")["Contents"]
    assert [item["Key"] for item in listed] == ["jobs/mine.json", "jobs/other.yaml"]


def test_a_manifest_that_is_not_valid_raises_with_every_problem_and_puts_nothing(bucket: Bucket) -> None:
    with pytest.raises(DropforgeError, match=r"data is missing(.|\n)*compute is missing") as raised:
        dropforge.submit({"name": "mine", "model": {"s3": "models/m/"}})
    assert "the mapping is not a valid manifest" in str(raised.value)
    assert bucket.stack.s3.list_objects_v2(Bucket="data", Prefix="jobs/").get("KeyCount") == 0


def test_nothing_is_put_beside_an_active_job_of_the_name(bucket: Bucket) -> None:
    bucket.put_status("mine", "WAITING")
    with pytest.raises(DropforgeError, match="mine-abc123 is active"):
        dropforge.submit(JOB)
    bucket.put_status("mine", "FAILED")
    assert dropforge.submit(JOB).name == "mine"


def test_waiting_tells_the_story_and_returns_the_end(bucket: Bucket) -> None:
    job = dropforge.submit(JOB)
    bucket.put_status("mine", "SUCCEEDED")
    told: list[str] = []
    assert job.wait(news=lambda line: told.append(line.text)).state == "SUCCEEDED"
    assert told == ["ACCEPTED: taken"]


def test_waiting_gives_up_after_its_time_and_leaves_the_job(bucket: Bucket) -> None:
    job = dropforge.submit(JOB)
    bucket.put_status("mine", "RUNNING")
    with pytest.raises(DropforgeError, match="goes on without you"):
        job.wait(timeout_s=0)
    assert job.status().state == "RUNNING"


def test_cancel_deletes_the_manifest_and_a_finished_job_is_not_cancelled(bucket: Bucket) -> None:
    bucket.put_status("mine", "RUNNING")
    job = dropforge.SubmittedJob("mine", "dropforge")
    job.cancel()
    assert bucket.stack.s3.list_objects_v2(Bucket="data", Prefix="jobs/").get("KeyCount") == 0
    bucket.put_status("mine", "SUCCEEDED")
    with pytest.raises(DropforgeError, match="over already"):
        job.cancel()


def test_a_model_is_fetched_and_checked(bucket: Bucket, tmp_path: Path) -> None:
    bucket.put_model("mine", {"adapter.safetensors": b"weights"})
    folder = dropforge.SubmittedJob("mine", "dropforge").download(tmp_path / "m")
    assert (folder / "adapter.safetensors").read_bytes() == b"weights"


def test_an_unknown_job_and_an_unreachable_cloud_are_sentences(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DropforgeError, match="No job 'nobody'"):
        dropforge.status("nobody")

    def refuse(name: str) -> None:
        raise OSError("no route")

    monkeypatch.setattr(api, "find_stack", refuse)
    with pytest.raises(DropforgeError, match="no route"):
        dropforge.status("nobody")


def test_the_package_has_what_it_says_and_nothing_else() -> None:
    assert all(getattr(dropforge, name) is not None for name in dropforge.__all__)
    with pytest.raises(AttributeError, match="no attribute 'launch'"):
        _ = dropforge.launch  # type: ignore[attr-defined]
