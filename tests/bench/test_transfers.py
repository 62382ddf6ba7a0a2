"""The bench of transfers measures copies that are whole, and says nothing of those that are not."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.store import Store, connect
from bench import loopback, transfers
from tests.agent.cloud import OUTPUTS, Cloud

MIB = 1024 * 1024


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    for name, value in loopback.CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "server").mkdir()
    with loopback.s3_server(tmp_path / "server", lean=True) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        yield Cloud(connect(endpoint))


def test_a_file_goes_there_and_back_in_parts_and_in_one_piece(cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfers, "peers", lambda endpoint: {})
    for mib in (1, 70):  # the second in parts
        (line,) = transfers.copies(Store(cloud.s3), os.environ["AWS_ENDPOINT_URL"], tmp_path, mib * MIB, 1)
        assert line.startswith(f"| {mib * MIB / 1e6:.0f} MB, agent |")
        assert line.endswith("| 1.00, 1.00 |")


def test_other_bytes_than_were_sent_end_the_bench(cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfers, "peers", lambda endpoint: {})
    store = Store(cloud.s3)
    monkeypatch.setattr(store, "download", lambda bucket, key, target, incoming, check: target.write_bytes(b"other"))
    with pytest.raises(SystemExit, match="not what was sent"):
        transfers.copies(store, os.environ["AWS_ENDPOINT_URL"], tmp_path, MIB, 1)


def test_a_last_save_is_published_and_comes_back(cloud: Cloud, tmp_path: Path) -> None:
    cells = transfers.last_save(cloud, tmp_path / "save", 3 * MIB).split("|")
    assert cells[1].strip() == "3 MB"
    assert [key.rsplit("/", 1)[1] for key in cloud.keys("runs/") if "checkpoints" in key] == ["adapter_model.safetensors", "checkpoint.json", "optimizer.pt"]
    assert cloud.s3.head_object(Bucket=OUTPUTS, Key=cloud.keys("runs/")[-1])["ContentLength"] == 2 * MIB


def test_peers_that_are_not_installed_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfers.shutil, "which", lambda name: None)
    assert transfers.peers("http://127.0.0.1:1") == {}
