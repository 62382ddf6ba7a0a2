"""The packaged reward functions: what each gives for what, and what is refused before any answer is drawn."""

from typing import Any

import pytest

from jobspec.marker import FailureCode
from jobspec.methods import RewardRule
from trainer import rewards
from trainer.failures import TrainerFailure
from trainer.rewards import reward_functions


def scores(rule: dict[str, Any], completions: list[Any], **row: list[Any]) -> list[float]:
    """What the one reward of ``rule`` gives, called as TRL calls it."""
    (function,) = reward_functions((RewardRule.model_validate(rule),), set(row))
    return function(completions=completions, prompts=["p"] * len(completions), completion_ids=[[1]] * len(completions), trainer_state=None, **row)


CASES: list[tuple[dict[str, Any], str, Any, float]] = [
    ({"name": "exact_match"}, " Paris \n", "Paris", 1),
    ({"name": "exact_match"}, "Paris.", "Paris", 0),
    ({"name": "contains"}, "It is Paris.", "Paris", 1),
    ({"name": "contains"}, "It is paris.", "Paris", 0),
    ({"name": "contains"}, "anything", " ", 0),
    ({"name": "numeric_match"}, "3 + 4 = 7, so 1,007", "#### 1007", 1),
    ({"name": "numeric_match"}, "the answer is 7.50", 7.5, 1),
    ({"name": "numeric_match"}, "7, or was it 8", 7, 0),
    ({"name": "numeric_match"}, "none", "none", 0),
    ({"name": "regex", "pattern": r"^\d{4}$"}, "2026", None, 1),
    ({"name": "regex", "pattern": r"^\d{4}$"}, "in 2026", None, 0),
    ({"name": "json_valid"}, ' {"a": [1]} ', None, 1),
    ({"name": "json_valid"}, '```json\n{"a": 1}\n```', None, 0),
    ({"name": "json_valid"}, "[" * 100_000, None, 0),
    ({"name": "think_format"}, "<think>\nhm\n</think>\nyes", None, 1),
    ({"name": "think_format"}, "<think>hm</think>", None, 0),
    ({"name": "think_format"}, "<think>a<think>b</think>c", None, 0),
    ({"name": "length", "max_characters": 10}, "x" * 10, None, 1),
    ({"name": "length", "max_characters": 10}, "x" * 15, None, 0.5),
    ({"name": "length", "max_characters": 10}, "x" * 500, None, 0),
]


@pytest.mark.parametrize(("rule", "said", "reference", "expected"), CASES)
def test_a_reward_gives_what_its_description_says(rule: dict[str, Any], said: str, reference: Any, expected: float) -> None:
    row = {"answer": [reference]} if reference is not None else {}
    assert scores(rule, [said], **row) == [expected]
    assert scores(rule, [[{"role": "assistant", "content": said}]], **row) == [expected]


def test_each_completion_is_judged_by_its_own_row() -> None:
    assert scores({"name": "exact_match", "column": "city"}, ["Rome", "Rome"], city=["Rome", "Paris"]) == [1, 0]


def test_two_rewards_of_one_name_have_names_of_their_own_in_the_metrics() -> None:
    rules = tuple(RewardRule(name="length", max_characters=most) for most in (5, 50))
    assert [function.__name__ for function in reward_functions(rules, set())] == ["0_length", "1_length"]


def refused(rule: dict[str, Any], completions: list[Any], **row: list[Any]) -> str:
    with pytest.raises(TrainerFailure) as raised:
        scores(rule, completions, **row)
    assert raised.value.code is FailureCode.DATA_INVALID
    return str(raised.value)


def test_a_column_that_the_rows_do_not_have_is_refused_with_those_they_have() -> None:
    message = refused({"name": "contains"}, ["x"], solution=["x"], level=[1])
    assert "grpo.rewards[0] (contains) reads the column 'answer'" in message
    assert "level, solution" in message


def test_a_pattern_that_is_none_is_refused() -> None:
    assert "grpo.rewards[0].pattern '(' is no regular expression" in refused({"name": "regex", "pattern": "("}, ["x"])


def test_a_pattern_that_runs_away_ends_the_run_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rewards, "REGEX_LIMIT_S", 0.2)
    message = refused({"name": "regex", "pattern": "^(a|aa)+$"}, ["a" * 60 + "b"])
    assert "without nested repetition" in message
