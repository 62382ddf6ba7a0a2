"""Bad input is found at staging, before a trainer starts, and the marker says what to do about it."""

import errno
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agent import hub, model_files, staging
from agent.orders import run_file
from agent.rows import BadRows, check_first_row
from agent.staging import Stager
from agent.store import Store
from agent.world import AgentExit
from jobspec.data import Data
from jobspec.marker import Failure, FailureCode
from tests.agent.cloud import FIRST, OUTPUTS, SAFETENSORS, Cloud, now
from tests.agent.conftest import Launch

REVISION = "0123456789abcdef0123456789abcdef01234567"


def _failure(cloud: Cloud, launch: Launch, **facts: Any) -> Failure:
    instance = launch(**facts)
    assert instance.run() is AgentExit.FINISHED
    assert instance.host.starts == 0, "a trainer ran on input that staging should have refused"
    marker = cloud.marker()
    assert marker is not None
    assert marker.failure is not None
    return marker.failure


@pytest.mark.parametrize(
    ("body", "code", "says"),
    [
        (None, FailureCode.DATA_MISSING, "does not exist"),
        (b"", FailureCode.DATA_EMPTY, "is empty"),
        (b"\n  \n\n", FailureCode.DATA_EMPTY, "no rows"),
        (b"question,answer\n1,2\n", FailureCode.DATA_INVALID, "line 1 is not a JSON object"),
        (b"\x1f\x8b\x08\x00binary", FailureCode.DATA_INVALID, "is packed by gzip, and damaged"),
        (b'\n{"question": 1}\n', FailureCode.DATA_INVALID, "line 2 has the keys question"),
        (b"[1, 2]\n", FailureCode.DATA_INVALID, "a list"),
        (b"[" * 100_000 + b"\n", FailureCode.DATA_INVALID, "line 1"),
    ],
    ids=["missing", "empty", "blank", "csv", "gzip", "keys", "list", "deep"],
)
def test_a_bad_data_file_fails_before_the_trainer(cloud: Cloud, launch: Launch, body: bytes | None, code: FailureCode, says: str) -> None:
    cloud.ticket(manifest={"data": {"train": "data/bad.jsonl"}})
    if body is not None:
        cloud.put("data/bad.jsonl", body)
    failure = _failure(cloud, launch)
    assert failure.code is code
    assert says in failure.message
    assert "data/bad.jsonl" in failure.message


def test_a_bad_held_out_file_fails_too(cloud: Cloud, launch: Launch) -> None:
    cloud.ticket(manifest={"data": {"train": "data/rows.jsonl", "eval": "s3://elsewhere/eval.jsonl"}})
    failure = _failure(cloud, launch)
    assert failure.code is FailureCode.DATA_MISSING
    assert "s3://elsewhere/eval.jsonl" in failure.message


@pytest.mark.parametrize(
    ("format_", "row", "good"),
    [
        ("chat", {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}]}, True),
        ("chat", {"messages": [{"role": "user", "content": "hi"}]}, False),
        ("chat", {"messages": []}, False),
        ("chat", {"text": "hi"}, False),
        ("prompt-completion", {"prompt": "a", "completion": "b"}, True),
        ("prompt-completion", {"prompt": "a"}, False),
        ("text", {"text": "a"}, True),
        ("text", {"text": 3}, False),
        ("auto", {"prompt": "a", "completion": "b"}, True),
        ("auto", {"prompt": "a"}, False),
    ],
)
def test_the_first_row_is_held_to_the_format(tmp_path: Path, format_: Any, row: dict[str, Any], good: bool) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("\ufeff" + json.dumps(row) + "\n", encoding="utf-8")
    if good:
        check_first_row(path, "sft", Data(train="x", format=format_), "rows")
    else:
        with pytest.raises(BadRows):
            check_first_row(path, "sft", Data(train="x", format=format_), "rows")


@pytest.mark.parametrize(
    ("files", "code", "says"),
    [
        ({}, FailureCode.MODEL_MISSING, "there is nothing at"),
        ({"config.json": b"{}", "tokenizer.json": b"{}", "pytorch_model.bin": b"x"}, FailureCode.MODEL_INVALID, "no *.safetensors"),
        ({"model.safetensors": SAFETENSORS, "tokenizer.json": b"{}"}, FailureCode.MODEL_INVALID, "config.json"),
        ({"model.safetensors": SAFETENSORS, "config.json": b"{}"}, FailureCode.MODEL_INVALID, "tokenizer"),
        ({"model.safetensors": b"version https://git-lfs", "config.json": b"{}", "tokenizer.json": b"{}"}, FailureCode.MODEL_INVALID, "not a whole"),
        (
            {
                "model-00001-of-00002.safetensors": SAFETENSORS,
                "model.safetensors.index.json": b'{"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}',
                "config.json": b"{}",
                "tokenizer.json": b"{}",
            },
            FailureCode.MODEL_INVALID,
            "lacks model-00002-of-00002.safetensors",
        ),
    ],
    ids=["nothing", "pickle", "config", "tokenizer", "lfs-pointer", "shard"],
)
def test_a_model_that_cannot_be_loaded_fails_before_the_trainer(cloud: Cloud, launch: Launch, files: dict[str, bytes], code: FailureCode, says: str) -> None:
    for name, body in files.items():
        cloud.put(f"models/other/{name}", body)
    cloud.ticket(manifest={"model": {"s3": "models/other/"}})
    failure = _failure(cloud, launch)
    assert failure.code is code
    assert says in failure.message


def test_a_disk_that_is_too_small_is_said_before_the_download(cloud: Cloud, launch: Launch) -> None:
    cloud.ticket()
    failure = _failure(cloud, launch, free=lambda _path: 10_000_000)
    assert failure.code is FailureCode.DISK_FULL
    assert "volume size" in failure.message


def test_a_disk_that_fills_up_during_a_download_is_a_full_disk(cloud: Cloud, launch: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Store, "download", full)
    cloud.ticket()
    assert _failure(cloud, launch).code is FailureCode.DISK_FULL


def test_what_is_staged_is_not_fetched_again_unless_it_is_damaged(cloud: Cloud, launch: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    ticket = cloud.ticket()
    instance = launch()
    fetched: list[str] = []
    download = Store.download

    def recorded(self: Store, bucket: str, key: str, *rest: Any) -> None:
        fetched.append(key)
        download(self, bucket, key, *rest)

    monkeypatch.setattr(Store, "download", recorded)

    def stage() -> list[str]:
        fetched.clear()
        stager = Stager(Store(cloud.s3), ticket, instance.folders, lambda: None, lambda _s: None)
        stager.stage_data()
        stager.stage_model()
        return sorted(fetched)

    assert len(stage()) == 4
    assert stage() == []
    (instance.folders.run / "model" / "config.json").write_bytes(b"{")
    assert stage() == ["models/tiny/config.json"]
    cloud.orders(step_s=1)
    assert stage() == ["data/rows.jsonl"]


def _hub_stager(cloud: Cloud, launch: Launch) -> Stager:
    ticket = cloud.ticket(manifest={"model": {"hub": "org/tiny", "revision": REVISION}})
    return Stager(Store(cloud.s3), ticket, launch().folders, lambda: None, lambda _s: None)


def test_a_hub_model_is_fetched_at_its_revision_without_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: dict[str, Any] = {}
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda repository, **options: seen.update(options, repository=repository))
    assert hub.main("model", "org/tiny", REVISION, str(tmp_path), *model_files.ALLOWED_PATTERNS) == 0
    assert (seen["repository"], seen["revision"]) == ("org/tiny", REVISION)
    assert not any(pattern in ("*", "*.py", "*.bin", "*.pt") for pattern in seen["allow_patterns"])


@pytest.mark.parametrize(
    ("program", "code"),
    [
        (f"import sys; sys.stderr.write('404'); sys.exit({hub.EXIT_MISSING})", FailureCode.MODEL_MISSING),
        ("import sys; sys.stderr.write('OSError: [Errno 28] No space left on device'); sys.exit(1)", FailureCode.DISK_FULL),
    ],
)
def test_what_the_hub_says_becomes_a_failure_code(cloud: Cloud, launch: Launch, monkeypatch: pytest.MonkeyPatch, program: str, code: FailureCode) -> None:
    _hub_says(monkeypatch, program)
    with pytest.raises(staging.StagingFailed) as caught:
        _hub_stager(cloud, launch).stage_model()
    assert caught.value.failure.code is code


def test_a_hub_that_cannot_be_reached_is_a_passing_fault(cloud: Cloud, launch: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    _hub_says(monkeypatch, "raise SystemExit('connection reset')")
    with pytest.raises(ConnectionError, match="connection reset"):
        _hub_stager(cloud, launch).stage_model()


@pytest.mark.timeout(30)
def test_a_hub_that_says_much_does_not_stand_still_and_its_last_words_are_kept(cloud: Cloud, launch: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    _hub_says(monkeypatch, "import sys; sys.stderr.write('downloading ' * 100_000); sys.exit('reset by peer')")
    with pytest.raises(ConnectionError, match="downloading reset by peer"):
        _hub_stager(cloud, launch).stage_model()


def test_a_notice_ends_a_download_from_the_hub_at_once(cloud: Cloud, launch: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    _hub_says(monkeypatch, "import time; time.sleep(60)")
    cloud.ticket(FIRST, manifest={"model": {"hub": "org/tiny", "revision": REVISION}})
    instance = launch()
    instance.start()
    instance.imds.interrupt(60)
    started = now()
    assert instance.join() is AgentExit.HANDED_OVER
    assert (now() - started).total_seconds() < 10


def _hub_says(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    popen = subprocess.Popen
    monkeypatch.setattr("agent.hub.subprocess.Popen", lambda command, **options: popen([sys.executable, "-c", program], **options))


START = "runs/first-1a2b3c4d5e/AROATESTROLE:i-0000000000000000f/final/"


def _made(cloud: Cloud, *names: str, prefix: str = START) -> None:
    for name in names:
        cloud.put(prefix + name, SAFETENSORS if name.endswith(".safetensors") else b"{}", OUTPUTS)


def _stage_model(cloud: Cloud, launch: Launch, use: str, prefix: str = START) -> tuple[Path, Any]:
    ticket = cloud.ticket(start={"job_id": "first-1a2b3c4d5e", "use": use, "prefix": prefix})
    instance = launch()
    Stager(Store(cloud.s3), ticket, instance.folders, lambda: None, lambda _s: None).stage_model()
    return instance.folders.run, run_file(ticket, instance.folders.run)


def test_an_adapter_to_go_on_with_lies_beside_the_model_and_is_named_to_the_trainer(cloud: Cloud, launch: Launch) -> None:
    _made(cloud, "adapter_model.safetensors", "results.json", "README.md", "adapter_config.json")
    folder, run = _stage_model(cloud, launch, "adapter")
    assert sorted(path.name for path in (folder / "start").iterdir()) == ["adapter_model.safetensors", "results.json"]
    assert (run.start_dir, run.start_reference) == ("start", "first-1a2b3c4d5e")
    assert run.model_reference == "models/tiny"
    assert (folder / "model/config.json").is_file()


def test_another_jobs_whole_model_is_staged_as_the_base_without_what_is_not_a_models(cloud: Cloud, launch: Launch) -> None:
    prefix = START + "merged/"
    _made(cloud, "config.json", "tokenizer.json", "model.safetensors", "code.py", prefix=prefix)
    folder, run = _stage_model(cloud, launch, "model", prefix)
    assert sorted(path.name for path in (folder / "model").iterdir()) == ["config.json", "model.safetensors", "tokenizer.json"]
    assert run.start_dir is None
    assert run.model_reference == f"s3://{OUTPUTS}/{prefix}"


def test_an_adapter_that_was_removed_meanwhile_fails_before_the_trainer(cloud: Cloud, launch: Launch) -> None:
    _made(cloud, "results.json")
    cloud.ticket(start={"job_id": "first-1a2b3c4d5e", "use": "adapter", "prefix": START})
    failure = _failure(cloud, launch)
    assert failure.code is FailureCode.MODEL_MISSING
    assert "the adapter of first-1a2b3c4d5e" in failure.message


def test_an_ordinary_run_file_names_no_adapter(cloud: Cloud, launch: Launch) -> None:
    run = run_file(cloud.ticket(), launch().folders.run)
    assert (run.start_dir, run.start_reference) == (None, "")
