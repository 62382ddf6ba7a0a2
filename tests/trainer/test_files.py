"""Data files: plain, packed or Parquet, told by their content; damage and bombs refused with the place."""

import gzip
import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobspec.marker import FailureCode
from trainer import files
from trainer.failures import TrainerFailure
from trainer.files import Unreadable, numbered_rows

ROOT = Path(__file__).resolve().parents[2]
ROWS = [{"messages": [{"role": "user", "content": f"q{n} é"}, {"role": "assistant", "content": "a"}]} for n in range(700)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def zstd(body: bytes) -> bytes:
    return bytes(pa.compress(body, codec="zstd", asbytes=True))


def read(path: Path) -> list[Any]:
    return [found.value for found in numbered_rows(path, "data/rows")]


def refused(path: Path) -> str:
    with pytest.raises(TrainerFailure) as raised:
        read(path)
    assert raised.value.code is FailureCode.DATA_INVALID
    return str(raised.value)


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstd, lambda body: gzip.compress(body[:5000]) + gzip.compress(body[5000:])])
def test_json_lines_are_read_plain_and_packed_whatever_the_file_is_called(tmp_path: Path, pack: Any) -> None:
    path = tmp_path / "rows.txt"
    path.write_bytes(pack(LINES))
    assert read(path) == ROWS
    assert [found.place for found in numbered_rows(path, "x")][-1] == "line 700"


def test_parquet_gives_the_same_rows(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    pq.write_table(pa.Table.from_pylist(ROWS), path, row_group_size=300)
    assert read(path) == ROWS
    assert [found.place for found in numbered_rows(path, "x")][:2] == ["row 1", "row 2"]


@pytest.mark.parametrize("pack", [gzip.compress, zstd])
def test_a_packed_file_that_was_cut_off_or_changed_is_refused_with_the_line(tmp_path: Path, pack: Any) -> None:
    path = tmp_path / "rows"
    body = pack(LINES)
    path.write_bytes(body[: len(body) // 2])
    assert "damaged or cut off at line" in refused(path)
    path.write_bytes(body[:40] + b"\xff" * 40 + body[80:])
    assert "data/rows" in refused(path)


def test_damaged_parquet_is_refused_with_the_row(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    pq.write_table(pa.Table.from_pylist(ROWS), path)
    body = path.read_bytes()
    path.write_bytes(body[:-200])
    assert "is Parquet, but not to be read after row 0" in refused(path)


def test_a_row_that_is_none_is_told_and_the_rows_after_it_are_read(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    path.write_bytes(b'{"text": "a"}\n{oops}\n{"text": ' + b"9" * 5000 + b'}\n{"text": "b"}\n')
    kinds = [type(value) for value in read(path)]
    assert kinds == [dict, Unreadable, Unreadable, dict]


def test_content_that_grows_out_of_proportion_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rows"
    path.write_bytes(gzip.compress(b'{"text": "a"}\n' * 200_000))
    assert len(read(path)) == 200_000
    monkeypatch.setattr(files, "SMALL_BYTES", 100_000)
    assert "unpacks to more than" in refused(path)


BOMBS = {
    "one endless line": "packer.write(b'{\"text\": \"' + b'a' * 2**20)",
    "blank lines": "packer.write(b'\\n' * 2**20)",
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_is_refused_in_little_memory(tmp_path: Path, bomb: str) -> None:
    """A gibibyte packed small, read within 400 MiB of address space beyond what Python and pyarrow take."""
    path = tmp_path / "rows"
    program = f"""
        import gzip, resource, sys
        from pathlib import Path
        import pyarrow
        from trainer.failures import TrainerFailure
        from trainer.files import numbered_rows
        path = Path({str(path)!r})
        with gzip.open(path, "wb", 6) as packer:
            for _ in range(1024):
                {BOMBS[bomb]}
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + 400 * 2**20, taken + 400 * 2**20))
        try:
            for _ in numbered_rows(path, "bomb"):
                pass
        except TrainerFailure as refusal:
            print("refused")
    """
    environment = {"PYTHONPATH": f"{ROOT}:{ROOT / 'functions'}"}
    ran = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=120, cwd=ROOT, env=environment, check=False)
    assert (ran.returncode, ran.stdout.strip()) == (0, "refused"), ran.stderr[-2000:]


def test_a_parquet_file_of_one_huge_repeated_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    text = pa.array(["x" * (5 * 2**20)] * 300).dictionary_encode()
    pq.write_table(pa.table({"text": text.cast(pa.string())}), path, compression="zstd")
    assert path.stat().st_size < 2**21
    assert "rows 1 and following hold more than" in refused(path)
