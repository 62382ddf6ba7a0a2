"""Checkpoints in S3: whole or not there, the newest whole one is taken, and none is lost by a fault on the way."""

import hashlib
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from agent.digests import NotAFile, damage, sha256_of
from agent.resume import Resumer
from agent.settings import Folders
from agent.store import NotAsDescribed, Store
from agent.uploader import Uploader
from jobspec.base import FileDigest
from jobspec.checkpoint import CheckpointManifest, Identity
from jobspec.heartbeat import PublishedCheckpoint
from jobspec.keys import checkpoint_folder, checkpoint_prefix
from jobspec.saves import Uploaded
from jobspec.wire import dump, load
from tests.agent.cloud import FIRST, JOB, OUTPUTS, SECOND, Cloud, now, writer


def _write(folder: Path, step: int, body: bytes = b"weights", job: str = JOB) -> Path:
    """A checkpoint on the disk, as the trainer publishes one."""
    place = folder / checkpoint_folder(step)
    shutil.rmtree(place, ignore_errors=True)
    (place / "adapter").mkdir(parents=True)
    files = []
    for name in ("adapter/weights.bin", "optimizer.bin"):
        content = body + f" {name} {step}".encode()
        (place / name).write_bytes(content)
        files.append(FileDigest(path=name, size=len(content), sha256=hashlib.sha256(content).hexdigest()))
    manifest = CheckpointManifest(
        job_id=job,
        step=step,
        total_steps=100,
        created_at=now(),
        identity=Identity(model_sha256="0" * 64, data_sha256="0" * 64, settings={}, libraries={}),
        files=tuple(files),
    )
    (place / "checkpoint.json").write_bytes(dump(manifest))
    return place


class Bench:
    """An uploader on one instance and a resumer on the next."""

    def __init__(self, cloud: Cloud, root: Path) -> None:
        self.cloud = cloud
        self.first, self.second = Folders(root / "first"), Folders(root / "second")
        self.local = self.first.run / "checkpoints"
        self.told: list[PublishedCheckpoint] = []
        self.ticket = cloud.ticket()
        self.uploader = self.new_uploader()

    def new_uploader(self, s3: Any = None) -> Uploader:
        return Uploader(Store(s3 or self.cloud.s3), self.ticket, self.first, now, self.told.append)

    def save(self, step: int, body: bytes = b"weights") -> Path:
        return _write(self.local, step, body)

    def publish(self, *steps: int) -> None:
        for step in steps:
            self.save(step)
            self.uploader.turn()

    def resume(self) -> int | None:
        ticket = self.cloud.ticket(SECOND, attempt=2, earlier_writers=(writer(FIRST),))
        return Resumer(Store(self.cloud.s3), ticket, self.second, lambda: None).fetch()

    def taken(self) -> list[str]:
        return sorted(path.name for path in (self.second.run / "checkpoints").glob("step-*"))

    def key(self, step: int, name: str) -> str:
        return checkpoint_prefix(JOB, writer(FIRST), step) + name


@pytest.fixture
def bench(cloud: Cloud, tmp_path: Path) -> Bench:
    return Bench(cloud, tmp_path)


class Failing:
    """An S3 client whose calls fail where ``when(method, key)`` is true; ``keys`` are the methods and keys of the calls."""

    def __init__(self, s3: Any, when: Callable[[str, str], bool], error: BaseException) -> None:
        self._s3, self._when, self._error = s3, when, error
        self.keys: list[tuple[str, str]] = []

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._s3, name)

        def call(*args: Any, **options: Any) -> Any:
            self.keys.append((name, str(options.get("Key", ""))))
            if self._when(*self.keys[-1]):
                raise self._error
            return method(*args, **options)

        return call


def _refused() -> ClientError:
    return ClientError({"Error": {"Code": "SlowDown"}, "ResponseMetadata": {"HTTPStatusCode": 503}}, "PutObject")  # type: ignore[typeddict-item]  # a part of it


def test_a_published_checkpoint_comes_out_as_it_went_in(bench: Bench) -> None:
    bench.publish(5)
    assert bench.resume() == 5
    for name in ("adapter/weights.bin", "optimizer.bin", "checkpoint.json"):
        assert (bench.second.run / "checkpoints" / "step-00000005" / name).read_bytes() == (bench.local / "step-00000005" / name).read_bytes()
    assert [(one.step, one.key) for one in bench.told] == [(5, bench.key(5, "checkpoint.json"))]


def test_the_manifest_is_written_last(bench: Bench) -> None:
    recorder = Failing(bench.cloud.s3, lambda _name, _key: False, AssertionError())
    bench.uploader = bench.new_uploader(recorder)
    bench.publish(5)
    assert [key.rsplit("/", 1)[-1] for name, key in recorder.keys if name == "put_object"] == ["weights.bin", "optimizer.bin", "checkpoint.json"]


def test_the_one_before_the_newest_comes_along_as_a_fallback(bench: Bench) -> None:
    bench.publish(5, 10)
    assert bench.resume() == 10
    assert bench.taken() == ["step-00000005", "step-00000010"]


def test_an_upload_cut_off_in_the_middle_leaves_the_one_before_as_the_newest(bench: Bench) -> None:
    bench.publish(5)
    bench.save(10)
    cut = Failing(bench.cloud.s3, lambda name, key: name == "put_object" and "step-00000010/optimizer" in key, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        bench.new_uploader(cut).turn()
    assert bench.key(10, "adapter/weights.bin") in bench.cloud.keys()
    assert bench.resume() == 5
    # The agent comes back and finishes what was begun.
    bench.new_uploader().turn()
    assert bench.resume() == 10


def test_a_passing_fault_of_s3_loses_nothing_and_the_next_turn_publishes(bench: Bench) -> None:
    bench.publish(5)
    bench.save(10)
    faults = iter([True, False])
    flaky = Failing(bench.cloud.s3, lambda name, key: name == "put_object" and "step-00000010/optimizer" in key and next(faults), _refused())
    uploader = bench.new_uploader(flaky)
    with pytest.raises(ClientError):
        uploader.turn()
    assert set(bench.cloud.whole_checkpoints()) == {5}
    uploader.turn()
    assert set(bench.cloud.whole_checkpoints()) == {5, 10}


@pytest.mark.parametrize(
    "harm",
    [
        lambda s3, key: s3.put_object(Bucket=OUTPUTS, Key=key("optimizer.bin"), Body=b"short"),
        lambda s3, key: s3.put_object(Bucket=OUTPUTS, Key=key("optimizer.bin"), Body=b"Weights optimizer.bin 10"),
        lambda s3, key: s3.delete_object(Bucket=OUTPUTS, Key=key("optimizer.bin")),
        lambda s3, key: s3.put_object(Bucket=OUTPUTS, Key=key("checkpoint.json"), Body=b'{"version": 1'),
        lambda s3, key: s3.delete_object(Bucket=OUTPUTS, Key=key("checkpoint.json")),
    ],
    ids=["short", "changed", "file gone", "manifest cut", "manifest gone"],
)
def test_a_damaged_newest_checkpoint_is_passed_over_for_the_one_before(bench: Bench, harm: Callable[[Any, Callable[[str], str]], None]) -> None:
    bench.publish(5, 10)
    harm(bench.cloud.s3, lambda name: bench.key(10, name))
    assert bench.resume() == 5
    assert bench.taken() == ["step-00000005"]
    assert not any(bench.second.incoming.iterdir())


def test_a_checkpoint_of_another_job_is_not_taken(bench: Bench) -> None:
    _write(bench.local, 5, job="other-job")
    bench.uploader.turn()
    assert bench.resume() is None


def test_writers_that_the_ticket_does_not_name_are_not_looked_at(bench: Bench) -> None:
    bench.publish(5)
    stranger = bench.key(99, "checkpoint.json").replace(FIRST, "i-0000000000000000f")
    bench.cloud.put(stranger, bench.cloud.read(bench.key(5, "checkpoint.json")) or b"", OUTPUTS)
    assert bench.resume() == 5


def test_without_any_checkpoint_the_start_is_the_beginning(bench: Bench) -> None:
    assert bench.resume() is None


def test_a_checkpoint_damaged_on_the_disk_is_not_published(bench: Bench) -> None:
    bench.publish(5)
    place = bench.save(10)
    (place / "optimizer.bin").write_bytes(b"Weights optimizer.bin 10")
    bench.uploader.turn()
    assert set(bench.cloud.whole_checkpoints()) == {5}
    # Saved again, whole, by a trainer that was started again.
    bench.publish(10)
    assert set(bench.cloud.whole_checkpoints()) == {5, 10}


def test_a_checkpoint_that_came_from_s3_is_not_sent_back(bench: Bench) -> None:
    bench.publish(5, 10)
    bench.resume()
    ticket = bench.cloud.ticket(SECOND, attempt=2, earlier_writers=(writer(FIRST),))
    uploader = Uploader(Store(bench.cloud.s3), ticket, bench.second, now, bench.told.append)
    uploader.turn()
    assert bench.cloud.whole_checkpoints(SECOND) == {}
    # Nor does it hide a lower step that the trainer saves after it fell back.
    _write(bench.second.run / "checkpoints", 7)
    uploader.turn()
    assert set(bench.cloud.whole_checkpoints(SECOND)) == {7}


def test_older_checkpoints_go_only_after_a_newer_one_is_there(bench: Bench) -> None:
    bench.publish(5, 10)
    bench.save(15)
    refusing = Failing(bench.cloud.s3, lambda name, key: name == "put_object" and key.endswith("step-00000015/checkpoint.json"), _refused())
    with pytest.raises(ClientError):
        bench.new_uploader(refusing).turn()
    assert set(bench.cloud.whole_checkpoints()) == {5, 10}
    bench.uploader.turn()
    assert set(bench.cloud.whole_checkpoints()) == {10, 15}
    assert not any("step-00000005" in key for key in bench.cloud.keys())


def test_a_deletion_cut_off_in_the_middle_leaves_no_half_checkpoint_that_looks_whole(bench: Bench) -> None:
    bench.publish(5, 10)
    bench.save(15)
    cut = Failing(bench.cloud.s3, lambda name, _key: name == "delete_object" and [one for one, _ in cut.keys].count(name) == 2, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        bench.new_uploader(cut).turn()
    assert set(bench.cloud.whole_checkpoints()) == {10, 15}


def test_when_time_presses_an_overtaken_upload_is_given_up_for_the_newest(bench: Bench) -> None:
    bench.publish(5)
    bench.save(10)
    begun, go_on = threading.Event(), threading.Event()

    def hold(name: str, key: str) -> bool:
        if name == "put_object" and "step-00000010/adapter" in key:
            begun.set()
            go_on.wait(5)
        return False

    uploader = bench.new_uploader(Failing(bench.cloud.s3, hold, AssertionError()))
    background = threading.Thread(target=uploader.turn)
    background.start()
    assert begun.wait(5)
    bench.save(11)
    last = threading.Thread(target=uploader.last)
    last.start()
    go_on.set()
    background.join(5)
    last.join(5)
    assert set(bench.cloud.whole_checkpoints()) == {5, 11}


def test_links_out_of_the_run_folder_are_refused(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "file").symlink_to(secret)
    (folder / "sub").symlink_to(tmp_path)
    with pytest.raises(NotAFile):
        sha256_of(folder / "file")
    sha256 = hashlib.sha256(b"secret").hexdigest()
    assert "leads out" in str(damage(folder, (FileDigest(path="file", size=6, sha256=sha256),)))
    assert "leads out" in str(damage(folder, (FileDigest(path="sub/secret", size=6, sha256=sha256),)))


def test_a_file_that_changed_since_its_digest_is_not_uploaded(cloud: Cloud, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"changed")
    with pytest.raises(NotAsDescribed):
        Store(cloud.s3).upload(OUTPUTS, "key", path, FileDigest(path="file", size=7, sha256="0" * 64), lambda: None)
    assert cloud.keys() == []


def test_a_large_file_goes_in_parts_and_comes_back_whole(cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.store.WHOLE_PUT_BYTES", 1000)
    path, back = tmp_path / "file", tmp_path / "back"
    path.write_bytes(b"0123456789" * 1000)
    digest = FileDigest(path="file", size=10_000, sha256=sha256_of(path))
    store = Store(cloud.s3)
    store.upload(OUTPUTS, "key", path, digest, lambda: None)
    store.download(OUTPUTS, "key", back, tmp_path / "incoming", lambda: None)
    assert sha256_of(back) == digest.sha256
    assert cloud.s3.head_object(Bucket=OUTPUTS, Key="key")["Metadata"] == {"sha256": digest.sha256}


def test_what_belongs_to_a_checkpoint_is_tagged_to_expire_and_a_model_is_not(cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small, large = tmp_path / "small", tmp_path / "large"
    small.write_bytes(b"1")
    large.write_bytes(b"0123456789" * 1000)
    monkeypatch.setattr("agent.store.WHOLE_PUT_BYTES", 1000)
    store, folder = Store(cloud.s3), checkpoint_prefix(JOB, FIRST, 7)
    for path in (small, large):
        file = FileDigest(path=path.name, size=path.stat().st_size, sha256=sha256_of(path))
        for prefix in (folder, f"runs/{JOB}/{FIRST}/final/"):
            store.upload(OUTPUTS, prefix + path.name, path, file, lambda: None)
    store.write(OUTPUTS, f"{folder}checkpoint.json", b"{}")
    tags = {key: cloud.s3.get_object_tagging(Bucket=OUTPUTS, Key=key)["TagSet"] for key in cloud.keys()}
    expiring = [{"Key": "dropforge:kind", "Value": "checkpoint"}]
    assert {key: found == expiring for key, found in tags.items()} == {key: "/checkpoints/" in key for key in tags}
    assert len(tags) == 5


def test_the_trainer_is_told_what_an_upload_took_so_that_it_saves_no_oftener(bench: Bench) -> None:
    bench.publish(5)
    told = load(Uploaded, (bench.first.run / "published.json").read_bytes())
    assert (told.step, told.seconds) == (5, bench.uploader.upload_s)
    assert told.bytes == sum(path.stat().st_size for path in (bench.local / "step-00000005").rglob("*.bin"))


def test_a_disk_that_takes_no_word_for_the_trainer_costs_no_checkpoint(bench: Bench) -> None:
    (bench.first.run / "published.json").mkdir(parents=True)
    bench.publish(5)
    assert [one.step for one in bench.told] == [5]
