"""The demonstration's material: rows split without overlap, parts made whole or not at all, a second call that does nothing."""

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from demo import material, rows


class Maker:
    """Stands in for the model's making, which takes half a minute; counts its calls."""

    def __init__(self) -> None:
        self.made = 0
        self.fails = False

    def write(self, folder: Path) -> int:
        self.made += 1
        (folder / "model.safetensors").write_bytes(b"the weights")
        if self.fails:
            raise OSError("disk full")
        return 135_000_000


@pytest.fixture
def maker(monkeypatch: pytest.MonkeyPatch) -> Maker:
    made = Maker()
    monkeypatch.setattr(material, "write_model", made.write)
    monkeypatch.setattr(material, "check_model", lambda folder: None)
    monkeypatch.setattr(material, "_quiet", lambda: None)
    return made


def _make(to: Path) -> list[str]:
    said: list[str] = []
    material.make(to, said.append)
    return said


def test_no_question_and_no_held_out_answer_is_on_both_sides() -> None:
    train, held_out = rows.split(list(rows.pairs()))
    questions = [rows.normalised(question) for question, _ in (*train, *held_out)]
    assert len(questions) == len(set(questions))
    assert not {rows.normalised(a) for _, a in train} & {rows.normalised(a) for _, a in held_out}
    assert (len(held_out), len(train) > 300) == (rows.EVAL_ROWS, True)


def test_questions_that_differ_only_in_dress_count_once_and_the_first_answer_stays() -> None:
    train, held_out = rows.split([("What is AI?", "one"), ("what is  ai", "two"), ("Who?", "three")], eval_rows=0)
    assert (sorted(train), held_out) == ([("What is AI?", "one"), ("Who?", "three")], [])


def test_the_rows_are_chat_rows_and_the_same_each_time(tmp_path: Path) -> None:
    made = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        counts = rows.write_rows(tmp_path / name)
        made.append((tmp_path / name / "train.jsonl").read_bytes())
    assert made[0] == made[1]
    lines = made[0].decode().splitlines()
    assert len(lines) == counts["train.jsonl"]
    assert all([turn["role"] for turn in json.loads(line)["messages"]] == ["user", "assistant"] for line in lines)
    assert "BSD-3-Clause" in (tmp_path / "a" / "SOURCE.md").read_text()


def test_a_second_making_finds_everything_and_does_nothing(tmp_path: Path, maker: Maker) -> None:
    _make(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.jsonl")}
    assert "there already" in _make(tmp_path)[-1]
    assert (maker.made, {path: path.stat().st_mtime_ns for path in before}) == (1, before)
    files = json.loads((tmp_path / "material.json").read_text())["files"]
    assert set(files) == {"data/demo/SOURCE.md", "data/demo/eval.jsonl", "data/demo/train.jsonl", "models/smollm2-135m-instruct/model.safetensors"}


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def _garble(path: Path) -> None:
    path.with_name("x").write_text("a stranger")


@pytest.mark.parametrize(
    ("where", "damage"),
    [
        ("models/smollm2-135m-instruct/model.safetensors", _cut),
        ("data/demo/train.jsonl", Path.unlink),
        ("data/demo/train.jsonl", _garble),
        ("material.json", _cut),
        ("material.json", lambda path: path.write_text("[]")),
        ("material.json", lambda path: path.write_text('{"making": 0, "files": {}}')),
    ],
)
def test_damaged_material_is_made_anew(tmp_path: Path, maker: Maker, where: str, damage: Callable[[Path], object]) -> None:
    _make(tmp_path)
    whole = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    damage(tmp_path / where)
    _make(tmp_path)
    assert maker.made == 2
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == whole


def test_a_making_that_breaks_leaves_no_record_and_no_half_model(tmp_path: Path, maker: Maker) -> None:
    maker.fails = True
    with pytest.raises(OSError, match="disk full"):
        _make(tmp_path)
    assert not (tmp_path / "material.json").exists()
    assert not (tmp_path / "models/smollm2-135m-instruct").exists()
    maker.fails = False
    _make(tmp_path)
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["smollm2-135m-instruct"]


def test_a_second_making_waits_for_the_first_and_uses_what_it_made(tmp_path: Path, maker: Maker) -> None:
    second_waits = threading.Event()

    def say_second(text: str) -> None:
        if "waiting for it" in text:
            second_waits.set()

    second = threading.Thread(target=material.make, args=(tmp_path, say_second))

    def say_first(text: str) -> None:
        if text.startswith("rows:"):
            second.start()
            assert second_waits.wait(10), "the second making did not wait"

    material.make(tmp_path, say_first)
    second.join(10)
    assert (second.is_alive(), maker.made) == (False, 1)


def test_long_work_is_never_silent() -> None:
    said: list[str] = []
    with material._ticking(said.append, "working", tick_s=0.01):
        end = time.monotonic() + 5
        while len(said) < 3 and time.monotonic() < end:
            time.sleep(0.01)
    assert said[0] == "working"
    assert len(said) >= 3
