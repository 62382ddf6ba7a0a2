"""``dropforge init``: three questions, and a manifest that is valid as it stands."""

import errno
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from dropforge.cli import main
from dropforge.manifests import templates
from dropforge.manifests.kinds import TEMPLATES
from jobspec.data import FORMATS_OF
from jobspec.formats import format_of, problem_of
from jobspec.manifest import Manifest
from jobspec.reading import read_manifest
from tests.planning.architectures import TINY_LLAMA

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


ANSWERED = ("--model", f"HuggingFaceTB/SmolLM2-135M-Instruct@{COMMIT}", "--train", "t.jsonl", "--gpu-memory", "24")


def test_a_rehearsal_shows_the_manifest_and_writes_nothing_and_a_script_reads_json_alone(tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    shown = run(str(file), *ANSWERED, "--dry-run")
    assert "name: job\n" in shown.output
    assert f"Would be written to {file}. Nothing was." in shown.output
    assert not file.exists()
    asked = CliRunner().invoke(main, ["init", str(file), "--json", *ANSWERED[:2]], input="t.jsonl\n24\n")
    told = json.loads(asked.stdout)
    assert (told["file"], told["written"], told["manifest"]) == (str(file), True, file.read_text())


@pytest.mark.parametrize("kind", TEMPLATES)
def test_every_template_is_valid_shows_a_row_that_its_method_learns_from_and_can_be_planned(tmp_path: Path, kind: str) -> None:
    file, config, rows = tmp_path / "job.yaml", tmp_path / "config.json", tmp_path / "rows.jsonl"
    assert (
        run(str(file), "--template", kind, "--model", f"HuggingFaceTB/SmolLM2-135M-Instruct@{COMMIT}", "--train", "t.jsonl", "--gpu-memory", "24").exit_code
        == 0
    )
    manifest, shown = read(file), TEMPLATES[kind].row
    assert f"# Each line of the data file: {shown}\n" in file.read_text()
    assert sum(not line.startswith("#") for line in file.read_text().splitlines()) <= 10
    row = json.loads(shown)
    assert problem_of(row, format_of(row, manifest.method)) is None
    config.write_text(json.dumps(TINY_LLAMA))
    rows.write_text((shown + "\n") * 100)
    planned = CliRunner().invoke(main, ["plan", str(file), "--model", str(config), "--data", str(rows), "--json"])
    assert (planned.exit_code, json.loads(planned.stdout)["accepted"]) == (0, True), planned.output


def test_the_templates_cover_every_method_and_adapter(tmp_path: Path) -> None:
    manifests = []
    for kind in TEMPLATES:
        assert run(str(tmp_path / f"{kind}.yaml"), "--template", kind, "--model", "s3://b-1/m/", "--train", "t.jsonl", "--gpu-memory", "24").exit_code == 0
        manifests.append(read(tmp_path / f"{kind}.yaml"))
    assert {manifest.method for manifest in manifests} == set(FORMATS_OF)
    assert {manifest.adapter.type for manifest in manifests} == {"lora", "qlora", "full"}


def test_help_lists_every_template_with_what_it_is_for() -> None:
    text = run("--help").output
    for kind, template in TEMPLATES.items():
        assert f"  {kind}" in text
        assert f"  {template.about}\n" in text


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


def test_validate_and_submit_refuse_what_the_stack_would_refuse_by_its_clock(tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(Path("events/manifests/minimal.yaml").read_text() + "limits: {deadline: 2020-01-01T00:00:00Z}\n")
    result = CliRunner().invoke(main, ["validate", str(file)])
    assert result.exit_code == 1
    assert "limits.deadline is in the past\n    found:   2020-01-01 00:00 UTC\n    allowed: a time after" in result.output
    assert not json.loads(CliRunner().invoke(main, ["validate", str(file), "--json"]).stdout)["valid"]
    sent = CliRunner().invoke(main, ["submit", str(file)])
    assert sent.exit_code == 1
    assert "Its limits.deadline, 2020-01-01 00:00 UTC, is past. Set a later one" in sent.output


@pytest.mark.parametrize(
    ("number", "sentence"), [(errno.ENOSPC, "The disk is full: make room"), (errno.EROFS, "Nothing can be written there"), (errno.EACCES, "You lack the right")]
)
def test_a_disk_that_takes_nothing_is_said_and_what_was_there_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, sentence: str) -> None:
    file, write = tmp_path / "job.yaml", Path.write_text
    file.write_text("mine")

    def refuse(path: Path, text: str) -> int:
        write(path, text[:10])
        raise OSError(number, "as the system says it", str(path))

    monkeypatch.setattr(Path, "write_text", refuse)
    result = run(str(file), "--force", "--model", f"HuggingFaceTB/SmolLM2-135M-Instruct@{'1' * 40}", "--train", "data/x.jsonl", "--gpu-memory", "16")
    assert result.exit_code == 1
    assert sentence in result.output
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("job.yaml", "mine")]
