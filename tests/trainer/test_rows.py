"""Bad data is found in a second, with its file, line, what was found and what is allowed."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from jobspec.marker import FailureCode
from jobspec.runfile import RunFile, RunSource
from tests.tiny_model import write_chat_rows, write_prompt_rows, write_text_rows
from tests.trainer.rig import do_run, failure, make_run
from trainer import files
from trainer.failures import TrainerFailure
from trainer.rows import DataSet, training_set
from trainer.stop import StopRequested, StopSignal

ROOT = Path(__file__).resolve().parents[2]
GOOD = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}


def read(path: Path, wanted: Any = "auto") -> DataSet:
    run = RunFile(job_id="job-1", model_reference="x", train_file=path.name, data_format=wanted)
    run = run.model_copy(update={"train_from": (RunSource(files=(path.name,), called="data/train.jsonl"),)})
    return training_set(run, path.parent, StopSignal(path.parent / "stop"))


def places(data: DataSet) -> list[str]:
    return [row.where for row in data.rows(StopSignal(), "reading")]


def refused(path: Path, wanted: Any = "auto") -> TrainerFailure:
    with pytest.raises(TrainerFailure) as raised:
        read(path, wanted)
    return raised.value


@pytest.mark.parametrize(("write", "name"), [(write_chat_rows, "chat"), (write_prompt_rows, "prompt-completion"), (write_text_rows, "text")])
def test_auto_takes_the_format_of_the_first_row(tmp_path: Path, write: Any, name: str) -> None:
    data = read(write(tmp_path / "rows.jsonl", n=3))
    assert (data.format, len(data)) == (name, 3)
    assert places(data) == [f"data/train.jsonl: line {n}" for n in (1, 2, 3)]


def test_blank_lines_and_a_byte_order_mark_are_no_problem(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(GOOD).encode() + b"\r\n\n  \n" + json.dumps(GOOD).encode())
    assert places(read(path)) == ["data/train.jsonl: line 1", "data/train.jsonl: line 4"]


def test_keys_beyond_the_format_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"id": 7, "source": "x", **GOOD}))
    assert read(path).format == "chat"


BAD_LINES = {
    "not JSON": (b"{oops}", ["line 2", "not JSON"]),
    "an array": (b"[1, 2]", ["line 2", "a list where a JSON object belongs", "one object a line"]),
    "a bare number": (b"7", ["line 2", "a number where a JSON object belongs"]),
    "not UTF-8": (b'{"text": "\xff\xfe"}', ["line 2", "not UTF-8"]),
    "packed": (b"\x1f\x8b\x08\x00abc", ["line 2", "not UTF-8"]),
    "too deep": (b"[" * 100_000, ["line 2", "nested too deeply"]),
    "another format": (b'{"text": "x"}', ["line 2", "no 'messages'", "keys text", "this file is chat"]),
    "messages of another kind": (b'{"messages": "hello"}', ["line 2", "'messages' is the text"]),
    "no messages": (b'{"messages": []}', ["line 2", "an empty list"]),
    "a message of another kind": (b'{"messages": ["hello"]}', ["line 2", "messages[0] is the text"]),
    "an unknown role": (b'{"messages": [{"role": "bot", "content": "x"}]}', ["line 2", "messages[0].role", "'bot'", "system, user, assistant, tool"]),
    "content of another kind": (b'{"messages": [{"role": "user", "content": 3}]}', ["line 2", "messages[0].content' is a number"]),
    "content missing": (b'{"messages": [{"role": "user"}]}', ["line 2", "missing or null"]),
    "assistant first": (b'{"messages": [{"role": "assistant", "content": "x"}]}', ["line 2", "the first turn is assistant"]),
    "no answer": (b'{"messages": [{"role": "user", "content": "x"}]}', ["line 2", "no assistant turn"]),
    "a blank answer": (
        b'{"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": " "}]}',
        ["line 2", "no assistant turn with text"],
    ),
    "half a surrogate pair": (b'{"messages": [{"role": "user", "content": "\\ud800"}]}', ["line 2", "surrogate"]),
}


@pytest.mark.parametrize("case", BAD_LINES)
def test_a_bad_line_is_named_with_what_was_found_and_what_is_allowed(tmp_path: Path, case: str) -> None:
    line, words = BAD_LINES[case]
    path = tmp_path / "rows.jsonl"
    path.write_bytes(json.dumps(GOOD).encode() + b"\n" + line + b"\n" + json.dumps(GOOD).encode())
    error = refused(path)
    assert error.code is FailureCode.DATA_INVALID
    for word in ["data/train.jsonl", "Allowed:", *words]:
        assert word in str(error)


def test_a_first_row_of_no_known_format_is_refused_with_its_keys(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"conversations": [], "id": 1}\n')
    assert "line 1 has the keys conversations, id" in str(refused(path))


def test_the_manifest_s_format_is_held_from_the_first_row_on(tmp_path: Path) -> None:
    assert "line 1: no 'text'" in str(refused(write_chat_rows(tmp_path / "rows.jsonl", n=2), "text"))


@pytest.mark.parametrize("row", [{"prompt": "q", "completion": " "}, {"prompt": "q", "completion": None}, {"prompt": 1, "completion": "a"}])
def test_a_completion_must_be_a_text_that_is_not_blank(tmp_path: Path, row: dict[str, Any]) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row))
    assert refused(path).code is FailureCode.DATA_INVALID


def test_several_problems_are_told_at_once_but_not_all_of_a_million(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(GOOD) + "\n" + "{}\n" * 1000)
    message = str(refused(path))
    assert [f"line {n}:" in message for n in (2, 3, 6, 7)] == [True, True, True, False]
    assert len(message) < 2000


def test_a_missing_file_an_empty_file_and_a_file_of_blank_lines_have_their_own_codes(tmp_path: Path) -> None:
    assert refused(tmp_path / "none.jsonl").code is FailureCode.DATA_MISSING
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "blank.jsonl").write_text("\n\n")
    assert refused(tmp_path / "empty.jsonl").code is FailureCode.DATA_EMPTY
    assert refused(tmp_path / "blank.jsonl").code is FailureCode.DATA_EMPTY


def test_a_row_over_the_limit_and_a_file_over_the_limit_are_refused_without_reading_them_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(GOOD) + "\n" + '{"text": "' + "x" * 5000 + '"}\n')
    monkeypatch.setattr(files, "MAX_ROW_BYTES", 4000)
    assert "line 2 is longer than 4000 bytes" in str(refused(path))
    monkeypatch.setattr(files, "MAX_FILE_BYTES", 100)
    assert "the limit is 100" in str(refused(path))


def test_a_stop_request_is_honoured_while_reading(tmp_path: Path) -> None:
    path = write_chat_rows(tmp_path / "rows.jsonl", n=1500)
    (tmp_path / "stop").touch()
    with pytest.raises(StopRequested, match=r"reading data/train\.jsonl"):
        read(path)


def test_bad_data_ends_as_a_failed_line_and_exit_code_1(tmp_path: Path) -> None:
    path = make_run(tmp_path / "run")
    (tmp_path / "run/data/train.jsonl").write_text("{}\n")
    assert do_run(path) == 1
    code, message = failure(tmp_path / "run")
    assert code == "data_invalid"
    assert "data/train.jsonl: line 1" in message


def test_a_bad_eval_file_is_named_by_its_own_path(tmp_path: Path) -> None:
    path = make_run(tmp_path / "run", eval_file="data/eval.jsonl")
    assert do_run(path) == 1
    assert failure(tmp_path / "run")[1].startswith("data/eval.jsonl: there is no such file")


def test_an_unreadable_run_file_fails_with_a_line_that_says_why(tmp_path: Path) -> None:
    path = make_run(tmp_path / "run", learning_rat=1)
    assert do_run(path) == 1
    assert "learning_rat" in failure(tmp_path / "run")[1]


@pytest.mark.parametrize("command", ["run", "prepare"])
def test_bad_data_is_refused_before_torch_or_transformers_is_imported(tmp_path: Path, command: str) -> None:
    path = make_run(tmp_path / "run")
    (tmp_path / "run/data/train.jsonl").write_text("{}\n")
    script = (
        "import sys; from trainer.__main__ import main; code = main(sys.argv[1:]); "
        "sys.exit(code if not {'torch', 'transformers', 'trl', 'datasets'} & set(sys.modules) else 99)"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script, command, str(path)], cwd=ROOT, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1, done.stderr
    assert "data_invalid: data/train.jsonl: line 1" in done.stderr
