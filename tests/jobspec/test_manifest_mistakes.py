"""Mistakes that people make in a manifest: each is told by its path, its line, what was found and what to write instead."""

import re

import pytest

from jobspec.allowed import PATTERN_WORDS, manifest_schema
from jobspec.problems import render_problems
from jobspec.sweep import SWEEPABLE
from tests.jobspec.manifests import GOOD, accepted, only_problem, refused

#: (text after the good manifest, path, message, found, part of what is allowed); the mistake is on line 8.
MISTAKES = [
    ("trainning: {}", "trainning", "is not a key; did you mean `training`?", "trainning", "training, evaluation, compute"),
    ("training: {learning_rat: 1e-4}", "training.learning_rat", "is not a key; did you mean `learning_rate`?", "learning_rat", "learning_rate"),
    ("training: {max-steps: 3}", "training.max-steps", "is not a key; did you mean `max_steps`?", "max-steps", "max_steps"),
    ("zzz: 1", "zzz", "is not a key here", "zzz", "name, model"),
    ("version: 2", "version", "is not one of the choices", "2", "1"),
    ('version: "1"', "version", "is text where a whole number is wanted", "1", "write it without quotes"),
    ("version: true", "version", "is true where a whole number is wanted", "true", "1"),
    ('training: {epochs: "3"}', "training.epochs", "is text where a number is wanted", "3", "write it without quotes"),
    ("training: {epochs: three}", "training.epochs", "is text where a number is wanted", "three", "a number above 0, 1000 at most"),
    ("training: {epochs: 0}", "training.epochs", "is out of range", "0", "a number above 0"),
    ("training: {epochs: .nan}", "training.epochs", "is text where a number is wanted", ".nan", "a number"),
    ("training: {epochs: NaN}", "training.epochs", "is text where a number is wanted", "NaN", "a number"),
    ("training: {epochs: -.inf}", "training.epochs", "is text where a number is wanted", "-.inf", "a number"),
    ("training: {epochs: 1e999}", "training.epochs", "is a number out of range", "1e999", "63 bits"),
    ("training: {seed: 9223372036854775808}", "training.seed", "is a number out of range", "9223372036854775808", "63 bits"),
    ("training: {seed: 9223372036854775807}", "training.seed", "is out of range", "9223372036854775807", "2147483647"),
    ("training: {max_steps: 1.5}", "training.max_steps", "is a number where a whole number is wanted", "1.5", "a whole number from 1"),
    ("training: {max_steps: 1_000}", "training.max_steps", "is text where a whole number is wanted", "1_000", "a whole number"),
    ("training: {gradient_checkpointing: yes}", "training.gradient_checkpointing", "is text where true or false is wanted", "yes", "true or false"),
    ("training: {gradient_checkpointing: 1}", "training.gradient_checkpointing", "is a whole number where true or false is wanted", "1", "true or false"),
    ("training: {gradient_checkpointing: 'true'}", "training.gradient_checkpointing", "is text where true or false is wanted", "true", "without quotes"),
    ("training: {scheduler: Cosine}", "training.scheduler", "is not one of the choices; did you mean `cosine`?", "Cosine", "linear"),
    ("training: {scheduler: no}", "training.scheduler", "is not one of the choices", "no", "cosine"),
    ("training: {micro_batch_size: 3}", "training", "global_batch_size (16) is not a multiple of micro_batch_size (3)", "the keys micro_batch_size", ""),
    ("training:", "training", "has no value", "", "or leave the key out"),
    ("training: [1]", "training", "is a list where a section is wanted", "[1]", "the keys epochs"),
    ("adapter: {type: q-lora}", "adapter.type", "is not one of the choices; did you mean `qlora`?", "q-lora", "lora, qlora, full"),
    ("adapter: {target_modules: [q_proj, 3.10]}", "adapter.target_modules[1]", "is a number where text is wanted", "3.10", 'put it in quotes: "3.10"'),
    ("adapter: {target_modules: some}", "adapter.target_modules", "is not one of the choices", "some", "all-linear, or a list"),
    ("limits: {max_runtime: 3600}", "limits.max_runtime", "is a duration without a unit", "3600", "3600 seconds are `3600s`"),
    ("limits: {max_runtime: -5h}", "limits.max_runtime", "is not a duration", "-5h", "90s, 15m, 4h"),
    ("limits: {max_runtime: -5}", "limits.max_runtime", "is a duration without a unit", "-5", "90s, 15m, 4h"),
    ("limits: {max_runtime: 12:30:00}", "limits.max_runtime", "is not a duration", "12:30:00", "1h30m"),
    ("limits: {max_runtime: 0s}", "limits.max_runtime", "is out of range", "0s", "from 1s to 90d"),
    ("limits: {max_runtime: 91d}", "limits.max_runtime", "is out of range", "91d", "from 1s to 90d"),
    ("limits: {max_runtime: [1h]}", "limits.max_runtime", "is not a duration", '["1h"]', "4h"),
    ("limits: {budget_usd: -1}", "limits.budget_usd", "is out of range", "-1", "a number above 0"),
    ("limits: {budget_usd: $5}", "limits.budget_usd", "is text where a number is wanted", "$5", "a number above 0"),
    ("limits: {deadline: 2026-12-24T18:00:00}", "limits.deadline", "is a time without a zone", "2026-12-24T18:00:00", "with its zone"),
    ("limits: {deadline: tomorrow}", "limits.deadline", "has the wrong form", "tomorrow", "with its zone"),
    ("limits: {deadline: 1790000000}", "limits.deadline", "is a whole number where text is wanted", "1790000000", "with its zone"),
    ("limits: {deadline: '1790000000'}", "limits.deadline", "has the wrong form", "1790000000", "with its zone"),
    ("limits: {deadline: 9999-12-31T23:59:59-12:00}", "limits.deadline", "has the wrong form", "9999-12-31T23:59:59-12:00", "with its zone"),
    ("notify: {on: [accepted, bugdet]}", "notify.on[1]", "is not one of the choices; did you mean `budget`?", "bugdet", "accepted"),
    ("notify: {on: budget}", "notify.on", "is text where a list is wanted", "budget", "a list"),
    ("after: a-job", "after", "names this very job", "a-job", ""),
    ("after: 3", "after", "is a whole number where a section or text is wanted", "3", "the keys job, use, max_wait"),
    ("after: First", "after", "has the wrong form", "First", "lower-case letters"),
    ("after: {job: first, use: adaptor}", "after.use", "is not one of the choices; did you mean `adapter`?", "adaptor", "nothing"),
    ("after: {jobb: first}", "after.jobb", "is not a key; did you mean `job`?", "jobb", "max_wait"),
    ("after: {job: first, max_wait: 3}", "after.max_wait", "is a duration without a unit", "3", "3 seconds are `3s`"),
    ("sweep: {}", "sweep", "give either `grid` or `cases`", "an empty section", ""),
    ("sweep: {grid: {training.learning_rat: [1]}}", "sweep.grid.training.learning_rat", "cannot be swept; did you mean `training.learning_rate`?", "[1]", ""),
    ("sweep: {grid: {data.train: [a, b]}}", "sweep.grid.data.train", "cannot be swept; what can: " + ", ".join(SWEEPABLE), '["a", "b"]', ""),
    ("sweep: {grid: {training.seed: 3}}", "sweep.grid.training.seed", "is a whole number where a list is wanted", "3", "a list of 1 to 64"),
    ("sweep: {grid: {adapter.r: [4, 4]}}", "sweep.grid", "has a choice twice: r 4", "the keys adapter.r", ""),
    ("sweep: {cases: [{adapter.r: 4}, {}]}", "sweep.cases", "has a case without a value", '[{"adapter.r": 4}, {}]', ""),
    ("sweep: {grid: {adapter.r: [0]}}", "sweep", "makes a-job-001 (r 0): adapter.r is out of range", "0", "a whole number from 1 to 512"),
    ("sweep: {grid: {adapter.r: [4]}, concurrency: 17}", "sweep.concurrency", "is out of range", "17", "from 1 to 16"),
    ("schedule: {cron: '*/30 * * * *'}", "schedule.cron", "puts jobs 30 minutes apart; an hour is the least", "*/30 * * * *", ""),
    ("schedule: {cron: '0 25 * * *'}", "schedule.cron", "is no cron expression: Bad hour", "0 25 * * *", ""),
    ("schedule: {cron: '0 3 * *'}", "schedule.cron", "has the wrong form", "0 3 * *", "five fields"),
    (
        "schedule: {cron: '0 3 * * *', timezone: Berlin}",
        "schedule.timezone",
        "is no zone of the time zone database, such as Europe/Berlin or America/New_York",
        "Berlin",
        "",
    ),
    ("schedule: {cron: '0 3 * * *', until: 5}", "schedule.until", "is a whole number where text is wanted", "5", "with its zone"),
    ("checkpoint: {keep: 1}", "checkpoint.keep", "is out of range", "1", "a whole number from 2 to 20"),
]


@pytest.mark.parametrize(("text", "path", "message", "found", "allowed"), MISTAKES, ids=[mistake[0][:50] for mistake in MISTAKES])
def test_a_mistake_is_told_with_path_line_finding_and_remedy(text: str, path: str, message: str, found: str, allowed: str) -> None:
    problem = only_problem(GOOD + text + "\n")
    assert (problem.path, problem.message, problem.found, problem.line) == (path, message, found, 8)
    assert allowed in problem.allowed


@pytest.mark.parametrize(
    ("old", "new", "path", "message"),
    [
        ("name: a-job", "name: 3.10", "name", "is a number where text is wanted"),
        ("name: a-job", "name: true", "name", "is true where text is wanted"),
        ("name: a-job", "name: 2026", "name", "is a whole number where text is wanted"),
        ("name: a-job", "name:", "name", "has no value"),
        ("name: a-job", "name: [a]", "name", "is a list where text is wanted"),
        ("s3: models/base", "hub: org/model", "model", "`hub` needs `revision`, the 40-digit commit of the model; `s3` takes none"),
        ("s3: models/base", "hub: org/model\n  revision: main", "model.revision", "has the wrong form"),
        ("s3: models/base", "hub: org/model\n  revision: " + "1" * 40, "model.revision", "is a number out of range"),
        ("[g5.xlarge]", "[g5.xlarge]\n  nodes: 0", "compute.nodes", "is out of range"),
        ("[g5.xlarge]", "[g5.xlarge]\n  nodes: 17", "compute.nodes", "is out of range"),
        ("[g5.xlarge]", '[g5.xlarge]\n  nodes: "2"', "compute.nodes", "is text where a whole number is wanted"),
        ("[g5.xlarge]", "[g5.xlarge]\n  nodes: true", "compute.nodes", "is true where a whole number is wanted"),
        ("[g5.xlarge]", "[g5.xlarge]\n  nodes: 1.5", "compute.nodes", "is a number where a whole number is wanted"),
        ("[g5.xlarge]", "[g5.xlarge]\n  node: 2", "compute.node", "is not a key; did you mean `nodes`?"),
        ("s3: models/base", "{}", "model", "give either `hub` (with `revision`) or `s3`"),
        ("instance_types: [g5.xlarge]", "instance_types: []", "compute.instance_types", "has the wrong length (0)"),
        ("instance_types: [g5.xlarge]", "instance_types: [m5.large]", "compute.instance_types", "names what is not offered: m5.large; offered:"),
        ("instance_types: [g5.xlarge]", "gpu: {memory_gib: 1000}", "compute.gpu", "fits no offered type: none has 1 GPU(s) of that memory; the largest GPU"),
        ("instance_types: [g5.xlarge]", "zones: [us-east-1a]", "compute", "give either `instance_types` or `gpu`"),
    ],
)
def test_a_required_part_that_is_wrong_is_told_where_it_stands(old: str, new: str, path: str, message: str) -> None:
    problem = only_problem(GOOD.replace(old, new))
    assert problem.path == path
    assert problem.message.startswith(message)


def test_every_problem_is_told_at_once_and_in_the_order_of_the_file() -> None:
    problems = refused("name: 3.10\ndata:\n  trian: x\n  train: a\n  train: b\ncompute: {instance_types: g5.xlarge}\nlimits: {max_attempts: 0}\n")
    assert [(p.path, p.line) for p in problems] == [
        ("model", None),
        ("name", 1),
        ("data.trian", 3),
        ("data.train", 5),
        ("compute.instance_types", 6),
        ("limits.max_attempts", 7),
    ]


def test_missing_sections_are_listed_with_what_they_are_for() -> None:
    assert [(p.path, p.message, p.allowed) for p in refused("name: a\n")] == [
        ("model", "is missing", "The model to start from: `hub` with `revision`, or `s3`."),
        ("data", "is missing", "The rows to learn from: JSON Lines (plain, gzip or zstd) or Parquet. docs/data.md has an example of every format."),
        ("compute", "is missing", "Where to run: instance types by name, or what the job needs of a GPU."),
    ]


def test_a_misspelt_required_key_is_told_once_and_not_also_as_missing() -> None:
    problem = only_problem(GOOD.replace("train: data", "trian: data"))
    assert (problem.path, problem.message) == ("data.trian", "is not a key; did you mean `train`?")


def test_a_missing_key_inside_a_section_points_at_the_sections_line() -> None:
    problem = only_problem(GOOD.replace("  train: data/train.jsonl", "  format: chat"))
    assert (problem.path, problem.message, problem.line) == ("data.train", "is missing", 4)


@pytest.mark.parametrize(
    ("written", "steps"),
    [("10", 10), ("+10", 10), ("1e1", 10), ("10.0", 10), ("007", 7)],
)
def test_whole_numbers_may_be_written_in_every_decimal_way(written: str, steps: int) -> None:
    assert accepted(GOOD + f"training: {{max_steps: {written}}}\n").training.max_steps == steps


def test_yaml_1_1_surprises_stay_text_and_scientific_numbers_are_numbers() -> None:
    manifest = accepted(GOOD.replace("data/train.jsonl", "no") + "notify: {on: [budget]}\ntraining: {learning_rate: 2e-4}\n")
    assert manifest.data.train == "no"
    assert manifest.notify.on == ("budget",)
    assert manifest.training.learning_rate == 2e-4
    assert accepted(GOOD.replace("data/train.jsonl", "0x1F")).data.train == "0x1F"
    assert accepted(GOOD.replace("data/train.jsonl", "'3.10'")).data.train == "3.10"


def test_no_message_speaks_of_the_machinery() -> None:
    texts = [GOOD + text for text, *_ in MISTAKES]
    said = "\n".join(render_problems(refused(text)) for text in texts)
    assert not re.search(
        r"pydantic|https?:|Input should|tuple|\bstr\b|\bint\b|\bfloat\b|\bdict\b|None|NoneType|value_error|literal|Traceback", said, re.IGNORECASE
    )


def test_problems_read_as_plain_text() -> None:
    text = render_problems(refused(GOOD.replace("a-job", "3.10") + "training: {learning_rat: 1}\n"))
    assert text.startswith(
        "line 1: name is a number where text is wanted\n"
        "    found:   3.10\n"
        '    allowed: 1 to 48 lower-case letters, digits and hyphens, with no hyphen at either end; put it in quotes: "3.10"\n'
        "line 8: training.learning_rat is not a key; did you mean `learning_rate`?\n"
    )
    assert render_problems(refused(b"")).startswith("the manifest is empty\n")


def test_a_long_finding_is_cut_short() -> None:
    problem = only_problem(GOOD.replace("a-job", "a" * 5000))
    assert problem.found == "a" * 100 + "..."


def test_a_number_of_thousands_of_digits_is_out_of_range_like_any_other() -> None:
    problem = only_problem(GOOD + "training: {seed: " + "9" * 5000 + "}\n")
    assert (problem.path, problem.message) == ("training.seed", "is a number out of range")


def test_every_pattern_of_the_manifest_has_words_for_people() -> None:
    patterns = set(re.findall(r"'pattern': '((?:[^'\\]|\\.)*)'", str(manifest_schema())))
    assert {pattern.encode().decode("unicode_escape") for pattern in patterns} == set(PATTERN_WORDS)
