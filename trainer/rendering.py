"""From rows to the texts that are tokenised, and the spans of each text that carry loss.

The mask is placed on the rendered text, so it needs no ``{% generation %}`` tags in the chat template (SmolLM2, Llama 3.1,
Qwen3 and Gemma ship without them). A turn's stop token is part of the turn: a model that is never shown one never learns to stop.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from jobspec.data import Format
from jobspec.formats import with_prompt
from jobspec.marker import FailureCode
from trainer.failures import TrainerFailure
from trainer.rows import Row

Span = tuple[int, int]
Rendered = tuple[str, list[Span]]
Messages = list[dict[str, Any]]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Renderer:
    """Renders rows of one data set. ``loss_on``: assistant (turns and completions) or all."""

    tokenizer: Any
    format: Format
    spoken: bool
    loss_on: str = "assistant"

    @property
    def special_tokens(self) -> bool:
        """Whether the tokenizer adds its own: a chat template has written them already."""
        return self.format != "chat" and not self.spoken

    def texts(self, row: Row) -> list[Rendered]:
        """The row's text, or both texts of a preference row. Raises TrainerFailure (data_invalid) where a template cannot render it."""
        value = row.value
        if self.format == "text":
            text = self._ended(value["text"])
            return [(text, [(0, len(text))])]
        if self.format == "chat":
            return [self._chat(row, value["messages"], 0)]
        if self.format == "prompt":
            return [(self._prompt(row, value["prompt"]), [])]
        if self.format == "preference":
            pair = with_prompt(value)
            return [self._answered(row, pair["prompt"], pair["chosen"]), self._answered(row, pair["prompt"], pair["rejected"])]
        return [self._answered(row, value["prompt"], value["completion"])]

    def probe(self, row: Row) -> tuple[str, str]:
        """What to show of a row as its question, and the text to let the model go on from."""
        if self.format == "text":
            start = " ".join(str(row.value["text"]).split(" ")[:8])
            return start, start
        if self.format == "chat":
            messages = row.value["messages"]
            prompt: Any = messages[: next(at for at, message in enumerate(messages) if message["role"] == "assistant")]
        else:
            prompt = with_prompt(row.value)["prompt"] if self.format == "preference" else row.value["prompt"]
        return str(prompt if isinstance(prompt, str) else prompt[-1]["content"]), self._prompt(row, prompt)

    def _prompt(self, row: Row, prompt: Any) -> str:
        return prompt if isinstance(prompt, str) else self._templated(row, lambda: render(self.tokenizer, prompt, prompt=True))

    def _answered(self, row: Row, prompt: Any, completion: Any) -> Rendered:
        if self.spoken:
            return self._chat(row, prompt + completion, len(prompt))
        text = self._ended(prompt + completion)
        return text, [(0 if self.loss_on == "all" else len(prompt), len(text))]

    def _ended(self, text: str) -> str:
        eos = self.tokenizer.eos_token or ""
        return text if eos and text.endswith(eos) else text + eos

    def _chat(self, row: Row, messages: Messages, first: int) -> Rendered:
        """The whole talk; loss on assistant turns from message ``first`` on."""

        def rendered() -> Rendered:
            full = render(self.tokenizer, messages)
            if self.loss_on == "all":
                return full, [(0, len(full))]
            return full, list(_assistant_spans(full, messages, first, self.tokenizer))

        return self._templated(row, rendered)

    def _templated(self, row: Row, work: Callable[[], T]) -> T:
        if not self.tokenizer.chat_template:
            raise TrainerFailure(
                FailureCode.DATA_INVALID, f"{row.where}: holds a chat, but the base model has no chat template: use a chat model, or rows of plain texts."
            )
        try:
            return work()
        except TrainerFailure as problem:
            raise TrainerFailure(problem.code, f"{row.where}: {problem}") from None
        except Exception as error:  # templates raise whatever they like; the row and the template's own words help most
            message = f"{row.where}: the model's chat template refuses this row: {type(error).__name__}: {error}"
            raise TrainerFailure(FailureCode.DATA_INVALID, message) from error


def render(tokenizer: Any, messages: Messages, *, prompt: bool = False) -> str:
    """The chat template's text for ``messages``; with ``prompt``, ready for the assistant to speak."""
    turns = [{"role": message["role"], "content": message["content"]} for message in messages]
    return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=prompt))


def _assistant_spans(full: str, messages: Messages, first: int, tokenizer: Any) -> Iterator[Span]:
    """Where each assistant turn lies in ``full``: from after the generation prompt to its stop token."""
    for index, message in enumerate(messages):
        if message["role"] != "assistant" or index < first:
            continue
        before = render(tokenizer, messages[:index], prompt=True)
        if not full.startswith(before):
            before = render(tokenizer, messages[:index])
        turn = _turn_text(full, before, render(tokenizer, messages[: index + 1]), message["content"])
        if turn is None:
            raise TrainerFailure(
                FailureCode.DATA_INVALID,
                f"the model's chat template rewrites earlier turns, so the loss cannot be placed on assistant turn {index + 1}: "
                "set training.loss_on to all, or give each answer a row of its own.",
            )
        # White space after the stop token belongs to the template, not to what the model should say.
        if turn.rstrip():
            yield len(before), len(before) + len(turn.rstrip())


def _turn_text(full: str, before: str, through: str, content: str) -> str | None:
    """The turn as it stands in ``full``; a template may render a last turn otherwise than the same turn in the middle."""
    if not full.startswith(before):
        return None
    if through.startswith(before) and full.startswith(through):
        return through[len(before) :]
    said = content.strip()
    tail = through[through.rindex(said) + len(said) :] if said and said in through else ""
    return said + tail if said and full.startswith(before + said + tail) else None
