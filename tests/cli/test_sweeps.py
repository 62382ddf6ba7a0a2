"""Sweeps on the command line: what they will cost, how they stand, and that a part of one is not cancelled for the whole by mistake."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from dropforge import stack as stacks
from dropforge.cli import main
from dropforge.jobs import acting, cancelling
from jobspec.manifest import Manifest
from jobspec.reading import read_manifest
from jobspec.status import ScheduleStatus, SweepStatus, SweptJob
from tests.cli.bucket import Bucket, a_receipt, an_attempt, new_bucket
from tests.driver.test_feasibility import LLAMA_8B

SWEEP = """name: rates
model: {s3: models/m/}
data: {train: data/t.jsonl}
compute: {instance_types: [g5.xlarge]}
sweep:
  grid: {training.learning_rate: [1e-4, 2e-4, 4e-4]}
  concurrency: 2
  budget_usd: 6
"""


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    with new_bucket() as made:
        monkeypatch.setattr(stacks, "find_stack", lambda name: made.stack)
        monkeypatch.setattr(acting, "CANCELLED_WITHIN_S", 0.0)
        made.put_material()
        yield made


def run(*words: str, answer: str = "") -> Result:
    return CliRunner().invoke(main, list(words), input=answer)


def said(result: Result) -> str:
    return " ".join(result.output.split())


def file(tmp_path: Path, text: str = SWEEP) -> str:
    (tmp_path / "rates.yaml").write_text(text)
    return str(tmp_path / "rates.yaml")


def put_family(bucket: Bucket, state: str = "RUNNING", **facts: Any) -> None:
    """A sweep of three: one is over and the best so far, one is at work, one was not started; and another job."""
    jobs = (
        SweptJob(number=1, name="rates-001", job_id="rates-001-abc123", choice={"training.learning_rate": 1e-4}, state="SUCCEEDED", cost_usd=0.5, value=1.25),
        SweptJob(number=2, name="rates-002", job_id="rates-002-abc123", choice={"training.learning_rate": 2e-4}, state="RUNNING", cost_usd=0.25),
        SweptJob(number=3, name="rates-003", choice={"training.learning_rate": 4e-4}),
    )
    table = SweepStatus(metric="eval_loss", goal="min", concurrency=2, budget_usd=6, cost_usd=0.75, best="rates-001", jobs=jobs)
    bucket.put_status("rates-002", parent="rates", attempts=(an_attempt(end=None, ended_at=None),), receipt=a_receipt())
    bucket.put_status("other")
    bucket.put_model("rates-001", {"adapter_model.safetensors": b"weights"})
    found = bucket.put_status("rates", state, sweep=table, **facts)
    best = bucket.stack.s3.get_object(Bucket="data", Key="status/rates-001.json")["Body"].read()
    bucket.stack.s3.put_object(Bucket="data", Key="status/rates-001.json", Body=json.dumps(json.loads(best) | {"parent": "rates"}).encode())
    assert found.sweep is not None


def test_validate_says_how_many_jobs_and_for_how_much(tmp_path: Path) -> None:
    result = run("validate", file(tmp_path))
    assert result.exit_code == 0, result.output
    assert "A sweep of 3 jobs, 2 at a time, for $6 in all and $3 each; the best by eval_loss (min)." in said(result)


def test_validate_says_what_a_job_follows(tmp_path: Path) -> None:
    result = run("validate", file(tmp_path, SWEEP + "after: first\n"))
    assert "Starts when first has succeeded, from its adapter." in said(result)


def test_validate_reminds_of_the_converter_that_no_manifest_can_bring(tmp_path: Path) -> None:
    remark = "only an image that holds llama.cpp's converter makes that file; Dropforge's own does not (docs/training.md, GGUF)"
    assert remark in said(run("validate", file(tmp_path, SWEEP + "adapter: {merge: true, gguf: true}\n")))
    assert remark not in said(run("validate", file(tmp_path)))


def test_validate_names_the_job_that_is_wrong(tmp_path: Path) -> None:
    result = run("validate", file(tmp_path, SWEEP.replace("4e-4", "4")))
    assert result.exit_code == 1
    assert "sweep makes rates-003 (learning_rate 4): training.learning_rate is out of range" in said(result)


def test_plan_has_a_line_for_each_job_and_the_dollars_of_all(bucket: Bucket, tmp_path: Path) -> None:
    result = run("plan", file(tmp_path), "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.output)
    assert [job["name"] for job in told["jobs"]] == ["rates-001", "rates-002", "rates-003"]
    assert told["usd"] == pytest.approx(sum(job["usd"] for job in told["jobs"]), abs=1e-3)
    assert (told["budget_usd"], told["limit_usd"]) == (6, 3)
    drawn = run("plan", file(tmp_path))
    assert "3 jobs: about $" in said(drawn)
    assert "learning_rate 0.0004" in said(drawn)


def test_plan_and_submit_refuse_a_sweep_of_which_one_job_cannot_be(bucket: Bucket, tmp_path: Path) -> None:
    bucket.stack.s3.put_object(Bucket="data", Key="models/m/config.json", Body=json.dumps(LLAMA_8B).encode())
    text = SWEEP.replace("training.learning_rate: [1e-4, 2e-4, 4e-4]", "adapter.type: [qlora, full]")
    planned = run("plan", file(tmp_path, text))
    assert planned.exit_code == 1
    assert "(rates-002)" in said(planned)
    sent = run("submit", file(tmp_path, text))
    assert sent.exit_code == 1
    assert "Not sent, for it would be refused" in said(sent)
    assert "Contents" not in bucket.stack.s3.list_objects_v2(Bucket="data", Prefix="jobs/")


def test_submit_says_what_the_whole_is_likely_to_cost(bucket: Bucket, tmp_path: Path) -> None:
    result = run("submit", file(tmp_path))
    assert result.exit_code == 0, result.output
    assert "3 jobs: about $" in said(result)


def test_the_jobs_of_a_sweep_stand_below_it_in_the_list(bucket: Bucket) -> None:
    put_family(bucket)
    lines = run("list").output.splitlines()
    at = next(n for n, line in enumerate(lines) if line.startswith("rates "))
    assert [line.split()[0] for line in lines[at : at + 3]] == ["rates", "rates-001", "rates-002"]
    assert lines[at + 1].startswith("  rates-001")
    assert "$0.75" in lines[at]


def test_a_sweep_can_be_listed_alone(bucket: Bucket) -> None:
    put_family(bucket)
    names = {row["name"] for row in json.loads(run("list", "--sweep", "rates", "--json").output)}
    assert names == {"rates", "rates-001", "rates-002"}
    assert "No sweep 'rats' in stack dropforge: `dropforge list` shows what there is." in said(run("list", "--sweep", "rats"))


def test_the_status_of_a_sweep_is_its_table(bucket: Bucket) -> None:
    put_family(bucket)
    text = said(run("status", "rates"))
    assert "rates-001 learning_rate 0.0001 1.25 $0.5000 SUCCEEDED" in text
    assert "rates-003 learning_rate 0.0004 not started" in text
    assert "cost $0.7500 of $6, 2 job(s) at a time" in text
    assert "a job of rates" in said(run("status", "rates-002"))


def test_one_job_of_a_sweep_is_cancelled_by_an_object_beside_the_manifest(bucket: Bucket) -> None:
    put_family(bucket)
    rehearsed = run("cancel", "rates-002", "--dry-run")
    assert "Would put s3://data/jobs/rates-002-abc123.cancel, which cancels rates-002-abc123" in said(rehearsed)
    assert "The other jobs of rates go on." in said(run("cancel", "rates-002", answer="n\n"))
    assert keys_below(bucket, "jobs/rates-002-") == []
    answer = json.loads(CliRunner().invoke(main, ["cancel", "rates-002", "--yes", "--json"]).stdout)
    assert answer == {"job_id": "rates-002-abc123", "deleted": False, "state": None}
    assert keys_below(bucket, "jobs/rates-002-") == ["jobs/rates-002-abc123.cancel"]
    assert bucket.stack.s3.head_object(Bucket="data", Key="jobs/rates.yaml")


def test_a_job_that_has_not_been_started_is_cancelled_in_the_same_way(bucket: Bucket) -> None:
    put_family(bucket)
    rehearsed = run("cancel", "rates-003", "--dry-run")
    assert "Would put s3://data/jobs/rates-003-abc123.cancel, which cancels rates-003-abc123 (not started)" in said(rehearsed)
    assert "Cancel rates-003-abc123 (not started)? It is never started then. The other jobs of rates go on." in said(run("cancel", "rates-003", answer="n\n"))
    assert keys_below(bucket, "jobs/rates-003-") == []
    result = run("cancel", "rates-003", "--yes")
    assert result.exit_code == 0, result.output
    assert "Look again: dropforge status rates" in said(result)
    assert keys_below(bucket, "jobs/rates-003-") == ["jobs/rates-003-abc123.cancel"]


def test_the_end_of_a_job_that_never_started_is_read_from_its_sweep(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    put_family(bucket)
    cancel = cancelling.cancel

    def heard(stack: Any, target: cancelling.Target) -> None:
        cancel(stack, target)
        sweep = json.loads(bucket.stack.s3.get_object(Bucket="data", Key="status/rates.json")["Body"].read())
        sweep["sweep"]["jobs"][2] |= {"state": "CANCELLED", "reason": "it was cancelled before it was started"}
        bucket.stack.s3.put_object(Bucket="data", Key="status/rates.json", Body=json.dumps(sweep).encode())

    monkeypatch.setattr(cancelling, "cancel", heard)
    assert "rates-003-abc123: CANCELLED: it was cancelled before it was started" in said(run("cancel", "rates-003", "--yes"))


def test_a_job_that_was_cancelled_before_its_start_has_its_sweeps_word_for_a_status_and_can_be_put_again(bucket: Bucket) -> None:
    put_family(bucket)
    keep_manifest_of_the_sweep(bucket, "rates")
    sweep = json.loads(bucket.stack.s3.get_object(Bucket="data", Key="status/rates.json")["Body"].read())
    sweep["sweep"]["jobs"][2] |= {"state": "CANCELLED", "reason": "it was cancelled before it was started"}
    bucket.stack.s3.put_object(Bucket="data", Key="status/rates.json", Body=json.dumps(sweep).encode())
    assert "rates-003-abc123 CANCELLED it was cancelled before it was started" in said(run("status", "rates-003"))
    assert "rates-003 is over already: CANCELLED" in said(run("cancel", "rates-003", "--yes"))
    assert run("retry", "rates-003").exit_code == 0
    own = read_manifest(bucket.stack.s3.get_object(Bucket="data", Key="jobs/rates-003.json")["Body"].read(), key="jobs/rates-003.json")
    assert isinstance(own, Manifest), own
    assert own.training.learning_rate == 4e-4


def test_a_job_of_an_earlier_sweep_is_not_taken_for_the_one_that_is_to_come(bucket: Bucket) -> None:
    put_family(bucket)
    bucket.put_status("rates-003", "SUCCEEDED", job_id="rates-003-0f0f0f0f0f", parent="rates")
    run("cancel", "rates-003", "--yes")
    assert keys_below(bucket, "jobs/rates-003-") == ["jobs/rates-003-abc123.cancel"]


def test_a_job_of_a_sweep_that_is_over_is_not_waited_for(bucket: Bucket) -> None:
    put_family(bucket, state="STOPPED_BUDGET")
    result = run("cancel", "rates-003", "--yes")
    assert result.exit_code == 1
    assert "rates-003 has not been started: its sweep is over (STOPPED_BUDGET). How that stands: dropforge status rates" in said(result)


def test_other_commands_say_that_a_job_of_a_sweep_has_not_been_started(bucket: Bucket) -> None:
    put_family(bucket)
    for command in ("status", "logs", "download", "retry"):
        result = run(command, "rates-003")
        assert result.exit_code == 1
        assert "rates-003 has not been started: its sweep does that when its turn comes. How that stands: dropforge status rates" in said(result)


def test_one_job_of_a_sweep_is_put_again_with_its_own_values_as_a_job_of_its_own(bucket: Bucket) -> None:
    put_family(bucket)
    keep_manifest_of_the_sweep(bucket, "rates-001")
    result = run("retry", "rates-001")
    assert result.exit_code == 0, result.output
    assert "It is a job of its own from here on: rates knows nothing of it." in said(result)
    key = "jobs/rates-001.json"
    assert f"to s3://data/{key}. Follow it: dropforge status rates-001 --watch" in said(result)
    own = read_manifest(bucket.stack.s3.get_object(Bucket="data", Key=key)["Body"].read(), key=key)
    assert isinstance(own, Manifest), own
    assert (own.name, own.training.learning_rate, own.limits.budget_usd, own.sweep) == ("rates-001", 1e-4, 3.0, None)


def test_a_job_that_its_sweep_would_not_make_is_not_put_again(bucket: Bucket) -> None:
    put_family(bucket)
    result = run("retry", "rates-001")
    assert result.exit_code == 1
    assert "makes no job rates-001 any more. The whole: dropforge retry rates" in said(result)


def keep_manifest_of_the_sweep(bucket: Bucket, name: str) -> None:
    """The status of that job names the sweep's own manifest, as the control plane writes it."""
    version = bucket.stack.s3.put_object(Bucket="data", Key="jobs/rates.yaml", Body=SWEEP.encode())["VersionId"]
    found = json.loads(bucket.stack.s3.get_object(Bucket="data", Key=f"status/{name}.json")["Body"].read())
    body = json.dumps(found | {"manifest": "s3://data/jobs/rates.yaml", "manifest_version": version})
    bucket.stack.s3.put_object(Bucket="data", Key=f"status/{name}.json", Body=body.encode())


def keys_below(bucket: Bucket, prefix: str) -> list[str]:
    return [item["Key"] for item in bucket.stack.s3.list_objects_v2(Bucket="data", Prefix=prefix).get("Contents", [])]


def test_cancelling_a_sweep_says_how_many_jobs_are_at_work(bucket: Bucket) -> None:
    put_family(bucket)
    result = run("cancel", "rates", answer="n\n")
    assert "1 of its jobs at work" in said(result)


def test_downloading_a_sweep_fetches_the_best(bucket: Bucket, tmp_path: Path) -> None:
    put_family(bucket, "SUCCEEDED")
    result = run("download", "rates", "--to", str(tmp_path / "best"))
    assert result.exit_code == 0, result.output
    assert (tmp_path / "best/adapter_model.safetensors").read_bytes() == b"weights"


def test_the_best_is_fetched_from_its_receipt_when_a_later_job_has_its_name(bucket: Bucket, tmp_path: Path) -> None:
    put_family(bucket, "SUCCEEDED")
    best = bucket.stack.s3.get_object(Bucket="data", Key="status/rates-001.json")["Body"].read()
    bucket.put_status("rates-001", "RUNNING", job_id="rates-001-another")
    lost = run("download", "rates", "--to", str(tmp_path / "best"))
    assert lost.exit_code == 1
    assert "aws s3 ls s3://outputs/runs/rates-001-abc123/" in said(lost)
    bucket.stack.s3.put_object(Bucket="data", Key="receipts/2026-11/rates-001-abc123.json", Body=best)
    assert run("download", "rates", "--to", str(tmp_path / "best")).exit_code == 0
    assert (tmp_path / "best/adapter_model.safetensors").read_bytes() == b"weights"


def test_the_page_of_a_sweep_is_written_like_any_other(bucket: Bucket, tmp_path: Path) -> None:
    put_family(bucket)
    result = run("report", "rates", "--to", str(tmp_path / "rates.html"))
    assert result.exit_code == 0, result.output
    assert "Jobs of the sweep" in (tmp_path / "rates.html").read_text()


def test_a_schedule_shows_its_next_time_and_its_jobs_below_it(bucket: Bucket) -> None:
    job = SweptJob(number=1, name="nightly-20261125-0300", job_id="nightly-20261125-0300-abc123", choice={}, state="RUNNING", cost_usd=0.5)
    bucket.put_status("nightly-20261125-0300", parent="nightly")
    bucket.put_status("other")
    table = ScheduleStatus(cron="0 3 * * *", timezone="UTC", next_at=datetime(2026, 11, 26, 3, tzinfo=UTC), jobs=(job,))
    bucket.put_status("nightly", "WAITING", schedule=table)
    assert "0 3 * * * (UTC); next: " in said(run("status", "nightly"))
    assert "nightly-20261125-0300 $0.5000 RUNNING" in said(run("status", "nightly"))
    lines = run("list").output.splitlines()
    assert lines[next(n for n, line in enumerate(lines) if line.startswith("nightly ")) + 1].startswith("  nightly-20261125-0300")


def test_validate_says_by_which_schedule(tmp_path: Path) -> None:
    text = SWEEP.partition("sweep:")[0] + "schedule: {cron: '0 3 * * mon-fri', timezone: Europe/Berlin}\n"
    assert "By schedule: 0 3 * * mon-fri (Europe/Berlin); one job at a time" in said(run("validate", file(tmp_path, text)))
