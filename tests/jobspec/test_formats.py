"""Formats of rows: which method learns from which, what keeps a row from being one, and the words of other tools understood."""

from typing import Any

import pytest

from jobspec.data import FORMATS_OF, Columns, Data
from jobspec.formats import KEYS, format_of, problem_of, standard, with_prompt
from jobspec.manifest import Manifest
from tests.jobspec.manifests import GOOD, accepted, only_problem

ASK, SAY = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
OTHER = {"role": "assistant", "content": "b"}
ROWS: dict[str, dict[str, Any]] = {
    "chat": {"messages": [ASK, SAY]},
    "prompt-completion": {"prompt": "q", "completion": "a"},
    "text": {"text": "a"},
    "preference": {"prompt": "q", "chosen": "a", "rejected": "b"},
    "binary-preference": {"prompt": "q", "completion": "a", "label": False},
    "prompt": {"prompt": "q", "answer": "42"},
}
SPOKEN: dict[str, dict[str, Any]] = {
    "prompt-completion": {"prompt": [ASK], "completion": [SAY]},
    "preference": {"prompt": [ASK], "chosen": [SAY], "rejected": [OTHER]},
    "binary-preference": {"prompt": [ASK], "completion": [SAY], "label": True},
    "prompt": {"prompt": [ASK], "answer": "42"},
}


@pytest.mark.parametrize("method", FORMATS_OF)
@pytest.mark.parametrize("found", ROWS)
def test_a_row_is_of_a_format_that_the_method_learns_from_or_is_refused_with_the_method_it_is_for(method: str, found: Any) -> None:
    row = ROWS[found]
    if found in FORMATS_OF[method]:
        assert format_of(row, method) == found
    elif method == "sft" and found == "binary-preference":
        assert format_of(row, method) == "prompt-completion"  # its label is a column beyond the format
    elif method == "grpo" and "prompt" in row:
        assert format_of(row, method) == "prompt"
    else:
        with pytest.raises(ValueError, match=f"is a {found} row, but method {method} learns from"):
            format_of(row, method)


@pytest.mark.parametrize(("found", "row"), [*ROWS.items(), *SPOKEN.items()])
def test_a_whole_row_has_no_problem_and_one_without_a_column_of_its_format_does(found: Any, row: dict[str, Any]) -> None:
    assert problem_of(row, found) is None
    for key in KEYS[found]:
        assert f"no '{key}'" in str(problem_of({name: value for name, value in row.items() if name != key}, found))


BAD: list[tuple[Any, dict[str, Any], str]] = [
    ("preference", {"prompt": "q", "chosen": "a", "rejected": "a"}, "are the same"),
    ("preference", {"prompt": "q", "chosen": "a", "rejected": " "}, "'rejected' is blank"),
    ("preference", {"prompt": " ", "chosen": "a", "rejected": "b"}, "'prompt' is blank"),
    ("preference", {"prompt": [ASK], "chosen": "a", "rejected": "b"}, "'prompt' is a list, the row's other parts are texts"),
    ("preference", {"prompt": [ASK], "chosen": [ASK], "rejected": [SAY]}, "'chosen' does not end with an assistant turn"),
    ("preference", {"prompt": [SAY], "chosen": [OTHER], "rejected": [SAY]}, "the first turn is assistant in 'prompt'"),
    ("preference", {"chosen": "left", "rejected": "right"}, "do not begin alike"),
    ("preference", {"chosen": [SAY], "rejected": [OTHER]}, "the first turn is assistant in 'chosen'"),
    ("preference", {"chosen": [ASK, SAY], "rejected": [{"role": "user", "content": "x"}, SAY]}, "do not begin alike"),
    ("binary-preference", {"prompt": "q", "completion": "a", "label": 1}, "'label' is a number; allowed: true or false"),
    ("binary-preference", {"prompt": "q", "completion": "a", "label": "true"}, "'label' is the text"),
    ("prompt", {"prompt": []}, "'prompt' is an empty list"),
    ("prompt", {"prompt": [{"role": "user"}]}, "prompt[0].content"),
    ("prompt-completion", {"prompt": [ASK], "completion": [{"role": "assistant", "content": " "}]}, "does not end with an assistant turn"),
]


@pytest.mark.parametrize(("wanted", "row", "words"), BAD)
def test_a_bad_row_is_told_by_its_column(wanted: Any, row: dict[str, Any], words: str) -> None:
    assert words in str(problem_of(row, wanted))


def test_what_both_answers_begin_with_is_the_prompt_where_none_is_given() -> None:
    spoken = with_prompt({"chosen": [ASK, SAY], "rejected": [ASK, OTHER]})
    assert (spoken["prompt"], spoken["chosen"], spoken["rejected"]) == ([ASK], [SAY], [OTHER])
    longer = with_prompt({"chosen": [ASK, SAY], "rejected": [ASK, SAY, ASK, OTHER]})
    assert (longer["prompt"], longer["chosen"]) == ([ASK], [SAY])
    plain = with_prompt({"chosen": "Why? Since so.", "rejected": "Why? Silly."})
    assert (plain["prompt"], plain["chosen"], plain["rejected"]) == ("Why? ", "Since so.", "Silly.")


def test_columns_of_other_names_are_taken_under_ours_and_the_rest_stays() -> None:
    columns = Columns(prompt="question", completion="answer")
    assert standard({"question": "q", "answer": "a", "id": 1}, columns) == {"prompt": "q", "completion": "a", "id": 1}
    assert standard({"prompt": "kept"}, columns) == {"prompt": "kept"}


def test_sharegpt_messages_are_read_as_ours() -> None:
    row = standard({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}, Columns(messages="conversations"))
    assert row == {"messages": [ASK, SAY]}
    assert "role is the text 'narrator'" in str(problem_of(standard({"messages": [{"from": "narrator", "value": "x"}]}, Columns()), "chat"))


@pytest.mark.parametrize(
    ("data", "path", "words"),
    [
        (
            "format: preference",
            "data.format",
            "does not go with method sft, which learns from chat or prompt-completion or text rows; preference is for dpo or orpo",
        ),
        ("train: []", "data.train", "has the wrong form"),
        ("train: [{weight: 2, path: a, hub: org/x}]", "data.train[0]", "give either `path`, or `hub` with `revision` and `file`"),
        ("train: [{hub: org/x, file: a.jsonl}]", "data.train[0]", "`hub` needs `revision`"),
        ("train: [{path: a, weight: 0}]", "data.train[0].weight", "is out of range"),
        ("train: [{pth: a}]", "data.train[0].pth", "did you mean `path`"),
        ("eval: [{path: a, weight: 2}]", "data", "held-out rows are counted once"),
        ("columns: {message: x}", "data.columns.message", "did you mean `messages`"),
        ("columns: {prompt: 'a;b'}", "data.columns.prompt", "has the wrong form"),
    ],
)
def test_a_mistake_in_the_data_section_is_told_where_it_stands(data: str, path: str, words: str) -> None:
    text = GOOD.replace("  train: data/train.jsonl\n", "" if data.startswith("train") else "  train: data/train.jsonl\n").replace(
        "data:\n", f"data:\n  {data}\n"
    )
    problem = only_problem(text)
    assert (problem.path, words in problem.message) == (path, True), problem


def test_one_file_and_a_list_of_one_are_the_same_to_the_rest_of_the_house() -> None:
    single: Manifest = accepted(GOOD)
    listed: Data = accepted(GOOD.replace("train: data/train.jsonl", "train: [{path: data/train.jsonl}]")).data
    assert single.data.train_sources() == listed.train_sources()
    assert single.data.eval_sources() == ()
