"""The job commands against the local cloud as it is, functions and instances at work; and each thing that may be wrong around them, in the real process."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from dropforge.local.state import HOME_VARIABLE
from jobspec import keys, wire
from jobspec.status import Status
from tests.cli.bucket import NOW, Bucket
from tests.cli.conftest import Site, eventually
from tests.tiny_model import make_tiny_model, write_chat_rows

pytestmark = [pytest.mark.local_cloud, pytest.mark.torch]

COMMAND = Path(sys.executable).parent / "dropforge"
#: An instance starts, and its trainer imports torch, on a machine that does much else.
PATIENCE_S = 300.0
FINISHED: dict[str, Any] = {
    "state": "SUCCEEDED",
    "reason": "attempt 1 finished",
    "updated_at": NOW,
    "accepted_at": NOW,
    "manifest": "s3://data/jobs/x.yaml",
    "manifest_version": "v1",
}
AT_WORK = ("LAUNCHED", "RUNNING")
#: Without an end: whatever is done to it is done before that.
ENDLESS: dict[str, Any] = {
    "model": {"s3": "models/tiny/"},
    "data": {"train": "data/train.jsonl"},
    "training": {"max_steps": 1_000_000, "global_batch_size": 8, "max_length": 64, "gradient_checkpointing": False},
    "compute": {"instance_types": ["g5.xlarge"]},
    "limits": {"max_runtime": "30d", "budget_usd": 1000},
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("material")
    make_tiny_model(folder / "models/tiny")
    write_chat_rows(folder / "data/train.jsonl", 32, 1)
    return folder


@pytest.fixture
def bucket(site: Site, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """The stack's bucket with what the manifests name, and the settings of `eval "$(dropforge local env)"`."""
    for name, value in (site.state.environment | {HOME_VARIABLE: str(site.home), "OMP_NUM_THREADS": "1"}).items():
        monkeypatch.setenv(name, value)
    from dropforge.stack import find_stack

    made = Bucket(find_stack("well"))
    for path in (path for path in tiny.rglob("*") if path.is_file()):
        made.stack.s3.upload_file(str(path), made.stack.data_bucket, str(path.relative_to(tiny)))
    return made


def manifest(folder: Path, name: str, **more: Any) -> str:
    (folder / f"{name}.yaml").write_text(yaml.safe_dump({"name": name, **ENDLESS, **more}))
    return str(folder / f"{name}.yaml")


def done(site: Site, *words: str, typed: str | None = None) -> str:
    result = site.run(*words, typed=typed)
    assert result.exit_code == 0, f"{words}: {result.output}"
    return " ".join(result.output.split())


def refused(site: Site, *words: str) -> str:
    result = site.run(*words)
    assert result.exit_code == 1, f"{words}: {result.output}"
    return " ".join(result.output.split())


def status_of(site: Site, name: str) -> Status | None:
    result = site.run("status", name, "--json")
    return Status.model_validate_json(result.stdout) if result.exit_code == 0 else None


def until(site: Site, name: str, *states: str, attempts: int = 0) -> Status:
    """The status once it is one of these states, after so many attempts at least."""

    def found() -> Status | None:
        status = status_of(site, name)
        return status if status is not None and status.state in states and len(status.attempts) >= attempts else None

    status = eventually(found, within_s=PATIENCE_S)
    assert status is not None
    return status


def test_a_job_from_its_submission_over_an_interruption_to_its_cancellation(site: Site, bucket: Bucket, tmp_path: Path) -> None:
    file = manifest(tmp_path, "story")
    assert "Nothing was sent" in done(site, "submit", file, "--dry-run")
    assert "story sft of models/tiny/" in done(site, "plan", file)
    assert "Follow it: dropforge status story --watch" in done(site, "submit", file)
    first = until(site, "story", *AT_WORK).attempts[0].instance_id
    assert first is not None
    assert "story" in done(site, "list", "--state", "active")
    eventually(lambda: "bootstrap" in site.run("logs", "story").stdout or "agent" in site.run("logs", "story").stdout, within_s=PATIENCE_S)

    assert "is not over" in refused(site, "retry", "story")
    assert "has no model" in refused(site, "download", "story", "--to", str(tmp_path / "model"))
    assert "has no attempt 7" in refused(site, "logs", "story", "--attempt", "7")

    assert f"Would have EC2 take {first}" in done(site, "interrupt", "story", "--dry-run")
    assert f"{first} was warned by the local market" in done(site, "interrupt", "story", typed="y\n")
    until(site, "story", *AT_WORK, attempts=2)
    assert "story-" in done(site, "cost")
    done(site, "report", "story", "--to", str(tmp_path / "story.html"))
    assert first in (tmp_path / "story.html").read_text()
    done(site, "report", "--index", "--to", str(tmp_path / "all/index.html"))
    assert "story" in (tmp_path / "all/index.html").read_text()

    assert "Would delete s3://" in done(site, "cancel", "story", "--dry-run")
    answer = json.loads(site.run("cancel", "story", "--yes", "--json").stdout)
    assert (answer["deleted"], until(site, "story", "CANCELLED").reason) == (True, "the manifest was deleted")
    assert "is over already: CANCELLED" in refused(site, "cancel", "story", "--yes")
    assert "Nothing was sent" in done(site, "retry", "story", "--dry-run")
    assert "has no live instance" in refused(site, "interrupt", "story", "--yes")


def test_one_job_of_a_sweep_is_cancelled_at_once_and_the_others_go_on(site: Site, bucket: Bucket, tmp_path: Path) -> None:
    sweep = {"grid": {"training.seed": [1, 2, 3]}, "concurrency": 2, "budget_usd": 3000}
    done(site, "submit", manifest(tmp_path, "many", sweep=sweep))
    until(site, "many-002", *AT_WORK)
    done(site, "cancel", "many-002", "--yes")
    # No tick comes in this cloud's hour: the object's own event is heard.
    assert until(site, "many-002", "CANCELLED").reason.startswith("it was cancelled by itself")
    until(site, "many-001", *AT_WORK)
    again = done(site, "retry", "many-002", "--dry-run")
    assert "jobs/many-002.json. Nothing was sent." in again
    done(site, "cancel", "many", "--yes")
    until(site, "many", "CANCELLED")
    assert until(site, "many-001", "CANCELLED").reason in ("the manifest was deleted", "many was cancelled")


def test_ctrl_c_while_it_waits_leaves_the_job_running_and_says_how_to_look_again(site: Site, bucket: Bucket, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [str(COMMAND), "submit", manifest(tmp_path, "left"), "--wait", "--stack", "well"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # As in a terminal: what a shell starts in the background ignores the signal, and so does all that is started from there.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if "ACCEPTED" in line:
            process.send_signal(signal.SIGINT)
            break
    rest = process.stdout.read()
    assert process.wait(PATIENCE_S) == 130, "".join([*said, rest])
    assert "The job goes on without you. Look again: dropforge status left --watch. End it: dropforge cancel left" in rest
    found = status_of(site, "left")
    assert found is not None
    assert found.state in ("ACCEPTED", "PLANNED", *AT_WORK)
    done(site, "cancel", "left", "--yes")
    until(site, "left", "CANCELLED")


def _nobody(tmp_path: Path) -> dict[str, str]:
    """A machine on which nobody has signed in to AWS."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return clean | {"HOME": str(tmp_path), "AWS_EC2_METADATA_DISABLED": "true"}


@pytest.fixture
def odd_statuses(bucket: Bucket) -> Iterator[None]:
    """Two jobs whose names begin alike, and one that a later version has written; gone afterwards, for others list what is there."""
    kept = [bucket.write(Status(**FINISHED, job_id=f"{name}-abc123", name=name)) for name in ("twin-a", "twin-b", "future")]
    later = json.dumps(json.loads(wire.dump(kept[-1])) | {"version": 99})
    s3, place = bucket.stack.s3, bucket.stack.data_bucket
    s3.put_object(Bucket=place, Key=keys.status_key("future"), Body=later.encode())
    yield
    for status in kept:
        s3.delete_object(Bucket=place, Key=keys.status_key(status.name))


@pytest.mark.parametrize(
    ("changes", "words", "said", "next_step"),
    [
        ({"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}, ["list"], "AWS does not know who you are", "`aws configure`"),
        ({"AWS_PROFILE": "nobody"}, ["list"], "AWS does not know who you are", "AWS_PROFILE"),
        ({"AWS_DEFAULT_REGION": None}, ["list"], "No region is set", "`aws configure set region REGION`"),
        ({"AWS_DEFAULT_REGION": "eu-west-1"}, ["status", "x"], "There is no stack 'well' in eu-west-1", "AWS_DEFAULT_REGION"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, ["list"], "Could not connect", "`dropforge local status`"),
        ({}, ["list", "--stack", "another"], "There is no stack 'another'", "`sam deploy --guided`"),
        ({}, ["status", "no-such-job"], "No job 'no-such-job' in stack well", "`dropforge list`"),
        ({}, ["status", "twin"], "'twin' is the beginning of 2 jobs: twin-a, twin-b", "Write one in full"),
        ({}, ["status", "future"], "is not one that this version understands", "Install the stack's version"),
    ],
    ids=["no credentials", "no profile", "no region", "wrong region", "no cloud", "no stack", "unknown job", "ambiguous", "stale version"],
)
def test_what_is_wrong_is_a_sentence_with_the_next_step_and_no_stack_trace(
    site: Site, odd_statuses: None, tmp_path: Path, changes: dict[str, str | None], words: list[str], said: str, next_step: str
) -> None:
    settings = {name: value for name, value in ({**_nobody(tmp_path), **site.state.environment, **changes}).items() if value is not None}
    stack = [] if "--stack" in words else ["--stack", "well"]
    ran = subprocess.run([str(COMMAND), *words, *stack], env=settings, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert said in ran.stderr
    assert next_step in ran.stderr
    assert "Traceback" not in ran.stderr
