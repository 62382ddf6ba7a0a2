"""From rows to token ids and labels: which tokens carry loss, what ``max_length`` cuts off, and a report of both.

The mask is placed on the rendered text and carried over to tokens by their character offsets, so it needs no
``{% generation %}`` tags in the chat template (SmolLM2, Llama 3.1, Qwen3 and Gemma ship without them) and holds for every
fast tokenizer. A turn's stop token is part of the turn: a model that is never shown one never learns to stop.
"""

import bisect
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from jobspec.manifest import Training
from jobspec.marker import FailureCode
from trainer.failures import TrainerFailure
from trainer.rows import DataFile, Format, Row
from trainer.stop import StopSignal

#: The label that TRL and torch leave out of the loss.
IGNORED = -100
_BATCH_ROWS = 500
_BUCKETS = (32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)

Span = tuple[int, int]


@dataclass(slots=True)
class Tokenised:
    """Rows ready for the trainer, and what was counted on the way. Lengths are in tokens, before anything was cut."""

    input_ids: list[list[int]] = field(default_factory=list)
    labels: list[list[int]] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    supervised: int = 0
    supervised_lost: int = 0
    rows_cut: int = 0
    rows_dropped: int = 0
    #: Rows whose last supervised token is not a stop token of the tokenizer, although nothing was cut.
    rows_without_stop: int = 0


def tokenise(data: DataFile, rows: list[Row], tokenizer: Any, training: Training, stop: StopSignal) -> Tokenised:
    """Token ids and labels of ``rows``. Raises TrainerFailure (data_invalid) where a template cannot render a row."""
    result = Tokenised()
    for start in range(0, len(rows), _BATCH_ROWS):
        stop.check(f"tokenising {data.name}")
        batch = rows[start : start + _BATCH_ROWS]
        rendered = [_rendered(data, row, tokenizer, training.loss_on) for row in batch]
        encoded = tokenizer([text for text, _ in rendered], add_special_tokens=data.format != "chat", return_offsets_mapping=True)
        for ids, offsets, (_, spans) in zip(encoded["input_ids"], encoded["offset_mapping"], rendered, strict=True):
            _add(result, list(ids), _mask(offsets, spans), training.max_length, tokenizer.eos_token_id)
    return result


def _add(result: Tokenised, ids: list[int], mask: list[bool], max_length: int, eos_token_id: int | None) -> None:
    kept, whole = sum(mask[:max_length]), sum(mask)
    result.lengths.append(len(ids))
    result.supervised += whole
    result.supervised_lost += whole - kept
    result.rows_cut += len(ids) > max_length
    if not kept:
        result.rows_dropped += 1
        return
    last = max(index for index, supervised in enumerate(mask) if supervised)
    result.rows_without_stop += ids[last] != eos_token_id
    result.input_ids.append(ids[:max_length])
    result.labels.append([token if supervised else IGNORED for token, supervised in zip(ids[:max_length], mask, strict=False)])


def _mask(offsets: list[Span], spans: list[Span]) -> list[bool]:
    """True for each token that overlaps a span; special tokens that a tokenizer adds have no characters and carry none."""
    starts = [start for start, _ in spans]
    mask = []
    for begin, end in offsets:
        at = bisect.bisect_left(starts, end) - 1
        mask.append(begin < end and at >= 0 and begin < spans[at][1])
    return mask


def _rendered(data: DataFile, row: Row, tokenizer: Any, loss_on: str) -> tuple[str, list[Span]]:
    if data.format == "chat":
        return _rendered_chat(data, row, tokenizer, loss_on)
    eos = tokenizer.eos_token or ""
    if data.format == "text":
        text = _ended(row.value["text"], eos)
        return text, [(0, len(text))]
    prompt, text = row.value["prompt"], _ended(row.value["prompt"] + row.value["completion"], eos)
    return text, [(0 if loss_on == "all" else len(prompt), len(text))]


def _ended(text: str, eos: str) -> str:
    return text if eos and text.endswith(eos) else text + eos


def render(tokenizer: Any, messages: list[dict[str, Any]], *, prompt: bool = False) -> str:
    """The chat template's text for ``messages``; with ``prompt``, ready for the assistant to speak."""
    turns = [{"role": message["role"], "content": message["content"]} for message in messages]
    return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=prompt))


def _rendered_chat(data: DataFile, row: Row, tokenizer: Any, loss_on: str) -> tuple[str, list[Span]]:
    if not tokenizer.chat_template:
        raise TrainerFailure(
            FailureCode.DATA_INVALID, f"{data.name} holds chats, but the base model has no chat template: use a chat model, or prompt-completion rows."
        )
    messages = row.value["messages"]
    try:
        full = render(tokenizer, messages)
        if loss_on == "all":
            return full, [(0, len(full))]
        return full, list(_assistant_spans(full, messages, tokenizer))
    except TrainerFailure as problem:
        raise TrainerFailure(problem.code, f"{data.name}: line {row.line}: {problem}") from None
    except Exception as error:  # templates raise whatever they like; the row and the template's own words help most
        message = f"{data.name}: line {row.line}: the model's chat template refuses this row: {type(error).__name__}: {error}"
        raise TrainerFailure(FailureCode.DATA_INVALID, message) from error


def _assistant_spans(full: str, messages: list[dict[str, Any]], tokenizer: Any) -> Iterator[Span]:
    """Where each assistant turn lies in ``full``: from after the generation prompt to its stop token."""
    for index, message in enumerate(messages):
        if message["role"] != "assistant":
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


def check_tokenised(data: DataFile, tokenised: Tokenised, training: Training, positions: int | None) -> None:
    """Refuse data that would train nothing, or lose more than the manifest allows. Raises TrainerFailure (data_invalid)."""
    longest = max(tokenised.lengths)
    if tokenised.supervised == 0:
        raise TrainerFailure(FailureCode.DATA_INVALID, f"{data.name}: 0 % of its tokens would carry loss; check training.loss_on and the chat template.")
    lost = tokenised.supervised_lost / tokenised.supervised
    if lost > training.max_truncated_fraction or not tokenised.input_ids:
        raise TrainerFailure(
            FailureCode.DATA_INVALID,
            f"{data.name}: max_length {training.max_length} would cut {tokenised.supervised_lost} of {tokenised.supervised} supervised tokens ({lost:.1%}) "
            f"in {tokenised.rows_cut} of {len(tokenised.lengths)} rows; allowed: {training.max_truncated_fraction:.1%}. "
            f"Set training.max_length to {longest} (the longest row), shorten the rows, or raise training.max_truncated_fraction.",
        )
    if positions is not None and min(longest, training.max_length) > positions:
        raise TrainerFailure(
            FailureCode.DATA_INVALID,
            f"{data.name}: rows of up to {min(longest, training.max_length)} tokens, but the base model has {positions} positions: "
            f"set training.max_length to {positions} or less.",
        )


def describe(data_format: Format, train: Tokenised, held_out: Tokenised | None) -> str:
    """The data report in a few sentences: rows, lengths, supervised share, what was cut."""
    tokens = sum(train.lengths)
    parts = [f"{len(train.input_ids)} rows to train on ({data_format}), {len(held_out.input_ids) if held_out else 0} held out"]
    parts.append(f"{min(train.lengths)} to {max(train.lengths)} tokens, median {int(statistics.median(train.lengths))} ({_histogram(train.lengths)})")
    parts.append(f"{train.supervised / tokens:.0%} of {tokens} tokens carry loss")
    parts.append(f"{train.rows_cut} rows cut at max_length ({train.supervised_lost} supervised tokens lost), {train.rows_dropped} dropped")
    if train.rows_without_stop:
        parts.append(f"{train.rows_without_stop} rows do not end with the tokenizer's stop token: the model may not learn to stop there")
    return "; ".join(parts)


def _histogram(lengths: list[int]) -> str:
    counts: dict[int, int] = {}
    for length in lengths:
        bucket = next((bound for bound in _BUCKETS if length <= bound), 0)
        counts[bucket] = counts.get(bucket, 0) + 1
    named = [f"{counts[bound]} up to {bound}" for bound in _BUCKETS if bound in counts]
    return ", ".join(named + ([f"{counts[0]} longer"] if 0 in counts else []))
