"""Rows are prepared once, kept, and used again only where they are whole and of this run; sources are mixed by their weights."""

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from jobspec.prepared import Part
from jobspec.runfile import RunFile
from jobspec.wire import load
from tests.tiny_model import write_chat_rows
from tests.trainer.rig import Now, do_run, failure, lines, make_run
from trainer import prepare as preparing
from trainer.prepare import Prepared, prepare, read_all, taken_rows
from trainer.progress import ProgressLog
from trainer.stop import StopSignal

pytestmark = pytest.mark.torch

ASK, SAY, OTHER = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}, {"role": "assistant", "content": "b"}


def prepared(path: Path) -> Prepared:
    run, root = load(RunFile, path.read_bytes()).resolved(), path.parent
    return prepare(run, root, read_all(run, root, StopSignal()), ProgressLog(root / "progress.jsonl", Now(root)), StopSignal())


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_rows_that_are_prepared_already_are_taken_as_they_are(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_run(tmp_path / "run", tiny_model)
    first = prepared(path)
    rows = first.train[:]

    def never(*_: Any) -> Any:
        raise AssertionError("tokenised again")

    monkeypatch.setattr(preparing, "encode", never)
    monkeypatch.setattr(preparing, "training_set", never)
    second = prepared(path)
    assert second.train[:] == rows
    assert (second.manifest, second.report) == (first.manifest, first.report)
    assert "(prepared earlier, in" in lines(tmp_path / "run", "data")[-4]["message"]


CHANGES: dict[str, Any] = {
    "rows": lambda folder: write_chat_rows(folder / "data/train.jsonl", n=41),
    "length": lambda folder: make_run(folder, training={"max_length": 512}),
    "seed": lambda folder: make_run(folder, training={"seed": 7}),
    "a table": lambda folder: (folder / "prepared/train.arrow").write_bytes(b"x" * (folder / "prepared/train.arrow").stat().st_size),
    "the manifest": lambda folder: (folder / "prepared/prepared.json").write_text("{"),
    "the tokenizer": lambda folder: (folder / "model/tokenizer_config.json").write_text(
        (folder / "model/tokenizer_config.json").read_text().replace("512", "513")
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_prepared_rows_of_anything_else_are_not_used_and_the_report_says_why(tiny_model: Path, tmp_path: Path, change: str) -> None:
    folder = tmp_path / "run"
    shutil.copytree(tiny_model, folder / "model")
    path = make_run(folder)
    before = prepared(path).manifest
    CHANGES[change](folder)
    after = prepared(path).manifest
    message = next(line["message"] for line in lines(folder, "data") if "is not used" in line["message"])
    assert "prepared again" in message
    assert (after.key == before.key) == (change in ("a table", "the manifest")), message
    assert prepared(path).manifest == after


def test_a_death_in_the_middle_leaves_nothing_that_looks_prepared(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_run(tmp_path / "run", tiny_model)

    def dies(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(preparing, "facts_of", dies)
    with pytest.raises(KeyboardInterrupt):
        prepared(path)
    assert not (tmp_path / "run/prepared").exists()
    monkeypatch.undo()
    prepared(path)
    assert not list((tmp_path / "run").glob(".staging-*"))


def test_a_weight_says_how_often_each_row_counts_and_the_draw_hangs_on_the_seed() -> None:
    parts = (Part(rows=10, weight=2.5), Part(rows=4, weight=1), Part(rows=8, weight=0.25))
    taken = taken_rows(parts, seed=1)
    assert taken is not None
    counts = Counter(taken)
    assert sorted(counts[row] for row in range(10)) == [2] * 5 + [3] * 5
    assert [counts[row] for row in range(10, 14)] == [1] * 4
    assert sorted(counts[row] for row in range(14, 22)) == [0] * 6 + [1] * 2
    assert taken_rows(parts, seed=1) == taken != taken_rows(parts, seed=2)
    assert taken_rows((Part(rows=3), Part(rows=2)), seed=1) is None


def test_sources_are_mixed_by_weight_after_rows_were_held_out(tiny_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    for name, count in (("a", 20), ("b", 10)):
        write(folder / f"data/{name}.jsonl", [{"text": f"{name} row {at}"} for at in range(count)])
    sources = [{"files": ["data/a.jsonl"], "weight": 2}, {"files": ["data/b.jsonl"], "called": "s3://b/b.jsonl"}]
    data = prepared(make_run(folder, tiny_model, train_from=sources, eval_fraction=0.2))
    texts = Counter(data.tokenizer.decode(ids) for ids in data.train["input_ids"])
    held_out = {data.tokenizer.decode(ids) for ids in data.held_out["input_ids"]}
    assert len(held_out) == 6
    assert not held_out & texts.keys()
    assert {texts[text] for text in texts if text.startswith("a")} == {2}
    assert {texts[text] for text in texts if text.startswith("b")} == {1}
    assert len(texts) == 24


def test_rows_of_a_second_file_are_held_to_the_first_one_s_format_and_told_by_their_own_name(tiny_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    write(folder / "data/a.jsonl", [{"text": "a"}])
    write(folder / "data/b.jsonl", [{"prompt": "q", "completion": "a"}])
    path = make_run(folder, tiny_model, train_from=[{"files": ["data/a.jsonl"]}, {"files": ["data/b.jsonl"], "called": "s3://b/b.jsonl"}])
    assert do_run(path) == 1
    assert failure(folder)[1].startswith("s3://b/b.jsonl: line 1: no 'text' (found the keys completion, prompt; this file is text)")


TABLES: dict[str, tuple[str, list[dict[str, Any]], dict[str, Any]]] = {
    "plain pairs": ("dpo", [{"prompt": "q", "chosen": "a", "rejected": "b", "id": 1}], {"prompt": "q", "chosen": "a", "rejected": "b"}),
    "spoken pairs without a prompt": ("reward", [{"chosen": [ASK, SAY], "rejected": [ASK, OTHER]}], {"prompt": [ASK], "chosen": [SAY], "rejected": [OTHER]}),
    "labels": ("kto", [{"prompt": [ASK], "completion": [SAY], "label": True}], {"prompt": [ASK], "completion": [SAY], "label": True}),
    "prompts": ("grpo", [{"prompt": "q", "answer": "4", "level": 2}], {"prompt": "q", "answer": "4", "level": 2}),
}


@pytest.mark.parametrize("case", TABLES)
def test_other_methods_get_the_columns_that_trl_knows(tiny_model: Path, tmp_path: Path, case: str) -> None:
    method, rows, row = TABLES[case]
    folder = tmp_path / "run"
    write(folder / "data/train.jsonl", rows)
    options = {"grpo": {"rewards": [{"name": "exact_match"}]}} if method == "grpo" else {}
    data = prepared(make_run(folder, tiny_model, method=method, eval_fraction=0, **options))
    assert data.train[0] == row
    assert data.held_out is None
    assert data.probe.question == "q"


def test_a_column_of_two_types_is_refused_for_prompts(tiny_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    write(folder / "data/train.jsonl", [{"prompt": "q", "answer": "4"}, {"prompt": "q", "answer": 4}])
    assert do_run(make_run(folder, tiny_model, method="grpo", grpo={"rewards": [{"name": "exact_match"}]}, eval_fraction=0)) == 1
    assert "a column holds values of more than one type" in failure(folder)[1]
