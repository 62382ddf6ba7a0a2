"""``dropforge init`` and ``validate``: parsing and printing only. No command here needs an account or a network, but for the hub's word on a commit."""

import contextlib
import json
import re
from datetime import UTC, datetime
from pathlib import Path

import click

from dropforge.manifests.kinds import TEMPLATES, offered
from dropforge.options import dry_run_option, json_option
from dropforge.output import print_json, say


@click.command()
@click.argument("manifest", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@json_option
def validate(manifest: Path, as_json: bool) -> None:
    """Check a manifest without sending it anywhere. Exit 1 and every problem, with its line, if it is not valid."""
    from dropforge.manifests.checked import not_valid
    from dropforge.manifests.summary import summary
    from jobspec import keys
    from jobspec.reading import Refusal, past_deadline, read_manifest

    answer = read_manifest(manifest.read_bytes(), key=f"{keys.MANIFEST_PREFIX}{manifest.name}")
    problems = answer.problems if isinstance(answer, Refusal) else past_deadline(answer, datetime.now(UTC))
    if as_json:
        lines = [{"path": p.path, "line": p.line, "message": p.message, "found": p.found, "allowed": p.allowed} for p in problems]
        click.echo(json.dumps({"valid": not problems, "problems": lines}, indent=1))
        if problems:
            raise click.exceptions.Exit(1)
        return
    if problems or isinstance(answer, Refusal):
        raise not_valid(Refusal(problems), str(manifest))
    click.echo(summary(answer))
    click.echo("The manifest is valid.")


@click.command(epilog=offered())
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path), default="job.yaml")
@click.option("--template", "kind", type=click.Choice(list(TEMPLATES)), default="chat", show_default=True, help="Rows, method or adapter: see below.")
@click.option("--name", help="The job's name. Default: the file's.")
@click.option("--model", help="Hugging Face id, id@COMMIT, or the S3 prefix of a model. Asked for where not given.")
@click.option("--train", help="Rows: s3://BUCKET/KEY, or a key in the stack's data bucket. Asked for where not given.")
@click.option("--gpu-memory", type=click.FloatRange(min=1, max=1024), help="GiB of GPU memory. Asked for where not given.")
@click.option("--force", is_flag=True, help="Replace the file if it is there.")
@json_option
@dry_run_option
def init(
    file: Path, kind: str, name: str | None, model: str | None, train: str | None, gpu_memory: float | None, force: bool, as_json: bool, dry_run: bool
) -> None:
    """Write a manifest of ten lines from three questions."""
    from dropforge.manifests.templates import Answers, commit_of, is_commit, is_hub_id, manifest_text
    from jobspec import keys
    from jobspec.problems import render_problems
    from jobspec.reading import Refusal, read_manifest

    if file.exists() and not force and not dry_run:
        raise click.ClickException(f"{file} is there already. Another name: dropforge init NAME.yaml; or replace it: --force.")
    template = TEMPLATES[kind]
    model = model or click.prompt("Model (Hugging Face id, or s3://BUCKET/PREFIX/)", default="HuggingFaceTB/SmolLM2-135M-Instruct", err=as_json)
    model, _, revision = model.partition("@")
    if is_hub_id(model) and not revision:
        revision = commit_of(model) or click.prompt(
            f"The hub does not say where {model} stands; its commit (40 digits, on the model's page under Files)", err=as_json
        )
    if revision and not is_commit(revision):
        raise click.ClickException(f"{revision!r} is no commit: 40 hexadecimal digits. A branch or tag may move between two attempts of one job.")
    train = train or click.prompt("Rows to train on (JSONL: s3://BUCKET/KEY, or a key in the stack's data bucket)", default="data/train.jsonl", err=as_json)
    memory = gpu_memory or click.prompt(
        "GPU memory in GiB (16: up to 1B, 24: 3B to 8B with LoRA, 48 and more: larger)", type=click.FloatRange(1, 1024), default=24, err=as_json
    )
    answers = Answers(name or _name_from(file), model, revision or None, train, memory)
    text = manifest_text(answers, template)
    checked = read_manifest(text.encode(), key=f"{keys.MANIFEST_PREFIX}{file.name}")
    if isinstance(checked, Refusal):
        raise click.ClickException(f"These answers make no valid manifest:\n\n{render_problems(checked.problems)}")
    answer = {"file": str(file), "manifest": text, "written": not dry_run}
    if dry_run:
        print_json(as_json, answer)
        say(as_json, f"{text}\nWould be written to {file}. Nothing was.")
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    _write(file, text)
    print_json(as_json, answer)
    say(as_json, f"Wrote {file}: {template.about}. Next: dropforge plan {file}, then dropforge submit {file} --wait")


def _name_from(file: Path) -> str:
    from jobspec.keys import name_from_key

    return name_from_key(re.sub(r"\s+", "-", file.name))


def _write(file: Path, text: str) -> None:
    """Whole or not at all: a full disk leaves neither half a manifest nor nothing of the one that was there."""
    part = file.with_name(f".{file.name}.part")
    try:
        part.write_text(text)
        part.replace(file)
    except OSError:
        with contextlib.suppress(OSError):
            part.unlink()
        raise
