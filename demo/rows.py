"""Rows for the demonstration: short questions and answers from ``chatterbot-corpus``, as chat rows, split without overlap.

Source and licence: package chatterbot-corpus (Gunther Cox and contributors), BSD-3-Clause as its project file declares.
Only matter-of-fact categories are used, and of each conversation only the first question with its first answer.
"""

import importlib.metadata
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path

import yaml

PACKAGE = "chatterbot-corpus"
CATEGORIES = ("ai", "computers", "food", "history", "literature", "science", "tech_support", "trivia")
EVAL_ROWS = 32
MAX_ANSWER_CHARACTERS = 200
SEED = 20261124

Pair = tuple[str, str]


def write_rows(folder: Path) -> dict[str, int]:
    """Write train.jsonl, eval.jsonl and SOURCE.md to ``folder``; returns the number of rows of each file."""
    train, held_out = split(list(pairs()))
    _write(folder / "train.jsonl", train)
    _write(folder / "eval.jsonl", held_out)
    (folder / "SOURCE.md").write_text(_source(), encoding="utf-8")
    return {"train.jsonl": len(train), "eval.jsonl": len(held_out)}


def normalised(text: str) -> str:
    """The text's letters and digits in lower case: two texts that differ only in dress are one."""
    return re.sub(r"[^a-z0-9]+", " ", text.lower()).strip()


def split(rows: list[Pair], eval_rows: int = EVAL_ROWS, seed: int = SEED) -> tuple[list[Pair], list[Pair]]:
    """(train, held out). No question twice; no question and no answer of the held-out rows is in the training rows."""
    unique = list({normalised(question): (question, answer) for question, answer in reversed(rows)}.values())
    unique.sort(key=lambda pair: normalised(pair[0]))
    random.Random(seed).shuffle(unique)  # noqa: S311 - a reproducible split, not a secret
    held_out, rest = unique[:eval_rows], unique[eval_rows:]
    answers = {normalised(answer) for _, answer in held_out}
    return [pair for pair in rest if normalised(pair[1]) not in answers], held_out


def pairs() -> Iterator[Pair]:
    """Every first question with its first answer, in the files' order."""
    for category in CATEGORIES:
        path = importlib.metadata.distribution(PACKAGE).locate_file(f"chatterbot_corpus/data/english/{category}.yml")
        for turns in yaml.safe_load(Path(str(path)).read_text(encoding="utf-8"))["conversations"]:
            question, answer = (" ".join(str(turn).split()) for turn in turns[:2])
            if normalised(question) and normalised(answer) and len(answer) <= MAX_ANSWER_CHARACTERS:
                yield question, answer


def _write(path: Path, rows: list[Pair]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for question, answer in rows:
            turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
            file.write(json.dumps({"messages": turns}, ensure_ascii=False) + "\n")


def _source() -> str:
    version = importlib.metadata.version(PACKAGE)
    return (
        f"Questions and answers from {PACKAGE} {version}, by Gunther Cox and contributors, BSD-3-Clause\n"
        "(https://github.com/gunthercox/chatterbot-corpus). First question and first answer of each conversation in the\n"
        f"English categories {', '.join(CATEGORIES)}; questions made unique; {EVAL_ROWS} held out by seed {SEED}.\n"
    )
