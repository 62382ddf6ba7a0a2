"""The generated schemas: up to date, and of one mind with the reader; the example manifests go through the real reader."""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from jobspec.manifest import Manifest
from jobspec.reading import Refusal, read_manifest
from tests.jobspec.manifests import GOOD
from tests.jobspec.test_manifest_mistakes import MISTAKES
from tools import schema

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "events" / "manifests").glob("*.yaml"))
VALIDATOR = jsonschema.Draft202012Validator(json.loads((ROOT / "docs/schema/manifest.v1.schema.json").read_text()))

#: What JSON Schema cannot say, or says only with a format checker; the reader refuses it all the same.
BEYOND_A_SCHEMA = (
    "training.learning_rat",
    "data.train: [",
    "adapter.r: [4, 4]",
    "{adapter.r: 4}, {}",
    "adapter.r: [0]",
    "*/30",
    "0 25",
    "timezone: Berlin",
    "after: a-job",
    "micro_batch_size: 3",
    "max_runtime: 0s",
    "max_runtime: 91d",
    "deadline: 2026",
    "deadline: tomorrow",
    "deadline: '179",
    "deadline: 9999",
    "m5.large",
    "memory_gib: 1000",
)

ACCEPTED = [
    "training: {max_steps: 3}",
    "training: {max_steps: null}",
    "training: {epochs: 0.5, learning_rate: 1.0}",
    "adapter: {target_modules: [q_proj, v_proj]}",
    "adapter: {target_modules: all-linear}",
    "limits: {max_runtime: 1h30m, deadline: '2030-01-01T00:00:00Z'}",
    "notify: {on: []}",
    "version: 1",
    "data: {train: a/b.jsonl, eval: s3://some-bucket/eval.jsonl}",
    "model: {hub: org/model, revision: '0123456789012345678901234567890123456789'}",
    "model: {s3: models/x/, hub: null}",
    "compute: {gpu: {memory_gib: 24, count: 1}}",
    "compute: {gpu: {memory_gib: 24}, nodes: 16}",
]
REFUSED = [
    "model: {}",
    "model: {hub: org/model}",
    "model: {hub: org/model, revision: '0123456789012345678901234567890123456789', s3: models/x}",
    "model: {s3: null}",
    "model: {hub: null, revision: null}",
    "compute: {}",
    "compute: {gpu: {memory_gib: 24}, instance_types: [g5.xlarge]}",
    "compute: {instance_types: []}",
    "compute: {gpu: {memory_gib: 1000}}",
    "compute: {instance_types: [m5.large]}",
    "compute: {instance_types: [g5.xlarge], nodes: 0}",
    "compute: {instance_types: [g5.xlarge], nodes: 17}",
    "compute: {instance_types: [g5.xlarge], nodes: true}",
    "data: {train: ../x}",
    "name: A",
]


def _judged(text: str) -> tuple[bool, bool]:
    """(the schema accepts, the reader accepts) the good manifest with ``text``'s keys in it."""
    read: dict[str, Any] = {**yaml.load(GOOD, _Plain), **yaml.load(text, _Plain)}
    return VALIDATOR.is_valid(read), isinstance(read_manifest(json.dumps(read).encode()), Manifest)


class _Plain(yaml.SafeLoader):
    """YAML 1.2's scalars, by an independent hand: what an editor's language server sees."""


_Plain.yaml_implicit_resolvers = {}
_Plain.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(true|false)$"), list("tf"))
_Plain.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^(null|~|)$"), ["n", "~", ""])
_Plain.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?[0-9]+$"), list("-+0123456789"))
_Plain.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"^[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+)([eE][-+]?[0-9]+)?$"), list("-+.0123456789"))


@pytest.mark.parametrize("text", ACCEPTED)
def test_schema_and_reader_accept_the_same(text: str) -> None:
    assert _judged(text) == (True, True)


@pytest.mark.parametrize("text", [*(mistake[0] for mistake in MISTAKES), *REFUSED])
def test_schema_and_reader_refuse_the_same(text: str) -> None:
    beyond = any(mark in text for mark in BEYOND_A_SCHEMA)
    assert _judged(text) == (beyond, False)


def test_the_committed_schemas_and_reference_are_what_the_models_say() -> None:
    assert schema.main(["--check"]) == 0


def test_the_check_fails_where_a_file_is_stale_or_missing(tmp_path: Path) -> None:
    assert schema.main(["--root", str(tmp_path)]) == 0
    assert schema.main(["--root", str(tmp_path), "--check"]) == 0
    reference = tmp_path / "docs" / "manifest.md"
    reference.write_text(reference.read_text() + "by hand\n")
    assert schema.main(["--root", str(tmp_path), "--check"]) == 1


def test_every_default_in_the_schema_is_allowed_by_it() -> None:
    for definition in VALIDATOR.schema["$defs"].values():
        for key, node in definition.get("properties", {}).items():
            if "default" in node:
                wrong = list(VALIDATOR.evolve(schema={**node, "$defs": VALIDATOR.schema["$defs"]}).iter_errors(node["default"]))
                assert not wrong, key


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_manifest_names_the_schema_and_is_read(path: Path) -> None:
    first = path.read_text().splitlines()[0]
    named = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", first)
    assert named
    assert (path.parent / named.group(1)).resolve() == ROOT / "docs/schema/manifest.v1.schema.json"
    answer = read_manifest(path.read_bytes())
    if path.name == "bad.yaml":
        assert isinstance(answer, Refusal)
        assert len(answer.problems) >= 8
    else:
        assert isinstance(answer, Manifest), answer


def test_a_useful_manifest_is_ten_lines() -> None:
    assert len((ROOT / "events/manifests/minimal.yaml").read_text().splitlines()) <= 10
