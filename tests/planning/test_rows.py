"""Rows and lengths from the beginning of a file: counted where all of it is seen, guessed where not, and said which."""

import gzip
import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobspec.data import Columns
from planning.rows import LOOK_BYTES, Rows, padded_length, rows_of, together
from planning.shape import CannotTell

PLAIN = Columns()


def lines(*rows: Any) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def test_a_file_that_is_seen_whole_is_counted() -> None:
    found = rows_of(body := lines({"text": "abc"}, {"text": "abcde"}) + b"\n", len(body), "x.jsonl", PLAIN)
    assert found == Rows(2, (3, 5), counted=True)


def test_a_longer_file_is_guessed_from_its_beginning_without_the_row_that_is_cut() -> None:
    rng = random.Random(1)
    body = lines(*({"text": "x" * rng.randint(10, 400)} for _ in range(20_000)))
    found = rows_of(body[:LOOK_BYTES], len(body), "x.jsonl", PLAIN)
    assert not found.counted
    assert found.number == pytest.approx(20_000, rel=0.05)
    assert all(10 <= length <= 400 for length in found.characters)


def test_a_compressed_file_is_guessed_by_its_ratio_and_counted_where_it_is_seen_whole() -> None:
    rng = random.Random(1)
    body = lines(*({"text": " ".join(rng.choice(("one", "two", "three")) for _ in range(60))} for _ in range(30_000)))
    packed = gzip.compress(body)
    assert len(packed) > LOOK_BYTES
    assert rows_of(packed[:LOOK_BYTES], len(packed), "x.jsonl.gz", PLAIN).number == pytest.approx(30_000, rel=0.05)
    small = gzip.compress(lines({"text": "abc"}, {"text": "abcde"}))
    assert rows_of(small, len(small), "x.jsonl.gz", PLAIN) == Rows(2, (3, 5), counted=True)


def test_a_bomb_is_not_unpacked() -> None:
    bomb = gzip.compress(lines({"text": "x"}) * 3_000_000)
    found = rows_of(bomb, len(bomb), "x.jsonl.gz", PLAIN)
    assert len(found.characters) <= 4000


@pytest.mark.parametrize(
    ("row", "pairs", "characters"),
    [
        ({"messages": [{"role": "user", "content": "1234"}, {"role": "assistant", "content": "56"}], "id": "not text to learn"}, False, 6),
        ({"prompt": "1234", "completion": "567", "source": "a long story"}, False, 7),
        ({"prompt": "1234", "chosen": "56", "rejected": "5678"}, True, 7),
        ({"prompt": [{"role": "user", "content": "12"}], "chosen": [{"role": "assistant", "content": "345"}], "rejected": [{"content": "3"}]}, True, 4),
        ({"body": "12345", "n": 7}, False, 5),
    ],
)
def test_the_texts_of_a_row_are_counted_and_its_other_columns_are_not(row: Any, pairs: bool, characters: int) -> None:
    body = lines(row)
    assert rows_of(body, len(body), "x.jsonl", PLAIN, pairs=pairs).characters == (characters,)


def test_columns_of_other_names_are_found_by_the_manifests_mapping() -> None:
    body = lines({"question": "12", "answer": "345", "notes": "nothing to learn"})
    columns = Columns(prompt="question", completion="answer")
    assert rows_of(body, len(body), "x.jsonl", columns).characters == (5,)


@pytest.mark.parametrize(
    ("body", "name", "said"),
    [
        (b"", "x.jsonl", "is empty"),
        (b"\n\n", "x.jsonl", "no whole row"),
        (b"x" * LOOK_BYTES, "x.jsonl", "no whole row"),
        (b"PAR1", "x.parquet", "cannot be told"),
        (b"(\xb5/\xfd", "x.jsonl.zst", "cannot be told"),
        (b"no gzip", "x.jsonl.gz", "is not gzip"),
    ],
)
def test_what_cannot_be_told_is_said(body: bytes, name: str, said: str) -> None:
    with pytest.raises(CannotTell, match=said):
        rows_of(body, 10**9 if body == b"x" * LOOK_BYTES else len(body), name, PLAIN)


@given(st.binary(max_size=400), st.integers(0, 10**12), st.sampled_from(["x.jsonl", "x.jsonl.gz"]), st.booleans())
def test_no_beginning_of_a_file_does_worse_than_not_to_be_told(head: bytes, more: int, name: str, pairs: bool) -> None:
    try:
        found = rows_of(head, len(head) + more, name, PLAIN, pairs=pairs)
    except CannotTell:
        return
    assert found.number > 0
    assert found.characters


def test_sources_count_by_their_rows_and_their_weights() -> None:
    found = together([(Rows(100, (10,), True), 3.0), (Rows(300, (40,), True), 1.0)])
    assert found.number == 600
    assert found.counted
    assert found.characters.count(10) == pytest.approx(len(found.characters) / 2, rel=0.01)


@given(st.lists(st.floats(1, 1e5), min_size=1, max_size=50).map(sorted), st.integers(1, 64))
def test_padding_lies_between_the_mean_and_the_longest_and_grows_with_the_batch(lengths: list[float], count: int) -> None:
    mean = sum(lengths) / len(lengths)
    found = padded_length(lengths, count)
    assert mean * (1 - 1e-9) <= found <= lengths[-1] * (1 + 1e-9)
    assert found <= padded_length(lengths, count + 1) * (1 + 1e-9)


def test_padding_is_what_drawing_rows_gives() -> None:
    rng = random.Random(7)
    lengths = sorted(rng.uniform(10, 500) for _ in range(200))
    drawn = [max(rng.choices(lengths, k=4)) for _ in range(40_000)]
    assert padded_length(lengths, 4) == pytest.approx(sum(drawn) / len(drawn), rel=0.02)
