"""The bench of saves reads what the trainer tells, and its table is of that."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bench.saves import HEADER, Run, read, row
from jobspec.base import FileDigest
from jobspec.checkpoint import CheckpointManifest, Identity
from jobspec.runfile import Progress, ProgressKind
from jobspec.wire import dump

START = datetime(2026, 11, 1, tzinfo=UTC)


def test_a_run_is_read_from_its_progress_lines_without_the_last_save_which_ends_it(tmp_path: Path) -> None:
    told = [
        Progress(kind=ProgressKind.STEP, at=START, step=1),
        Progress(kind=ProgressKind.CHECKPOINT, at=START, step=1, seconds=3.0, stall_s=0.25, next_s=60),
        Progress(kind=ProgressKind.CHECKPOINT, at=START, step=2, seconds=5.0, stall_s=0.75, next_s=60),
        Progress(kind=ProgressKind.STEP, at=START + timedelta(seconds=40), step=3),
        Progress(kind=ProgressKind.CHECKPOINT, at=START, step=3, seconds=90.0, stall_s=90.0, next_s=60),
    ]
    (tmp_path / "progress.jsonl").write_text("".join(line.model_dump_json(exclude_defaults=True) + "\n" for line in told))
    newest = tmp_path / "checkpoints/step-00000003"
    newest.mkdir(parents=True)
    files = tuple(FileDigest(path=f"file-{size}", size=size, sha256="0" * 64) for size in (10**8, 10**7))
    identity = Identity(model_sha256="a" * 64, data_sha256="b" * 64, settings={}, libraries={})
    manifest = CheckpointManifest(job_id="job-1", step=3, total_steps=3, created_at=START, identity=identity, files=files)
    (newest / "checkpoint.json").write_bytes(dump(manifest))
    assert read(tmp_path) == Run(40.0, [0.25, 0.75], [3.0, 5.0], 110_000_000)


@pytest.mark.parametrize(("variant", "rate"), [("beside", "31 MB/s"), ("waiting", "28 MB/s")])
def test_the_rate_to_the_disk_leaves_out_the_copy_that_came_before(variant: str, rate: str) -> None:
    cells = row("full", variant, Run(40.0, [0.25, 0.75], [3.0, 5.0], 110_000_000), 10.0).split("|")
    assert len(cells) == len(HEADER.splitlines()[0].split("|"))
    assert [cells[column].strip() for column in (2, 4, 6, 7)] == ["110 MB", "0.500 s (0.750)", rate, "11 MB/s"]
