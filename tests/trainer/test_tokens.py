"""Which tokens carry loss, held by decoding them again; and what is refused because too much would be cut off."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from jobspec.manifest import Training
from jobspec.marker import FailureCode
from jobspec.runfile import RunFile
from tests.tiny_model import write_chat_rows, write_prompt_rows
from trainer.failures import TrainerFailure
from trainer.prepare import drawn_rows, load_tokenizer
from trainer.rendering import Renderer
from trainer.report import Counts, check_counts, describe, facts_of
from trainer.rows import Row, training_set
from trainer.stop import StopRequested, StopSignal
from trainer.tokens import IGNORED, encode

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
    return Row("data/train.jsonl: line 3", {"messages": [{"role": role, "content": content} for role, content in turns]})


@dataclass
class Tokenised:
    """Rows as they go to the trainer, and what was counted of them."""

    input_ids: list[list[int]]
    labels: list[list[int]]
    counts: Counts

    @property
    def report(self) -> str:
        return describe(facts_of("chat", self.counts, Counts(None)))


def tokens_of(tokenizer: Any, rows: Iterable[Row], data_format: Any = "chat", **training: Any) -> Tokenised:
    wanted, counts = Training(**training), Counts(tokenizer.eos_token_id)
    encoded = list(encode(rows, Renderer(tokenizer, data_format, False, wanted.loss_on), wanted.max_length))
    kept = [each.sequences[0] for each in encoded if counts.add(each)]
    return Tokenised([sequence.ids for sequence in kept], [sequence.labels for sequence in kept], counts)


def read(path: Path) -> list[Row]:
    run = RunFile(job_id="job-1", model_reference="x", train_file=path.name)
    return list(training_set(run, path.parent, StopSignal()).rows(StopSignal(), "reading"))


def said(tokenizer: Any, tokenised: Tokenised, row: int = 0) -> str:
    """What the row is trained to say, decoded."""
    return str(tokenizer.decode([label for label in tokenised.labels[row] if label != IGNORED]))


def test_loss_is_on_the_answer_and_its_stop_token_and_on_nothing_else(tokenizer: Any) -> None:
    tokenised = tokens_of(tokenizer, [chat(("user", "What?"), ("assistant", "The apple falls."))])
    assert said(tokenizer, tokenised) == "The apple falls.<|im_end|>"
    assert tokenizer.decode(tokenised.input_ids[0]) == "<|im_start|>user\nWhat?<|im_end|>\n<|im_start|>assistant\nThe apple falls.<|im_end|>\n"
    assert tokenised.counts.rows_without_stop == 0


def test_loss_is_on_every_answer_of_a_longer_talk_and_on_no_question(tokenizer: Any) -> None:
    talk = chat(("system", "Be brief."), ("user", "one"), ("assistant", "two"), ("user", "two"), ("assistant", "three"))
    assert said(tokenizer, tokens_of(tokenizer, [talk])) == "two<|im_end|>three<|im_end|>"


def test_an_answer_that_repeats_the_question_is_still_placed_right(tokenizer: Any) -> None:
    tokenised = tokens_of(tokenizer, [chat(("user", "echo"), ("assistant", "echo"))])
    assert said(tokenizer, tokenised) == "echo<|im_end|>"
    first = next(at for at, label in enumerate(tokenised.labels[0]) if label != IGNORED)
    assert tokenizer.decode(tokenised.input_ids[0][:first]).endswith("<|im_start|>assistant\n")


def test_every_row_of_a_whole_data_set_decodes_to_its_own_answers(tokenizer: Any, tmp_path: Path) -> None:
    rows = read(write_chat_rows(tmp_path / "rows.jsonl", n=600))
    tokenised = tokens_of(tokenizer, rows)
    answers = [row.value["messages"][1]["content"] + "<|im_end|>" for row in rows]
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
    rows = read(write_prompt_rows(tmp_path / "rows.jsonl", n=20))
    tokenised = tokens_of(tokenizer, rows, "prompt-completion")
    assert [said(tokenizer, tokenised, at) for at in range(20)] == [row.value["completion"] + "<|im_end|>" for row in rows]


@pytest.mark.parametrize("data_format", ["chat", "prompt-completion", "text"])
def test_a_row_begins_with_one_token_of_beginning_whoever_writes_it(tokenizer: Any, data_format: str) -> None:
    """As Llama 3's: the tokenizer writes it before whatever it is given, and the chat template does as well."""
    from tokenizers.processors import TemplateProcessing

    begin = tokenizer.bos_token = "<|endoftext|>"
    tokenizer._tokenizer.post_processor = TemplateProcessing(single=f"{begin} $A", special_tokens=[(begin, tokenizer.bos_token_id)])
    tokenizer.chat_template = "{{ bos_token }}" + tokenizer.chat_template
    values: dict[str, dict[str, Any]] = {
        "chat": chat(("user", "What?"), ("assistant", "That.")).value,
        "prompt-completion": {"prompt": "What?", "completion": " That."},
        "text": {"text": "That."},
    }
    found = tokens_of(tokenizer, [Row("data/train.jsonl: line 1", values[data_format])], data_format)
    assert found.input_ids[0].index(tokenizer.bos_token_id) == 0
    assert found.input_ids[0].count(tokenizer.bos_token_id) == 1


def test_a_text_carries_the_loss_whole_and_gets_one_stop_token(tokenizer: Any, tmp_path: Path) -> None:
    rows = [Row("line 1", {"text": "The apple falls."}), Row("line 2", {"text": "It ends.<|im_end|>"})]
    tokenised = tokens_of(tokenizer, rows, "text")
    assert [said(tokenizer, tokenised, at) for at in (0, 1)] == ["The apple falls.<|im_end|>", "It ends.<|im_end|>"]


def test_an_answer_whose_template_has_no_stop_token_is_reported(tokenizer: Any) -> None:
    tokenizer.chat_template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
    tokenised = tokens_of(tokenizer, [chat(("user", "one"), ("assistant", "two"))])
    assert said(tokenizer, tokenised).strip() == "two"
    assert "1 rows do not end with the tokenizer's stop token" in tokenised.report


def refused(tokenizer: Any, folder: Path, positions: int | None = None, **training: Any) -> str:
    tokenised = tokens_of(tokenizer, read(write_chat_rows(folder / "rows.jsonl", n=50)), **training)
    with pytest.raises(TrainerFailure) as raised:
        check_counts("data/train.jsonl", tokenised.counts, Training(**training), positions)
    assert raised.value.code is FailureCode.DATA_INVALID
    return str(raised.value)


def test_losing_more_supervised_tokens_than_allowed_is_refused_with_numbers_and_the_remedy(tokenizer: Any, tmp_path: Path) -> None:
    message = refused(tokenizer, tmp_path, max_length=40)
    for word in ("max_length 40 would cut", "of 50 rows", "allowed: 1.0%", "Set training.max_length to 5", "max_truncated_fraction"):
        assert word in message


def test_the_same_loss_is_accepted_where_the_manifest_allows_it_and_reported(tokenizer: Any, tmp_path: Path) -> None:
    allowing: dict[str, Any] = {"max_length": 40, "max_truncated_fraction": 0.9}
    tokenised = tokens_of(tokenizer, read(write_chat_rows(tmp_path / "rows.jsonl", n=50)), **allowing)
    check_counts("rows", tokenised.counts, Training(**allowing), None)
    assert max(len(ids) for ids in tokenised.input_ids) == 40
    assert all(len(ids) == len(labels) for ids, labels in zip(tokenised.input_ids, tokenised.labels, strict=True))
    assert f"{tokenised.counts.rows_cut} rows cut at max_length ({tokenised.counts.supervised_lost} supervised tokens lost)" in tokenised.report


def test_a_row_left_with_nothing_to_learn_is_dropped_and_counted(tokenizer: Any) -> None:
    rows = [chat(("user", "long " * 40), ("assistant", "x")), chat(("user", "q"), ("assistant", "a"))]
    tokenised = tokens_of(tokenizer, rows, max_length=32)
    assert len(tokenised.input_ids) == 1
    assert "1 dropped" in tokenised.report


def test_every_row_losing_its_answer_is_refused_even_where_any_loss_is_allowed(tokenizer: Any, tmp_path: Path) -> None:
    assert "would cut" in refused(tokenizer, tmp_path, max_length=8, max_truncated_fraction=1.0)


def test_rows_longer_than_the_model_s_positions_are_refused(tokenizer: Any, tmp_path: Path) -> None:
    assert "the base model has 32 positions" in refused(tokenizer, tmp_path, positions=32)


def test_a_stop_request_is_honoured_while_tokenising(tokenizer: Any, tmp_path: Path) -> None:
    run = RunFile(job_id="job-1", model_reference="x", train_file=write_chat_rows(tmp_path / "rows.jsonl", n=5).name)
    data = training_set(run, tmp_path, StopSignal())
    (tmp_path / "stop").touch()
    with pytest.raises(StopRequested, match="tokenising"):
        tokens_of(tokenizer, data.rows(StopSignal(tmp_path / "stop"), "tokenising"))


def test_the_held_out_rows_are_a_seeded_draw_of_the_share_asked_for() -> None:
    assert len(drawn_rows(100, 0.05, seed=1)) == 5
    assert drawn_rows(100, 0.05, seed=1) <= set(range(100))
    assert drawn_rows(100, 0.05, seed=1) == drawn_rows(100, 0.05, seed=1) != drawn_rows(100, 0.05, seed=2)


@pytest.mark.parametrize(("rows", "fraction", "held_out"), [(10, 0.0, 0), (1, 0.5, 0), (2, 0.01, 1), (3, 0.5, 2)])
def test_one_row_at_least_is_left_to_train_on_and_one_held_out_where_asked_for(rows: int, fraction: float, held_out: int) -> None:
    assert len(drawn_rows(rows, fraction, seed=0)) == held_out
