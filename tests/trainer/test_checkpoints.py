"""Checkpoints: published whole or not at all, verified before use, damaged ones passed over, older ones kept until it is safe."""

import errno
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jobspec.checkpoint import Identity
from jobspec.marker import FailureCode
from jobspec.runfile import RunFile
from jobspec.wire import dump
from tests.trainer.rig import START
from trainer import __main__ as command_line
from trainer.checkpoints import CARRIED_NAME, REQUIRED, SCALER_NAME, Carried, CheckpointStore, DamagedCheckpoint, Measurement, verify
from trainer.failures import TrainerFailure, failure_of, is_disk_full
from trainer.stop import StopSignal

IDENTITY = Identity(model_sha256="a" * 64, data_sha256="b" * 64, settings={"training.seed": 1}, libraries={"torch": "2"})


def fill(folder: Path, dtype: str = "float32", scaler: bool = False) -> None:
    for name in REQUIRED:
        (folder / name).write_bytes(os.urandom(300))
    (folder / CARRIED_NAME).write_bytes(dump(Carried(dtype=dtype, before=Measurement(loss=1.5), sample_before="hello")))
    if scaler:
        (folder / SCALER_NAME).write_bytes(b"scale")


def publish(store: CheckpointStore, step: int, identity: Identity = IDENTITY, write: Callable[[Path], None] = fill) -> Path:
    return store.publish(store.draft(job_id="job-1", step=step, total_steps=100, identity=identity), write)


def names(store: CheckpointStore) -> list[str]:
    return sorted(path.name for path in store.folder.iterdir())


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    opened = CheckpointStore(tmp_path / "checkpoints", 2, lambda: START)
    opened.open()
    return opened


@pytest.fixture
def stop(tmp_path: Path) -> StopSignal:
    return StopSignal(tmp_path / "stop")


def test_a_published_checkpoint_is_whole_and_named_by_its_step(store: CheckpointStore) -> None:
    folder = publish(store, 120)
    assert folder.name == "step-00000120"
    manifest = verify(folder)
    assert {file.path for file in manifest.files} == set(REQUIRED)
    assert (manifest.step, manifest.total_steps, manifest.identity) == (120, 100, IDENTITY)


def test_every_file_is_readable_to_the_agent(store: CheckpointStore) -> None:
    def closed(folder: Path) -> None:
        fill(folder)
        (folder / "optimizer.pt").chmod(0o600)

    assert (publish(store, 1, write=closed) / "optimizer.pt").stat().st_mode & 0o777 == 0o644


def test_the_newest_are_kept_and_the_older_deleted_only_after_the_next_is_published(store: CheckpointStore) -> None:
    publish(store, 1)
    publish(store, 2)

    def looking(folder: Path) -> None:
        assert {"step-00000001", "step-00000002"} <= set(names(store))
        fill(folder)

    publish(store, 3, write=looking)
    assert names(store) == ["step-00000002", "step-00000003"]


def test_steps_decide_which_is_newest_not_file_times(store: CheckpointStore, stop: StopSignal) -> None:
    old, new = publish(store, 9), publish(store, 10)
    os.utime(old, (2e9, 2e9))
    assert store.choose(IDENTITY, stop).folder == new


def test_with_no_checkpoint_the_run_starts_at_the_beginning(store: CheckpointStore, stop: StopSignal) -> None:
    choice = store.choose(IDENTITY, stop)
    assert (choice.folder, choice.step, choice.passed_over) == (None, 0, ())


Damage = Callable[[Path], object]


def _remove(name: str) -> Damage:
    return lambda folder: (folder / name).unlink()


def _cut(name: str) -> Damage:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-20])


def _flip(name: str) -> Callable[[Path], None]:
    def flip(folder: Path) -> None:
        body = bytearray((folder / name).read_bytes())
        body[10] ^= 1
        (folder / name).write_bytes(bytes(body))

    return flip


def _unlist(name: str) -> Callable[[Path], None]:
    """The file and its line in the manifest are both gone: as a writer would leave it that never made the file."""

    def unlist(folder: Path) -> None:
        (folder / name).unlink()
        manifest = json.loads((folder / "checkpoint.json").read_text())
        manifest["files"] = [file for file in manifest["files"] if file["path"] != name]
        (folder / "checkpoint.json").write_text(json.dumps(manifest))

    return unlist


DAMAGES: dict[str, Damage] = {
    **{f"{name} missing": _remove(name) for name in (*REQUIRED, "checkpoint.json")},
    **{f"{name} cut short": _cut(name) for name in (*REQUIRED, "checkpoint.json")},
    **{f"{name} changed": _flip(name) for name in REQUIRED},
    **{f"{name} never written": _unlist(name) for name in REQUIRED},
    "manifest of another step": lambda folder: _rewrite(folder, step=7),
    "manifest with an unknown key": lambda folder: _rewrite(folder, extra=1),
    "manifest that is not text": lambda folder: (folder / "checkpoint.json").write_bytes(b"\xff\x00"),
    "a link in place of a file": lambda folder: _link(folder / "optimizer.pt"),
}


def _rewrite(folder: Path, **fields: object) -> None:
    manifest = json.loads((folder / "checkpoint.json").read_text())
    (folder / "checkpoint.json").write_text(json.dumps({**manifest, **fields}))


def _link(path: Path) -> None:
    path.rename(path.with_name("aside"))
    path.symlink_to("aside")


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_newest_checkpoint_is_passed_over_for_the_one_before(store: CheckpointStore, stop: StopSignal, damage: str) -> None:
    before, newest = publish(store, 1), publish(store, 2)
    DAMAGES[damage](newest)
    with pytest.raises(DamagedCheckpoint):
        verify(newest)
    choice = store.choose(IDENTITY, stop)
    assert choice.folder == before
    assert len(choice.passed_over) == 1
    assert choice.passed_over[0].startswith("step-00000002: ")


def test_with_all_damaged_the_run_starts_at_the_beginning_and_names_each(store: CheckpointStore, stop: StopSignal) -> None:
    for step in (1, 2):
        (publish(store, step) / "optimizer.pt").unlink()
    choice = store.choose(IDENTITY, stop)
    assert choice.folder is None
    assert [reason.split(":")[0] for reason in choice.passed_over] == ["step-00000002", "step-00000001"]


def test_a_float16_checkpoint_without_its_scaler_is_damaged(store: CheckpointStore) -> None:
    with pytest.raises(DamagedCheckpoint, match=SCALER_NAME):
        verify(publish(store, 1, write=lambda folder: fill(folder, dtype="float16")))
    verify(publish(store, 2, write=lambda folder: fill(folder, dtype="float16", scaler=True)))


def test_a_passed_over_checkpoint_never_pushes_out_a_whole_one(store: CheckpointStore, stop: StopSignal) -> None:
    whole, damaged = publish(store, 5), publish(store, 9)
    (damaged / "optimizer.pt").unlink()
    store.choose(IDENTITY, stop)
    publish(store, 6)
    assert names(store) == [whole.name, "step-00000006"]


def test_a_step_whose_damaged_checkpoint_was_passed_over_can_be_published_again(store: CheckpointStore, stop: StopSignal) -> None:
    publish(store, 5)
    (publish(store, 6) / "optimizer.pt").unlink()
    store.choose(IDENTITY, stop)
    verify(publish(store, 6))
    assert names(store) == ["step-00000005", "step-00000006"]


def test_another_identity_is_refused_with_every_field_that_differs(store: CheckpointStore, stop: StopSignal) -> None:
    publish(store, 1)
    other = IDENTITY.model_copy(update={"data_sha256": "c" * 64, "settings": {"training.seed": 2}})
    with pytest.raises(TrainerFailure) as raised:
        store.choose(other, stop)
    assert raised.value.code is FailureCode.IDENTITY_CHANGED
    for word in ("step-00000001", "data_sha256", "settings.training.seed: 2 here, 1 in the checkpoint", "new job"):
        assert word in str(raised.value)


def test_what_a_writer_left_in_the_middle_is_removed_at_the_next_start(store: CheckpointStore, stop: StopSignal) -> None:
    (store.folder / ".staging-1/checkpoint-4").mkdir(parents=True)
    kept = publish(store, 1)
    (store.folder / ".staging-2").mkdir()
    store.open()
    assert names(store) == [kept.name]


@pytest.mark.parametrize(
    "fault", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("[enforce fail at inline_container.cc:664]"), KeyboardInterrupt()]
)
def test_a_write_that_fails_leaves_every_published_checkpoint_as_it_was(store: CheckpointStore, fault: BaseException) -> None:
    first, second = publish(store, 1), publish(store, 2)

    def failing(folder: Path) -> None:
        fill(folder)
        raise fault

    with pytest.raises(type(fault)):
        publish(store, 3, write=failing)
    assert names(store) == [first.name, second.name]
    verify(first)
    verify(second)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB of its own; skipped where this process may not mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.decode().strip()}")
    yield folder
    # Lazily: torch's writer keeps its file open after it failed.
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_is_named_and_costs_no_published_checkpoint(small_disk: Path) -> None:
    store = CheckpointStore(small_disk / "checkpoints", 2, lambda: START)
    store.open()
    first = publish(store, 1)

    def large(folder: Path) -> None:
        fill(folder)
        (folder / "optimizer.pt").write_bytes(bytes(512 * 1024))

    with pytest.raises(OSError, match="No space left") as raised:
        publish(store, 2, write=large)
    assert names(store) == [first.name]
    verify(first)
    named = failure_of(raised.value, small_disk, RunFile(job_id="job-1", model_reference="x"))
    assert named.code is FailureCode.DISK_FULL
    assert "larger volume" in named.message


@pytest.mark.torch
def test_torch_s_own_error_on_a_full_disk_is_known_for_what_it_is(small_disk: Path) -> None:
    import torch

    with pytest.raises(RuntimeError) as raised:
        torch.save({"large": torch.zeros(200_000)}, small_disk / "optimizer.pt")
    assert is_disk_full(raised.value, small_disk)


@pytest.mark.torch
def test_safetensors_own_error_on_a_full_disk_is_known_for_what_it_is(small_disk: Path) -> None:
    import torch
    from safetensors.torch import save_file

    with pytest.raises(Exception, match=r"[Ss]pace") as raised:
        save_file({"large": torch.zeros(200_000)}, small_disk / "adapter.safetensors")
    assert is_disk_full(raised.value, small_disk)


def test_verify_says_in_a_sentence_and_by_its_exit_code_whether_a_folder_is_whole(store: CheckpointStore, capsys: pytest.CaptureFixture[str]) -> None:
    folder = publish(store, 3)
    assert command_line.main(["verify", str(folder)]) == 0
    assert "step-00000003 is whole: step 3 of 100, 7 files" in capsys.readouterr().out
    (folder / "rng_state.pth").unlink()
    assert command_line.main(["verify", str(folder)]) == 1
    assert "not a whole checkpoint: rng_state.pth is missing" in capsys.readouterr().out
