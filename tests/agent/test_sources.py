"""Sources of rows: several files in S3, data sets of the hub; each found where the run file says it lies."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from agent.orders import run_file
from agent.settings import Folders
from agent.staging import Stager, StagingFailed
from agent.store import Store
from jobspec.marker import FailureCode
from tests.agent.cloud import Cloud
from tests.agent.hub import fake_hub

REVISION = "0123456789abcdef0123456789abcdef01234567"
ROW = json.dumps({"text": "hello"}).encode() + b"\n"


def staged(cloud: Cloud, root: Path, data: dict[str, Any], **manifest: Any) -> Any:
    """The run folder below ``root`` with its data staged, and the run file."""
    ticket = cloud.ticket(manifest={"data": data, **manifest})
    folders = Folders(root)
    for folder in (folders.run, folders.control, folders.incoming):
        folder.mkdir(parents=True, exist_ok=True)
    Stager(Store(cloud.s3), ticket, folders, lambda: None, lambda _s: None).stage_data()
    return folders.run, run_file(ticket, folders.run)


def test_several_files_are_staged_apart_with_their_weights(cloud: Cloud, tmp_path: Path) -> None:
    cloud.put("data/a.jsonl", ROW)
    packed = gzip.compress(ROW * 2)
    cloud.put("data/a=1/a.jsonl.gz", packed)
    folder, run = staged(cloud, tmp_path, {"train": [{"path": "data/a.jsonl"}, {"path": "data/a=1/a.jsonl.gz", "weight": 0.5}], "eval": "data/a.jsonl"})
    assert [(source.called, source.weight) for source in run.train_sources()] == [("data/a.jsonl", 1.0), ("data/a=1/a.jsonl.gz", 0.5)]
    assert [(folder / file).read_bytes() for source in run.train_sources() for file in source.files] == [ROW, packed]
    assert [source.called for source in run.eval_sources()] == ["data/a.jsonl"]


def test_columns_of_other_names_pass_the_first_look_where_the_manifest_names_them(cloud: Cloud, tmp_path: Path) -> None:
    row = {"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "yes"}]}
    cloud.put("data/a.jsonl", json.dumps(row).encode())
    _, run = staged(cloud, tmp_path, {"train": "data/a.jsonl", "columns": {"messages": "conversations"}})
    assert run.columns.messages == "conversations"
    with pytest.raises(StagingFailed, match=r"line 1 has the keys conversations.*set data\.columns: \{messages: conversations\}"):
        staged(cloud, tmp_path, {"train": "data/a.jsonl"})


def test_rows_of_another_method_are_refused_before_the_trainer_with_the_method_they_are_for(cloud: Cloud, tmp_path: Path) -> None:
    cloud.put("data/a.jsonl", json.dumps({"prompt": "q", "chosen": "a", "rejected": "b"}).encode())
    with pytest.raises(StagingFailed, match=r"is a preference row, but method sft learns from .*; preference rows are for method dpo or orpo or reward"):
        staged(cloud, tmp_path, {"train": "data/a.jsonl"})
    staged(cloud, tmp_path, {"train": "data/a.jsonl"}, method="dpo")


@pytest.mark.timeout(120)
def test_a_hub_data_set_is_fetched_at_its_commit_file_by_file_and_only_once(cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"data/train-00000.jsonl": ROW, "data/train-00001.jsonl": ROW * 2, "data/test.jsonl": ROW, "run.py": b"raise SystemExit"}
    data = {"train": [{"hub": "org/rows", "revision": REVISION, "file": "data/train-*.jsonl"}]}
    with fake_hub("datasets", "org/rows", REVISION, files) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        folder, run = staged(cloud, tmp_path, data)
    (source,) = run.train_sources()
    assert source.called == "org/rows@0123456789ab/data/train-*.jsonl"
    assert [(folder / file).read_bytes() for file in source.files] == [ROW, ROW * 2]
    assert staged(cloud, tmp_path, data)[1] == run  # the hub is gone; what is there is there


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("repository", "file"), [("org/none", "data/train.jsonl"), ("org/rows", "data/none-*.jsonl")])
def test_a_hub_data_set_or_file_that_is_not_there_fails_by_name(
    cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repository: str, file: str
) -> None:
    with fake_hub("datasets", "org/rows", REVISION, {"data/train.jsonl": ROW}) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        with pytest.raises(StagingFailed) as caught:
            staged(cloud, tmp_path, {"train": [{"hub": repository, "revision": REVISION, "file": file}]})
    assert caught.value.failure.code is FailureCode.DATA_MISSING
    assert repository in caught.value.failure.message
