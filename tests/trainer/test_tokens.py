"""Which tokens carry loss, held by decoding them again; and what is refused because too much would be cut off."""

from pathlib import Path
from typing import Any

import pytest

from jobspec.manifest import Training
from jobspec.marker import FailureCode
from tests.tiny_model import write_chat_rows, write_prompt_rows
from trainer.failures import TrainerFailure
from trainer.prepare import load_tokenizer, split
from trainer.rows import DataFile, Row, read_rows
from trainer.stop import StopRequested, StopSignal
from trainer.tokens import IGNORED, Tokenised, check_tokenised, describe, tokenise

pytestmark = pytest.mark.torch

#: As Qwen3's: the last answer gets an empty thought, earlier answers lose it.
THINKING_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' and loop.last %}<think>\n\n</think>\n\n{% endif %}{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
REWRITING_TEMPLATE = "{% for m in messages %}{{ messages|length }}{{ m.content }}{% endfor %}"
REFUSING_TEMPLATE = "{{ raise_exception('roles must alternate') }}"


@pytest.fixture
def tokenizer(tiny_model: Path) -> Any:
    return load_tokenizer(tiny_model)


def chat(*turns: tuple[str, str]) -> Row:
    return Row(3, {"messages": [{"role": role, "content": content} for role, content in turns]})


def tokens_of(tokenizer: Any, rows: list[Row], data_format: Any = "chat", folder: Path = Path("none"), **training: Any) -> Tokenised:
    return tokenise(DataFile("data/train.jsonl", data_format, rows), rows, tokenizer, Training(**training), StopSignal(folder / "stop"))


def said(tokenizer: Any, tokenised: Tokenised, row: int = 0) -> str:
    """What the row is trained to say, decoded."""
    return str(tokenizer.decode([label for label in tokenised.labels[row] if label != IGNORED]))


def test_loss_is_on_the_answer_and_its_stop_token_and_on_nothing_else(tokenizer: Any) -> None:
    tokenised = tokens_of(tokenizer, [chat(("user", "What?"), ("assistant", "The apple falls."))])
    assert said(tokenizer, tokenised) == "The apple falls.<|im_end|>"
    assert tokenizer.decode(tokenised.input_ids[0]) == "<|im_start|>user\nWhat?<|im_end|>\n<|im_start|>assistant\nThe apple falls.<|im_end|>\n"
    assert tokenised.rows_without_stop == 0


def test_loss_is_on_every_answer_of_a_longer_talk_and_on_no_question(tokenizer: Any) -> None:
    talk = chat(("system", "Be brief."), ("user", "one"), ("assistant", "two"), ("user", "two"), ("assistant", "three"))
    assert said(tokenizer, tokens_of(tokenizer, [talk])) == "two<|im_end|>three<|im_end|>"


def test_an_answer_that_repeats_the_question_is_still_placed_right(tokenizer: Any) -> None:
    tokenised = tokens_of(tokenizer, [chat(("user", "echo"), ("assistant", "echo"))])
    assert said(tokenizer, tokenised) == "echo<|im_end|>"
    first = next(at for at, label in enumerate(tokenised.labels[0]) if label != IGNORED)
    assert tokenizer.decode(tokenised.input_ids[0][:first]).endswith("<|im_start|>assistant\n")


def test_every_row_of_a_whole_data_set_decodes_to_its_own_answers(tokenizer: Any, tmp_path: Path) -> None:
    data = read_rows(write_chat_rows(tmp_path / "rows.jsonl", n=600), "rows", "auto", StopSignal(tmp_path / "stop"))
    tokenised = tokenise(data, data.rows, tokenizer, Training(), StopSignal(tmp_path / "stop"))
    answers = [row.value["messages"][1]["content"] + "<|im_end|>" for row in data.rows]
    assert [said(tokenizer, tokenised, at) for at in range(600)] == answers


def test_a_template_that_renders_the_last_answer_otherwise_is_followed(tokenizer: Any) -> None:
    tokenizer.chat_template = THINKING_TEMPLATE
    talk = chat(("user", "one"), ("assistant", "two"), ("user", "three"), ("assistant", "four"))
    assert said(tokenizer, tokens_of(tokenizer, [talk])) == "two<|im_end|><think>\n\n</think>\n\nfour<|im_end|>"


def test_a_template_that_rewrites_what_came_before_is_refused_with_the_ways_out(tokenizer: Any) -> None:
    tokenizer.chat_template = REWRITING_TEMPLATE
    with pytest.raises(TrainerFailure, match=r"line 3: .*rewrites earlier turns.*loss_on"):
        tokens_of(tokenizer, [chat(("user", "one"), ("assistant", "two"), ("user", "three"), ("assistant", "four"))])


def test_what_a_template_says_against_a_row_reaches_the_user_with_the_line(tokenizer: Any) -> None:
    tokenizer.chat_template = REFUSING_TEMPLATE
    with pytest.raises(TrainerFailure, match=r"line 3: .*roles must alternate"):
        tokens_of(tokenizer, [chat(("user", "one"), ("assistant", "two"))])


def test_chats_need_a_chat_template(tokenizer: Any) -> None:
    tokenizer.chat_template = None
    with pytest.raises(TrainerFailure, match="no chat template"):
        tokens_of(tokenizer, [chat(("user", "one"), ("assistant", "two"))])


def test_loss_on_all_supervises_every_token(tokenizer: Any) -> None:
    tokenised = tokens_of(tokenizer, [chat(("user", "one"), ("assistant", "two"))], loss_on="all")
    assert tokenised.labels == tokenised.input_ids


def test_a_completion_carries_the_loss_and_ends_with_the_stop_token(tokenizer: Any, tmp_path: Path) -> None:
    data = read_rows(write_prompt_rows(tmp_path / "rows.jsonl", n=20), "rows", "auto", StopSignal(tmp_path / "stop"))
    tokenised = tokenise(data, data.rows, tokenizer, Training(), StopSignal(tmp_path / "stop"))
    assert [said(tokenizer, tokenised, at) for at in range(20)] == [row.value["completion"] + "<|im_end|>" for row in data.rows]


def test_a_text_carries_the_loss_whole_and_gets_one_stop_token(tokenizer: Any, tmp_path: Path) -> None:
    rows = [Row(1, {"text": "The apple falls."}), Row(2, {"text": "It ends.<|im_end|>"})]
    tokenised = tokens_of(tokenizer, rows, "text")
    assert [said(tokenizer, tokenised, at) for at in (0, 1)] == ["The apple falls.<|im_end|>", "It ends.<|im_end|>"]


def test_an_answer_whose_template_has_no_stop_token_is_reported(tokenizer: Any) -> None:
    tokenizer.chat_template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
    tokenised = tokens_of(tokenizer, [chat(("user", "one"), ("assistant", "two"))])
    assert said(tokenizer, tokenised).strip() == "two"
    assert "1 rows do not end with the tokenizer's stop token" in describe("chat", tokenised, None)


def refused(tokenizer: Any, folder: Path, positions: int | None = None, **training: Any) -> str:
    data = read_rows(write_chat_rows(folder / "rows.jsonl", n=50), "data/train.jsonl", "auto", StopSignal(folder / "stop"))
    wanted = Training(**training)
    tokenised = tokenise(data, data.rows, tokenizer, wanted, StopSignal(folder / "stop"))
    with pytest.raises(TrainerFailure) as raised:
        check_tokenised(data, tokenised, wanted, positions)
    assert raised.value.code is FailureCode.DATA_INVALID
    return str(raised.value)


def test_losing_more_supervised_tokens_than_allowed_is_refused_with_numbers_and_the_remedy(tokenizer: Any, tmp_path: Path) -> None:
    message = refused(tokenizer, tmp_path, max_length=40)
    for word in ("max_length 40 would cut", "of 50 rows", "allowed: 1.0%", "Set training.max_length to 5", "max_truncated_fraction"):
        assert word in message


def test_the_same_loss_is_accepted_where_the_manifest_allows_it_and_reported(tokenizer: Any, tmp_path: Path) -> None:
    data = read_rows(write_chat_rows(tmp_path / "rows.jsonl", n=50), "rows", "auto", StopSignal(tmp_path / "stop"))
    allowing = Training(max_length=40, max_truncated_fraction=0.9)
    tokenised = tokenise(data, data.rows, tokenizer, allowing, StopSignal(tmp_path / "stop"))
    check_tokenised(data, tokenised, allowing, None)
    assert max(len(ids) for ids in tokenised.input_ids) == 40
    assert all(len(ids) == len(labels) for ids, labels in zip(tokenised.input_ids, tokenised.labels, strict=True))
    assert f"{tokenised.rows_cut} rows cut at max_length ({tokenised.supervised_lost} supervised tokens lost)" in describe("chat", tokenised, None)


def test_a_row_left_with_nothing_to_learn_is_dropped_and_counted(tokenizer: Any) -> None:
    rows = [chat(("user", "long " * 40), ("assistant", "x")), chat(("user", "q"), ("assistant", "a"))]
    tokenised = tokens_of(tokenizer, rows, max_length=32)
    assert (tokenised.rows_dropped, len(tokenised.input_ids)) == (1, 1)


def test_every_row_losing_its_answer_is_refused_even_where_any_loss_is_allowed(tokenizer: Any, tmp_path: Path) -> None:
    assert "would cut" in refused(tokenizer, tmp_path, max_length=8, max_truncated_fraction=1.0)


def test_rows_longer_than_the_model_s_positions_are_refused(tokenizer: Any, tmp_path: Path) -> None:
    assert "the base model has 32 positions" in refused(tokenizer, tmp_path, positions=32)


def test_a_stop_request_is_honoured_while_tokenising(tokenizer: Any, tmp_path: Path) -> None:
    (tmp_path / "stop").touch()
    with pytest.raises(StopRequested, match="tokenising"):
        tokens_of(tokenizer, [chat(("user", "one"), ("assistant", "two"))], folder=tmp_path)


def test_the_held_out_rows_are_a_seeded_draw_that_shares_no_row_with_training() -> None:
    rows = [Row(line, {}) for line in range(1, 101)]
    train, held_out = split(rows, 0.05, seed=1)
    assert (len(train), len(held_out)) == (95, 5)
    assert sorted(row.line for row in train + held_out) == list(range(1, 101))
    assert split(rows, 0.05, seed=1)[1] == held_out
    assert split(rows, 0.05, seed=2)[1] != held_out


@pytest.mark.parametrize(("rows", "fraction", "held_out"), [(10, 0.0, 0), (1, 0.5, 0), (2, 0.01, 1), (3, 0.5, 2)])
def test_one_row_at_least_is_left_to_train_on_and_one_held_out_where_asked_for(rows: int, fraction: float, held_out: int) -> None:
    assert len(split([Row(n, {}) for n in range(rows)], fraction, seed=0)[1]) == held_out
