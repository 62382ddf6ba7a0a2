"""Texts that are no manifest, or that would do harm: refused with a sentence, under both of PyYAML's parsers."""

import pytest
import yaml

from jobspec import tree
from jobspec.reading import MAX_MANIFEST_BYTES, Refusal, read_manifest
from tests.jobspec.manifests import GOOD, accepted, only_problem, refused

LAUGHS = "a: &a [lol, lol]\n" + "".join(f"{chr(b)}: &{chr(b)} [*{chr(b - 1)}, *{chr(b - 1)}, *{chr(b - 1)}]\n" for b in range(ord("b"), ord("k")))


@pytest.fixture(params=["libyaml", "pure Python"], autouse=True)
def _parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "LOADER", yaml.CSafeLoader if request.param == "libyaml" else yaml.SafeLoader)


@pytest.mark.parametrize(
    ("body", "message", "line"),
    [
        (b"", "is empty", None),
        (b"# only\n# comments\n", "is empty", None),
        (b"---\n...\n", "is empty", None),
        (b"x" * (MAX_MANIFEST_BYTES + 1), "is larger than 64 KiB", None),
        (GOOD.encode("utf-16"), "is UTF-16 text", None),
        (GOOD.encode("utf-16-le"), "holds a NUL byte: it is binary, or UTF-16 text", 1),
        (b"\x7fELF\x02\x01\x01\0\0", "holds a NUL byte: it is binary, or UTF-16 text", 1),
        (b"name: a\nmodel: \0", "holds a NUL byte: it is binary, or UTF-16 text", 2),
        (b"name: a\xe9\n", "is not UTF-8 text: byte 0xE9 fits nowhere", 1),
        (b"a: 1\nb: \xed\xa0\x80\n", "is not UTF-8 text: byte 0xED fits nowhere", 2),
        (b"name: \x1b[31m\n", "holds the hidden character U+001B ESCAPE", 1),
        ("# safe\u2028name: b\n".encode(), "holds the hidden character U+2028 LINE SEPARATOR", 1),
        ("a: 1\n# \u202e gnp.exe\n".encode(), "holds the hidden character U+202E RIGHT-TO-LEFT OVERRIDE", 2),
        (b"[" * 5000, "is nested more than 16 deep", 1),
        (b"{a: " * 5000, "is nested more than 16 deep", 1),
        (b"- " * 5000, "is nested more than 16 deep", 1),
        (b"[" + b"1," * 30000 + b"]", "holds more than 2000 values", 1),
        (b"- 1\n" * 3000, "holds more than 2000 values", 2000),
        (b"[1, 2]", "is a list", 1),
        (b"hello", "is a single value", 1),
        (b"null", "is empty", None),
        (GOOD.encode() + b"---\nname: b\n", "holds a second document", 8),
        (b"? [a, b]\n: 1\n", "has a list or a mapping as a key", 1),
    ],
    ids=lambda value: repr(value)[:40] if isinstance(value, bytes) else None,
)
def test_a_text_that_cannot_be_a_manifest_is_refused_with_one_sentence(body: bytes, message: str, line: int | None) -> None:
    problem = only_problem(body)
    assert (problem.path, problem.message, problem.line) == (problem.path, message, line)
    assert problem.allowed


@pytest.mark.parametrize(
    "body",
    [
        b"name: [",
        b"name: 'a",
        b'name: "a',
        b"a: b: c",
        b"a:\n  b: 1\n c: 2",
        b"\tname: a",
        b"%YAML 9.9",
        b"a: *",
        b"!<",
        b"@a: 1",
        b'"\\UFFFFFFFF": 1',
        b'{"a" 1}',
        b"}",
    ],
)
def test_broken_yaml_is_refused_with_its_line_and_advice(body: bytes) -> None:
    problem = refused(body)[-1]
    assert problem.message.startswith(("is not valid here: ", "holds an escape that is no character", "begins with a % directive"))
    assert problem.allowed


def test_a_billion_laughs_are_refused_at_their_anchors_and_never_expanded() -> None:
    problems = refused(LAUGHS)
    assert {"has an anchor (`&name`)", "is an alias (`*name`)"} <= {p.message for p in problems}


@pytest.mark.parametrize(
    ("text", "path", "message", "line"),
    [
        ("a: &x {b: *x}", "a", "has an anchor (`&name`)", 1),
        ("a: *x", "a", "is an alias (`*name`)", 1),
        ("name: !!python/object/apply:os.system [id]", "name", "has a tag (`!name`)", 1),
        ("name: !!str 3.10", "name", "has a tag (`!name`)", 1),
        ("name: ! a", "name", "has a tag (`!name`)", 1),
        ("training: {<<: {seed: 1}}", "training.<<", "is a merge key", 1),
        ("name: a\nmodel: 1\nname: b", "name", "is given twice; first on line 1", 3),
        ('{"name": "a",\n "data": {"train": "x",\n  "train": "y"}}', "data.train", "is given twice; first on line 2", 3),
        ('name: a\n"name": b', "name", "is given twice; first on line 1", 2),
        ("%TAG ! tag:x,2000:\n---\nname: a", "", "begins with a % directive", 1),
    ],
)
def test_what_a_manifest_must_not_use_is_named_with_its_place(text: str, path: str, message: str, line: int) -> None:
    assert (path, message, line) in {(p.path, p.message, p.line) for p in refused(text)}


@pytest.mark.parametrize(
    "text",
    [
        GOOD + "name: a-job\n",
        GOOD.replace("a-job", "&a a-job"),
        GOOD.replace("a-job", "!!str a-job"),
        "%YAML 1.2\n---\n" + GOOD,
        GOOD + "---\n" + GOOD,
        GOOD.replace("s3: models/base", "s3: models/base\n  revision: *none"),
        GOOD + "training: {max_steps: 1e99}\n",
    ],
)
def test_a_manifest_that_is_right_but_for_one_forbidden_thing_is_refused_for_that_alone(text: str) -> None:
    assert only_problem(text).allowed


@pytest.mark.parametrize(
    ("name", "character"),
    [
        ("j\u043eb", "U+043E CYRILLIC SMALL LETTER O"),
        ("a\u200bb", "U+200B ZERO WIDTH SPACE"),
        ("café", "U+00E9 LATIN SMALL LETTER E WITH ACUTE"),
        ('"a\\u202eb"', "U+202E RIGHT-TO-LEFT OVERRIDE"),
        ('"a\\0b"', "U+0000 NUL"),
        ("|\n  a\n  b", "U+000A LINE FEED"),
    ],
)
def test_a_character_that_only_looks_right_is_named_by_its_code_point(name: str, character: str) -> None:
    problem = only_problem(GOOD.replace("a-job", name))
    assert (problem.path, problem.message) == ("name", f"holds {character}")
    assert problem.found.isascii()
    assert problem.found.isprintable()


def test_a_key_with_a_foreign_letter_is_told_by_its_code_point_and_by_the_key_it_looks_like() -> None:
    [problem] = refused(GOOD + "tr\u0430ining: {seed: 1}\n")
    assert (problem.path, problem.message) == ("tr\\u0430ining", "holds U+0430 CYRILLIC SMALL LETTER A in a key")


@pytest.mark.parametrize(
    "place",
    ["../x", "a/../b", "/etc/passwd", "a//b", "a b", "$(id)", "a;id", "`id`", "a|b", "a&b", "~/x", "s3://B/x", "file:///x", ".hidden", "-", "a\\b", "a'b"],
)
def test_no_location_leaves_its_bucket_or_speaks_to_a_shell(place: str) -> None:
    quoted = "'" + place.replace("'", "''") + "'"
    text = GOOD.replace("data/train.jsonl", quoted)
    if place == "-":
        assert accepted(text).data.train == "-"
    else:
        assert only_problem(text).path == "data.train"


@pytest.mark.parametrize("name", ["A", "-a", "a-", "a_b", "a.b", "a/b", "a" * 49, "''", "a;b", "$x", "'a b'"])
def test_a_name_outside_its_alphabet_is_refused(name: str) -> None:
    problem = only_problem(GOOD.replace("a-job", name))
    assert problem.path == "name"
    assert "lower-case letters, digits and hyphens" in problem.allowed


def test_a_byte_order_mark_windows_line_ends_and_comments_in_any_script_are_welcome() -> None:
    text = "# Aufgabe für спот 🙂\n" + GOOD
    assert accepted(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode()) == accepted(GOOD)


def test_json_is_read_like_yaml_tabs_and_escapes_included() -> None:
    text = '{\n\t"name":"a-job",\n\t"model":{"s3":"models\\/base"},"data":{"train":"data\\u002ftrain.jsonl"},\n\t"compute":{"instance_types":["g5.xlarge"]}}'
    assert accepted(text) == accepted(GOOD)


def test_a_refusal_keeps_the_name_where_the_text_says_a_valid_one() -> None:
    named, unnamed = read_manifest(b"name: my-job\nx: 1"), read_manifest(b"name: My Job\nx: 1")
    assert isinstance(named, Refusal)
    assert isinstance(unnamed, Refusal)
    assert (named.name, unnamed.name) == ("my-job", None)


def test_a_flood_of_mistakes_is_listed_in_part_and_counted_in_whole() -> None:
    problems = refused("".join(f"k{n}: 1\n" for n in range(500)))
    assert len(problems) == 40
    assert problems[-1].message == f"has {500 + 4 - 39} more problems; they are not listed"
    assert sum(len(p.model_dump_json()) for p in problems) < 64_000
