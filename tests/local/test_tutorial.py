"""The laptop's tutorial and the README's local cloud, typed as they stand, line by line, in one shell: a command that changed breaks this.

Only `make demo` is left out, which would make environments, and the model is a tiny one in the demonstration's place: what is typed stays the same.
"""

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from demo import material
from dropforge.local import cloud as clouds
from dropforge.local.state import load
from jobspec.status import Status
from tests.local.conftest import needs_environments
from tests.tiny_model import make_tiny_model, write_chat_rows

pytestmark = [pytest.mark.local_cloud, pytest.mark.torch]

ROOT = Path(__file__).parents[2]
TUTORIAL = (ROOT / "docs/tutorial-laptop.md").read_text()
README = (ROOT / "README.md").read_text()
#: What a clone holds that the pages' commands name, or that is imported.
CLONED = (".venv", "demo", "dropforge", "functions", "template.yaml")
PATIENCE_S = 600.0


def block_under(page: str, heading: str) -> list[str]:
    """The lines of the first shell block below the heading."""
    found = re.search(rf"^## {re.escape(heading)}.*?^```\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert found is not None, heading
    return found.group(1).splitlines()


@dataclass
class Shell:
    """A person's shell: what a line exports, the next one finds."""

    folder: Path
    words: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=lambda: {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "DROPFORGE_"))})

    def type(self, line: str, code: int = 0, answer: str = "") -> str:
        """What is printed. ``words``: what a reader puts in the place of a capital word."""
        for word, value in self.words.items():
            line = line.replace(word, value)
        kept = self.folder / ".environment"
        script = f"{line}\nsaid=$?\nenv -0 >{kept}\nexit $said\n"
        done = subprocess.run(
            ["bash", "-c", script], cwd=self.folder, env=self.environment, input=answer, capture_output=True, text=True, check=False, timeout=PATIENCE_S
        )
        assert done.returncode == code, f"{line}: {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        self.environment = dict(entry.split("=", 1) for entry in kept.read_text().split("\0") if entry)
        return done.stdout + done.stderr

    def until(self, look: Callable[[Status], bool], what: str) -> Status:
        """The status of the tutorial's job, once it is so."""
        end = time.monotonic() + PATIENCE_S
        while True:
            found = Status.model_validate_json(self.type("dropforge status demo --json"))
            if look(found):
                return found
            assert time.monotonic() < end, f"waited in vain for {what}: {found.state}, {found.reason}"
            time.sleep(0.5)


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """A folder like a fresh clone, but for the material: a tiny model and its rows lie there as if made already."""
    needs_environments()
    if shutil.which("aws") is None:
        pytest.skip("the AWS command line is missing: the tutorial copies with it (pip install awscli)")
    folder = tmp_path / "dropforge"
    folder.mkdir()
    for name in CLONED:
        (folder / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "events", folder / "events")
    made = folder / ".cache/demo"
    make_tiny_model(made / material.MODEL_PREFIX)
    for name in ("train", "eval"):
        write_chat_rows(made / material.DATA_PREFIX / f"{name}.jsonl", 32, 1)
    (made / material.RECORD_NAME).write_text(json.dumps({"making": material.MAKING, "files": material._digests(made)}))
    typed = Shell(folder)
    typed.environment |= {"PYTHONPATH": f"{ROOT / 'functions'}:{ROOT}", "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    yield typed
    clouds.down(folder / ".dropforge/local")


def test_the_pages_commands_do_what_the_pages_say(shell: Shell) -> None:
    init, validate, plan = re.findall(r"^\.venv/bin/dropforge (?:init|validate|plan) .*$", README, re.MULTILINE)
    shell.type(init, answer="models/mine/\ndata/train.jsonl\n24\n")
    assert yaml.safe_load((shell.folder / "job.yaml").read_text())["name"] == "job"
    assert "The manifest is valid." in shell.type(validate)
    assert "my-first-job" in shell.type(plan)

    up, env, path = block_under(TUTORIAL, "2. Keep a cloud running")
    assert "The local cloud is up" in shell.type(up)
    state = load(shell.folder / ".dropforge/local")
    assert state is not None
    shell.words = {"DATA-BUCKET": state.outputs["DataBucketName"]}
    for line in (env, path):
        shell.type(line)
    assert shell.environment["AWS_ENDPOINT_URL"] == state.endpoint

    again, readme_env, status, down = block_under(README, "A cloud on this machine")
    assert (again, readme_env) == (up, env)
    assert state.endpoint in shell.type(status)

    make, sync = block_under(TUTORIAL, "3. Bring a model and rows")
    assert "there already" in shell.type(make)
    shell.type(sync)
    listed = shell.type("aws s3 ls --recursive s3://DATA-BUCKET/")
    assert f"{material.MODEL_PREFIX}/config.json" in listed
    assert f"{material.DATA_PREFIX}/train.jsonl" in listed

    for line in block_under(TUTORIAL, "4. Look at a manifest, and what it would need"):
        assert "demo" in shell.type(line)

    submit, show, report, download = block_under(TUTORIAL, "5. Submit it, and watch")
    assert "SUCCEEDED" in shell.type(submit)
    assert "SUCCEEDED" in shell.type(show)
    shell.type(report.replace(" --open", ""))
    assert (shell.folder / "demo.html").read_text().startswith("<!doctype html>")
    shell.type(download)
    assert (shell.folder / "model/adapter_model.safetensors").stat().st_size > 0
    assert any("finished" in mail.read_text() for mail in (shell.folder / ".dropforge/local/mail").iterdir())

    (interrupt,) = block_under(TUTORIAL, "6. Take its instance away")
    _without_an_end(shell.folder / "events/manifests/demo.yaml")
    shell.type(submit.replace(" --wait", ""))
    shell.until(lambda job: job.state == "RUNNING", "a job at work")
    assert "was warned" in shell.type(interrupt)
    shell.until(lambda job: len(job.attempts) == 2, "its replacement")
    assert "CANCELLED" in shell.type("dropforge cancel demo --yes")

    for line in block_under(TUTORIAL, "7. Let its region run dry"):
        shell.type(line)
    (last,) = block_under(TUTORIAL, "8. Put the cloud away")
    assert last == down.removeprefix(".venv/bin/")
    assert "The local cloud is down" in shell.type(last)


def _without_an_end(path: Path) -> None:
    """A job that is to be interrupted must not end before it is."""
    text = path.read_text()
    for old, new in (("max_steps: 16", "max_steps: 1000000"), ("max_runtime: 30m", "max_runtime: 30d"), ("budget_usd: 1", "budget_usd: 1000")):
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)
