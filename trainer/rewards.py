"""The packaged reward functions of GRPO. A manifest names them; it never brings code.

Each looks at one completion (its text) and, where it compares, at the row's reference, and gives 0 to 1.
"""

import json
import re
from collections.abc import Callable
from typing import Any

import regex  # type: ignore[import-untyped]  # ships no types

from jobspec.marker import FailureCode
from jobspec.methods import RewardRule
from trainer.failures import TrainerFailure

DEFAULT_COLUMN = "answer"
DEFAULT_CHARACTERS = 1000
#: A pattern that takes longer on one completion runs away (nested repetition); the run ends with its name, not in silence.
REGEX_LIMIT_S = 2.0
_NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?")
_THINK = re.compile(r"\s*<think>(?:(?!<think>).)*?</think>\s*\S.*", re.DOTALL)

Score = Callable[[str, Any], float]


def exact_match(text: str, reference: Any) -> float:
    """1 where the completion is the reference, white space at its ends aside."""
    return float(text.strip() == str(reference).strip())


def contains(text: str, reference: Any) -> float:
    """1 where the reference, not blank, stands somewhere in the completion."""
    wanted = str(reference).strip()
    return float(bool(wanted) and wanted in text)


def numeric_match(text: str, reference: Any) -> float:
    """1 where the completion's last number equals the reference's last one; thousands commas are left out (as GSM8K is scored)."""
    said, wanted = _last_number(text), _last_number(str(reference))
    return float(said is not None and said == wanted)


def json_valid(text: str, _reference: Any = None) -> float:
    """1 where the completion is one JSON value."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return 0.0
    return 1.0


def think_format(text: str, _reference: Any = None) -> float:
    """1 where the completion is <think>...</think> and then an answer."""
    return float(_THINK.fullmatch(text) is not None)


def length(text: str, most: int) -> float:
    """1 up to ``most`` characters, then less, 0 from twice as many on."""
    return min(1.0, max(0.0, 2.0 - len(text) / most))


def found(text: str, pattern: Any) -> float:
    """1 where the compiled ``pattern`` is found. Raises TrainerFailure (data_invalid) for a pattern that runs away."""
    try:
        return float(pattern.search(text, timeout=REGEX_LIMIT_S) is not None)
    except TimeoutError:
        message = f"grpo.rewards: the pattern {pattern.pattern!r} took more than {REGEX_LIMIT_S:.0f} s on one completion; write it without nested repetition"
        raise TrainerFailure(FailureCode.DATA_INVALID, message) from None


_COMPARING: dict[str, Score] = {"exact_match": exact_match, "contains": contains, "numeric_match": numeric_match}
_LOOKING: dict[str, Score] = {"json_valid": json_valid, "think_format": think_format}


def reward_functions(rules: tuple[RewardRule, ...], columns: set[str]) -> list[Callable[..., list[float]]]:
    """What TRL's GRPOTrainer calls, one for each rule. ``columns`` are the rows'.

    Raises TrainerFailure (data_invalid) for a column that the rows do not have and for a pattern that is none.
    """
    return [_named(rule, at, _scorer(rule, at, columns)) for at, rule in enumerate(rules)]


def _scorer(rule: RewardRule, at: int, columns: set[str]) -> Callable[..., list[float]]:
    if rule.name in _COMPARING:
        column, compare = rule.column or DEFAULT_COLUMN, _COMPARING[rule.name]
        if column not in columns:
            has = ", ".join(sorted(columns)) or "none"
            message = f"grpo.rewards[{at}] ({rule.name}) reads the column {column!r} of each row, but the rows have {has}; give the reward's `column`"
            raise TrainerFailure(FailureCode.DATA_INVALID, message)
        return lambda texts, row: [compare(text, reference) for text, reference in zip(texts, row[column], strict=True)]
    if rule.name == "regex":
        pattern = _compiled(rule.pattern or "", at)
        return lambda texts, _row: [found(text, pattern) for text in texts]
    if rule.name == "length":
        most = rule.max_characters or DEFAULT_CHARACTERS
        return lambda texts, _row: [length(text, most) for text in texts]
    look = _LOOKING[rule.name]
    return lambda texts, _row: [look(text, None) for text in texts]


def _named(rule: RewardRule, at: int, score: Callable[..., list[float]]) -> Callable[..., list[float]]:
    def reward(completions: list[Any], **row: Any) -> list[float]:
        return score([text_of(completion) for completion in completions], row)

    reward.__name__ = f"{at}_{rule.name}"  # TRL calls its metrics rewards/NAME/mean; two rules may have one name
    return reward


def text_of(completion: Any) -> str:
    """The text of a completion: TRL gives a text for a plain prompt, and a list of messages for a conversation."""
    return completion if isinstance(completion, str) else "".join(str(message.get("content") or "") for message in completion)


def _compiled(pattern: str, at: int) -> Any:
    try:
        return regex.compile(pattern)
    except regex.error as error:
        raise TrainerFailure(FailureCode.DATA_INVALID, f"grpo.rewards[{at}].pattern {pattern!r} is no regular expression: {error}") from None


def _last_number(text: str) -> float | None:
    numbers = _NUMBER.findall(text)
    return float(numbers[-1].replace(",", "")) if numbers else None
