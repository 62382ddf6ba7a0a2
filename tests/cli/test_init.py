"""``dropforge init``: three questions, and a manifest that is valid as it stands."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from dropforge.cli import main
from dropforge.manifests import templates
from dropforge.manifests.commands import KINDS
from jobspec.manifest import Manifest
from jobspec.reading import read_manifest

COMMIT = "12fd25f77366fa6b3b4b768ec3050bf629380bac"


def run(*words: str, answer: str = "") -> Result:
    return CliRunner().invoke(main, ["init", *words], input=answer)


def read(path: Path) -> Manifest:
    manifest = read_manifest(path.read_bytes())
    assert isinstance(manifest, Manifest), manifest
    return manifest


def test_three_answers_make_a_valid_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(templates, "commit_of", lambda model: COMMIT)
    file = tmp_path / "My Job.yaml"
    result = run(str(file), answer="Qwen/Qwen2.5-0.5B\ns3://my-bucket/rows.jsonl\n16\n")
    assert result.exit_code == 0, result.output
    manifest = read(file)
    assert (manifest.name, manifest.model.hub, manifest.model.revision) == ("my-job", "Qwen/Qwen2.5-0.5B", COMMIT)
    assert (manifest.data.train, manifest.compute.gpu and manifest.compute.gpu.memory_gib) == ("s3://my-bucket/rows.jsonl", 16)
    assert sum(not line.startswith("#") for line in file.read_text().splitlines()) <= 10


@pytest.mark.parametrize("kind", KINDS)
def test_every_template_is_valid_and_shows_a_row_of_its_kind(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "job.yaml"
    assert run(str(file), "--template", kind, "--model", "s3://b-1/m/", "--train", "data/t.jsonl", "--gpu-memory", "24").exit_code == 0
    read(file)
    assert json.loads(templates.TEMPLATES[kind].row)
    assert templates.TEMPLATES[kind].row in file.read_text()


def test_the_kinds_that_are_offered_are_the_templates_that_exist() -> None:
    assert tuple(templates.TEMPLATES) == KINDS


def test_a_hub_that_does_not_answer_leaves_the_commit_to_the_person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(templates, "HUB", "http://127.0.0.1:9")
    file = tmp_path / "job.yaml"
    assert run(str(file), "--model", "org/model", "--train", "t.jsonl", "--gpu-memory", "16", answer=f"{COMMIT}\n").exit_code == 0
    assert read(file).model.revision == COMMIT


def test_a_branch_is_no_commit(tmp_path: Path) -> None:
    result = run(str(tmp_path / "job.yaml"), "--model", "org/model@main", "--train", "t.jsonl", "--gpu-memory", "16")
    assert result.exit_code == 1
    assert "40 hexadecimal digits" in result.output
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_yours_is_not_replaced_unless_forced(tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text("mine")
    words = (str(file), "--model", "s3://b-1/m/", "--train", "t.jsonl", "--gpu-memory", "16")
    assert run(*words).exit_code == 1
    assert file.read_text() == "mine"
    assert run(*words, "--force").exit_code == 0


def test_answers_that_make_no_manifest_are_refused_with_the_reason_and_write_nothing(tmp_path: Path) -> None:
    result = run(str(tmp_path / "job.yaml"), "--model", "s3://b-1/m/", "--train", "../rows", "--gpu-memory", "16")
    assert result.exit_code == 1
    assert "data.train" in result.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_for_the_shell(shell: str) -> None:
    assert "_DROPFORGE_COMPLETE" in CliRunner().invoke(main, ["completion", shell]).output


def test_validate_as_json_lists_each_problem(tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text("name: x\n")
    result = CliRunner().invoke(main, ["validate", str(file), "--json"])
    answer = json.loads(result.stdout)
    assert (result.exit_code, answer["valid"]) == (1, False)
    assert "model" in {problem["path"] for problem in answer["problems"]}
