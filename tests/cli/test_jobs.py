"""The commands for jobs: what they say, put and delete; and that wrong words, gone things and doubts get a sentence and change nothing."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError, NoRegionError
from click.testing import CliRunner, Result

from dropforge import stack as stacks
from dropforge.cli import main
from dropforge.jobs import acting, cancelling, interrupt, logs
from jobspec import keys, wire
from jobspec.runfile import Progress, ProgressKind
from jobspec.status import ProblemLine, ScheduleStatus
from tests.cli.bucket import INSTANCE, MANIFEST, NOW, WRITER, Bucket, a_receipt, an_attempt, new_bucket


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    with new_bucket() as made:
        monkeypatch.setattr(stacks, "find_stack", lambda name: made.stack)
        monkeypatch.setattr(acting, "CANCELLED_WITHIN_S", 0.0)
        yield made


def run(*words: str, answer: str = "") -> Result:
    return CliRunner().invoke(main, list(words), input=answer)


def said(result: Result) -> str:
    return " ".join(result.output.split())


def manifest_versions(bucket: Bucket, name: str) -> list[dict[str, Any]]:
    listed = bucket.stack.s3.list_object_versions(Bucket="data", Prefix=f"jobs/{name}.yaml")
    return [*listed.get("Versions", []), *listed.get("DeleteMarkers", [])]


# --- which job -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["alpha", "alpha-abc123", "alp"])
def test_a_job_is_named_by_its_name_its_id_or_the_beginning_of_its_name(bucket: Bucket, word: str) -> None:
    bucket.put_status("alpha")
    bucket.put_status("beta")
    result = run("status", word)
    assert result.exit_code == 0, result.output
    assert "alpha-abc123" in result.output


def test_a_beginning_that_fits_several_names_lists_them(bucket: Bucket) -> None:
    bucket.put_status("alpha-1")
    bucket.put_status("alpha-2")
    result = run("status", "alpha")
    assert result.exit_code == 1
    assert "beginning of 2 jobs: alpha-1, alpha-2" in said(result)


def test_a_whole_name_wins_over_longer_ones_that_begin_with_it(bucket: Bucket) -> None:
    bucket.put_status("alpha")
    bucket.put_status("alpha-2")
    assert "alpha-abc123" in run("status", "alpha").output


def test_an_unknown_job_is_told_with_what_is_near_it(bucket: Bucket) -> None:
    bucket.put_status("alpha")
    result = run("status", "alhpa")
    assert result.exit_code == 1
    assert "No job 'alhpa'" in said(result)
    assert "Did you mean alpha?" in said(result)
    assert "dropforge list" in said(result)


def test_a_status_of_a_newer_version_is_told_as_such_and_not_as_a_stack_trace(bucket: Bucket) -> None:
    bucket.stack.s3.put_object(Bucket="data", Key="status/new.json", Body=b'{"version": 2}')
    result = run("status", "new")
    assert result.exit_code == 1
    assert "newer than this command" in said(result)
    assert "Traceback" not in result.output


# --- list and status ------------------------------------------------------------------------------------------------


def test_the_list_is_newest_first_and_shows_refused_manifests_beside_active_jobs(bucket: Bucket) -> None:
    bucket.put_status("old", accepted_at=NOW - timedelta(hours=2), receipt=a_receipt(), step=5, total_steps=10)
    refused = bucket.put_status("new", accepted_at=NOW).model_copy(update={"name": "old", "state": "REJECTED", "accepted_at": NOW - timedelta(hours=1)})
    bucket.stack.s3.put_object(Bucket="data", Key=keys.refused_key("old"), Body=wire.dump(refused))
    lines = run("list").output.splitlines()
    assert [line.split()[0] for line in lines] == ["job", "new", "old", "old"]
    assert "old (refused)" in "".join(lines)
    assert "5/10" in lines[-1]
    assert "$0.01" in lines[-1]


def test_a_pipe_gets_every_word_of_a_list_and_no_blanks_behind_it(bucket: Bucket) -> None:
    bucket.put_status("a", reason="why " * 100)
    bucket.put_status("b", reason="because")
    lines = run("list").output.splitlines()
    assert sorted(line.split("ago")[-1].count("why") for line in lines[1:]) == [0, 100]
    assert all(line == line.rstrip() for line in lines)


def test_the_list_can_be_of_some_states_and_as_json(bucket: Bucket) -> None:
    bucket.put_status("a", "RUNNING")
    bucket.put_status("b", "SUCCEEDED")
    bucket.put_status("c", "WAITING")
    assert {row["name"] for row in json.loads(run("list", "--json", "--state", "active").output)} == {"a", "c"}
    assert {row["name"] for row in json.loads(run("list", "--json", "--state", "succeeded", "--state", "WAITING").output)} == {"b", "c"}
    assert len(json.loads(run("list", "--json", "--limit", "1").output)) == 1
    assert "2 more: --limit 3" in run("list", "--limit", "1").output
    wrong = run("list", "--state", "runing")
    assert wrong.exit_code == 2
    assert "RUNNING" in wrong.output


def test_an_empty_list_says_how_to_begin(bucket: Bucket) -> None:
    assert "dropforge init" in run("list").output


def test_a_status_says_state_reason_attempts_money_and_the_next_step(bucket: Bucket) -> None:
    attempt = an_attempt(end="interrupted", ended_by="ec2", first_step=0, last_step=7, ended_at=NOW)
    bucket.put_status("x", "FAILED", attempts=(attempt,), receipt=a_receipt(), step=7, total_steps=10, loss=1.25)
    text = said(run("status", "x"))
    for part in ("FAILED because", "step 7 of 10, loss 1.2500", INSTANCE, "1m30s", "0-7", "interrupted", "ec2)", "saved $0.0150 (60 %)", "dropforge retry x"):
        assert part in text


def test_a_refused_manifest_shows_every_problem(bucket: Bucket) -> None:
    bucket.put_status("x", "REJECTED", problems=(ProblemLine(path="compute.gpu", line=4, message="is missing"),))
    assert "compute.gpu: is missing (line 4)" in run("status", "x").output


def test_watching_tells_the_story_and_exits_by_the_end(bucket: Bucket) -> None:
    bucket.put_status("good", "SUCCEEDED")
    bucket.put_status("bad", "FAILED")
    good, bad = run("status", "good", "--watch"), run("status", "bad", "--watch")
    assert (good.exit_code, bad.exit_code) == (0, 1)
    assert "control plane ACCEPTED: taken" in said(good)
    assert json.loads(CliRunner().invoke(main, ["status", "good", "--watch", "--json"]).stdout)["state"] == "SUCCEEDED"


def test_ctrl_c_while_watching_leaves_the_job_running_and_says_so(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket.put_status("x", "RUNNING")

    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", interrupted)
    result = run("status", "x", "--watch")
    assert result.exit_code == 130
    assert "The job goes on without you" in result.output
    assert len(manifest_versions(bucket, "x")) == 1


# --- cancel and retry -----------------------------------------------------------------------------------------------


def test_cancel_deletes_the_manifest_and_nothing_else(bucket: Bucket) -> None:
    bucket.put_status("x")
    bucket.put_status("y")
    result = run("cancel", "x", "--yes")
    assert result.exit_code == 0, result.output
    assert len(manifest_versions(bucket, "x")) == 2, "a delete marker over the version that retry will want"
    assert len(manifest_versions(bucket, "y")) == 1


@pytest.mark.parametrize(("words", "answer"), [(["--dry-run"], ""), ([], "n\n")])
def test_cancel_does_nothing_when_it_is_a_rehearsal_or_a_person_says_no(bucket: Bucket, words: list[str], answer: str) -> None:
    bucket.put_status("x")
    run("cancel", "x", *words, answer=answer)
    assert len(manifest_versions(bucket, "x")) == 1


def test_cancel_waits_for_the_end_and_tells_it(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    job = bucket.put_status("x")
    cancel = cancelling.cancel
    monkeypatch.setattr(cancelling, "cancel", lambda stack, target: (cancel(stack, target), bucket.write(job.model_copy(update={"state": "CANCELLED"}))))
    answer = json.loads(CliRunner().invoke(main, ["cancel", "x", "--yes", "--json"]).stdout)
    assert answer == {"job_id": "x-abc123", "deleted": True, "state": "CANCELLED"}


def test_cancel_says_every_five_seconds_that_it_still_waits(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket.put_status("x")
    monkeypatch.setattr(acting, "CANCELLED_WITHIN_S", 12.0)
    clock = iter(range(1000))
    monkeypatch.setattr(cancelling, "time", SimpleNamespace(monotonic=lambda: float(next(clock)), sleep=lambda _: None))
    result = run("cancel", "x", "--yes")
    assert [line for line in result.output.splitlines() if line.endswith(" ...")] == ["RUNNING after 5 s ...", "RUNNING after 10 s ..."]
    assert "It has not ended within 12 s" in said(result)


def test_a_job_that_is_over_cannot_be_cancelled_nor_a_running_one_put_again(bucket: Bucket) -> None:
    bucket.put_status("over", "SUCCEEDED")
    bucket.put_status("runs", "RUNNING")
    over, runs = run("cancel", "over", "--yes"), run("retry", "runs")
    assert (over.exit_code, runs.exit_code) == (1, 1)
    assert "is over already: SUCCEEDED" in said(over)
    assert "is not over: RUNNING" in said(runs)
    assert len(manifest_versions(bucket, "over")) == len(manifest_versions(bucket, "runs")) == 1


def test_retry_puts_the_version_that_ran_even_after_its_manifest_was_deleted(bucket: Bucket) -> None:
    bucket.put_status("x", "CANCELLED")
    bucket.stack.s3.delete_object(Bucket="data", Key="jobs/x.yaml")
    result = run("retry", "x")
    assert result.exit_code == 0, result.output
    assert bucket.stack.s3.get_object(Bucket="data", Key="jobs/x.yaml")["Body"].read() == MANIFEST % b"x"


def test_retry_refuses_a_deadline_that_is_past_and_a_version_that_is_gone(bucket: Bucket) -> None:
    job = bucket.put_status("x", "FAILED")
    late = (MANIFEST % b"x") + b"limits: {deadline: 2026-01-01T00:00:00Z}\n"
    version = bucket.stack.s3.put_object(Bucket="data", Key="jobs/x.yaml", Body=late)["VersionId"]
    bucket.write(job.model_copy(update={"manifest_version": version}))
    assert "limits.deadline, 2026-01-01 00:00 UTC, is past" in said(run("retry", "x"))
    bucket.stack.s3.delete_object(Bucket="data", Key="jobs/x.yaml", VersionId=version)
    assert "is gone" in said(run("retry", "x"))


# --- submit ---------------------------------------------------------------------------------------------------------


def test_submit_puts_the_file_as_it_is(bucket: Bucket, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_bytes(MANIFEST % b"mine")
    assert json.loads(CliRunner().invoke(main, ["submit", str(file), "--json"]).stdout) == {
        "name": "mine",
        "manifest": "s3://data/jobs/mine.yaml",
        "sent": True,
    }
    assert bucket.stack.s3.get_object(Bucket="data", Key="jobs/mine.yaml")["Body"].read() == MANIFEST % b"mine"


@pytest.mark.parametrize(("name", "body", "told"), [("bad.yaml", b"name: [", "not a valid manifest"), ("my job.yaml", MANIFEST % b"x", "rename it")])
def test_submit_puts_nothing_that_would_be_refused_or_not_heard_of(bucket: Bucket, tmp_path: Path, name: str, body: bytes, told: str) -> None:
    file = tmp_path / name
    file.write_bytes(body)
    result = run("submit", str(file))
    assert result.exit_code == 1
    assert told in said(result)
    assert bucket.stack.s3.list_objects_v2(Bucket="data", Prefix="jobs/").get("KeyCount") == 0


def test_submit_puts_nothing_beside_an_active_job_of_the_name(bucket: Bucket, tmp_path: Path) -> None:
    """Whoever then follows the name would follow the job that is there."""
    file = tmp_path / "other.yaml"
    file.write_bytes(MANIFEST % b"x")
    bucket.put_status("x", "WAITING")
    result = run("submit", str(file))
    assert result.exit_code == 1
    assert "Not sent, for it would be refused: x-abc123 is active (WAITING). Give this one another name; or end that one first: dropforge cancel x" in said(
        result
    )
    bucket.put_status("x", "FAILED")
    assert run("submit", str(file)).exit_code == 0


def test_submit_changes_a_schedule_by_its_manifest_and_by_no_other(bucket: Bucket, tmp_path: Path) -> None:
    table = ScheduleStatus(cron="0 3 * * *", timezone="UTC", jobs=())
    bucket.put_status("x", "WAITING", schedule=table, manifest="s3://data/jobs/nightly.yaml")
    for name, status in (("nightly.yaml", 0), ("other.yaml", 1)):
        (tmp_path / name).write_bytes(MANIFEST % b"x" + b"schedule: {cron: '0 4 * * *'}\n")
        assert run("submit", str(tmp_path / name)).exit_code == status


# --- download -------------------------------------------------------------------------------------------------------


def test_download_brings_every_file_checked_and_a_second_time_nothing(bucket: Bucket, tmp_path: Path) -> None:
    bucket.put_model("x", {"adapter.safetensors": b"weights", "tokenizer/vocab.json": b"{}"})
    first = run("download", "x", "--to", str(tmp_path / "x"))
    assert first.exit_code == 0, first.output
    assert (tmp_path / "x/adapter.safetensors").read_bytes() == b"weights"
    assert (tmp_path / "x/tokenizer/vocab.json").read_bytes() == b"{}"
    assert "0 were fetched" in run("download", "x", "--to", str(tmp_path / "x")).output


def test_a_file_that_is_not_what_the_instance_recorded_is_not_kept(bucket: Bucket, tmp_path: Path) -> None:
    status = bucket.put_model("x", {"adapter.safetensors": b"weights"})
    assert status.model is not None
    bucket.stack.s3.put_object(Bucket="outputs", Key=status.model.removeprefix("s3://outputs/") + "adapter.safetensors", Body=b"others!")
    result = run("download", "x", "--to", str(tmp_path))
    assert result.exit_code == 1
    assert "is not the file that was recorded" in said(result)
    assert list(tmp_path.iterdir()) == []


def test_download_does_not_replace_a_file_of_yours_unless_forced(bucket: Bucket, tmp_path: Path) -> None:
    bucket.put_model("x", {"adapter.safetensors": b"weights"})
    (tmp_path / "adapter.safetensors").write_bytes(b"mine")
    assert "--force" in run("download", "x", "--to", str(tmp_path)).output
    assert (tmp_path / "adapter.safetensors").read_bytes() == b"mine"
    assert run("download", "x", "--to", str(tmp_path), "--force").exit_code == 0
    assert (tmp_path / "adapter.safetensors").read_bytes() == b"weights"


def test_a_job_without_a_model_says_what_it_has(bucket: Bucket) -> None:
    bucket.put_status("x", "FAILED")
    assert "has no model: it is FAILED" in said(run("download", "x"))
    assert "published no checkpoint" in said(run("download", "x", "--checkpoint"))


# --- report ---------------------------------------------------------------------------------------------------------


def test_a_report_is_one_file_with_what_the_attempts_wrote_down(bucket: Bucket, tmp_path: Path) -> None:
    bucket.put_model("x", {"adapter.safetensors": b"weights"})
    line = Progress(kind=ProgressKind.STEP, at=NOW, step=3, loss=1.25)
    bucket.stack.s3.put_object(Bucket="outputs", Key=keys.logs_prefix("x-abc123", WRITER) + "progress.jsonl", Body=wire.dump(line).replace(b"\n", b"") + b"\n")
    result = run("report", "x", "--to", str(tmp_path / "x.html"))
    assert result.exit_code == 0, result.output
    page = (tmp_path / "x.html").read_text()
    assert 'aria-label="Loss: from 1.25 at step 3' in page
    assert "name: x" in page, "the manifest, in the version that ran"


def test_the_index_has_a_page_for_each_job_beside_it(bucket: Bucket, tmp_path: Path) -> None:
    bucket.put_status("a")
    bucket.put_status("b", "FAILED", attempts=(an_attempt(),), receipt=a_receipt())
    assert run("report", "--index", "--to", str(tmp_path / "index.html")).exit_code == 0
    assert {path.name for path in tmp_path.iterdir()} == {"index.html", "a-abc123.html", "b-abc123.html"}
    assert 'href="b-abc123.html"' in (tmp_path / "index.html").read_text()


@pytest.mark.parametrize("words", [[], ["x", "--index"]])
def test_a_report_is_of_one_job_or_of_all(bucket: Bucket, words: list[str]) -> None:
    assert run("report", *words).exit_code == 2


# --- cost -----------------------------------------------------------------------------------------------------------


def test_a_months_cost_counts_finished_jobs_by_their_receipts_and_each_job_once(bucket: Bucket) -> None:
    ran = an_attempt(launched_at=NOW, ended_at=NOW + timedelta(seconds=90))
    old = bucket.put_status("tale", "SUCCEEDED", attempts=(ran,), receipt=a_receipt())
    first = old.model_copy(update={"job_id": "tale-000001"})
    for status in (first, old):
        bucket.stack.s3.put_object(Bucket="data", Key=keys.receipt_key(status.accepted_at, status.job_id), Body=wire.dump(status))
    answer = json.loads(run("cost", "--month", "2026-11", "--json").output)
    assert {row["job_id"] for row in answer["jobs"]} == {"tale-000001", "tale-abc123"}
    assert (answer["cost_usd"], answer["on_demand_usd"]) == (0.02, 0.05)
    assert "60 % less than on-demand" in said(run("cost", "--month", "2026-11"))
    assert "No job" in run("cost", "--month", "2026-10").output


def test_a_job_over_the_end_of_a_month_is_in_both_by_its_time(bucket: Bucket) -> None:
    begin = datetime(2026, 11, 30, 23, 0, tzinfo=UTC)
    ran = an_attempt(launched_at=begin, ended_at=begin + timedelta(hours=4), runtime_s=4 * 3600.0, cost_usd=4.0)
    bucket.put_status("tale", "SUCCEEDED", accepted_at=begin, attempts=(ran,), receipt=a_receipt())
    costs = {month: json.loads(run("cost", "--month", month, "--json").output)["cost_usd"] for month in ("2026-11", "2026-12")}
    assert costs == {"2026-11": 1.0, "2026-12": 3.0}


def test_what_crossed_regions_is_in_the_month_of_the_attempts_end_and_in_what_the_status_shows(bucket: Bucket) -> None:
    begin = datetime(2026, 11, 30, 23, 0, tzinfo=UTC)
    ran = an_attempt(launched_at=begin, ended_at=begin + timedelta(hours=4), runtime_s=4 * 3600.0, cost_usd=4.0, egress_usd=0.5)
    receipt = a_receipt().model_copy(update={"cost_usd": 4.5, "egress_usd": 0.5})
    bucket.put_status("tale", "SUCCEEDED", accepted_at=begin, attempts=(ran,), receipt=receipt)
    costs = {month: json.loads(run("cost", "--month", month, "--json").output)["cost_usd"] for month in ("2026-11", "2026-12")}
    assert costs == {"2026-11": 1.0, "2026-12": 3.5}
    shown = said(run("status", "tale"))
    assert "cost $4.5000, $0.5000 of it for data between regions; on-demand" in shown
    assert "$4.0000 + $0.5000" in shown


def test_a_month_that_is_none_is_refused(bucket: Bucket) -> None:
    assert run("cost", "--month", "november").exit_code == 2


# --- logs -----------------------------------------------------------------------------------------------------------


class FakeLogs:
    """CloudWatch Logs' filter_log_events, by pages."""

    def __init__(self, pages: list[list[dict[str, Any]]]) -> None:
        self.pages, self.asked = pages, [dict[str, Any]()]

    def get_paginator(self, operation: str) -> "FakeLogs":
        assert operation == "filter_log_events"
        return self

    def paginate(self, **asked: Any) -> list[dict[str, Any]]:
        self.asked.append(asked)
        return [{"events": page} for page in self.pages]


def event(number: int, stream: str, at_ms: int = 0) -> dict[str, Any]:
    return {"eventId": str(number), "timestamp": at_ms or 1000 * number, "logStreamName": f"x-abc123/1/{stream}", "message": f"line {number}\n"}


def test_log_lines_come_in_order_over_streams_and_each_but_once() -> None:
    fake = FakeLogs([[event(2, "agent")], [event(1, "trainer")]])
    source = logs.CloudWatch(fake, "/dropforge/dropforge/instances", "x-abc123/1/", NOW)
    assert [(line.who, line.text) for line in source.fresh()] == [("trainer", "line 1"), ("agent", "line 2")]
    assert fake.asked[-1]["logStreamNamePrefix"] == "x-abc123/1/"
    late = int(NOW.timestamp() * 1000) + 90_000
    fake.pages = [[event(2, "agent"), event(3, "agent", late)]]
    assert [line.text for line in source.fresh()] == ["line 3"]
    source.fresh()
    assert fake.asked[-1]["startTime"] == late - logs.OVERLAP_MS


def test_a_local_instances_files_are_read_line_by_line(tmp_path: Path) -> None:
    folder = tmp_path / "var/lib/dropforge/logs"
    folder.mkdir(parents=True)
    (folder / "trainer.log").write_text("one\ntw")
    source = logs.Files(tmp_path)
    assert [(line.who, line.text) for line in source.fresh()] == [("trainer", "one")]
    (folder / "trainer.log").write_text("one\ntwo\n")
    assert [line.text for line in source.fresh()] == ["two"]


def test_logs_of_what_is_not_there_say_what_there_is(bucket: Bucket) -> None:
    bucket.put_status("none")
    bucket.put_status("one", attempts=(an_attempt(),))
    assert "has had no instance yet" in said(run("logs", "none"))
    assert "has no attempt 3; it has 1 to 1" in said(run("logs", "one", "--attempt", "3"))


# --- interrupt ------------------------------------------------------------------------------------------------------


class FakeFis:
    def __init__(self, states: list[str]) -> None:
        self.states, self.calls = states, list[tuple[str, dict[str, Any]]]()

    def create_experiment_template(self, **asked: Any) -> dict[str, Any]:
        self.calls.append(("create", asked))
        return {"experimentTemplate": {"id": "EXT1"}}

    def start_experiment(self, **asked: Any) -> dict[str, Any]:
        self.calls.append(("start", asked))
        return {"experiment": {"id": "EXP1"}}

    def get_experiment(self, **asked: Any) -> dict[str, Any]:
        return {"experiment": {"state": {"status": self.states.pop(0), "reason": "no such role"}}}

    def delete_experiment_template(self, **asked: Any) -> None:
        self.calls.append(("delete", asked))


class FakeDeployment:
    partition, region, account_id = "aws", "us-east-1", "123456789012"

    def __init__(self, fis: FakeFis) -> None:
        self.fis = fis

    def client(self, service: str, region: str) -> FakeFis:
        assert service == "fis"
        self.asked_in = region
        return self.fis


@pytest.mark.parametrize("region", ["us-east-1", "us-west-2"])
def test_fault_injection_names_one_instance_in_its_region_and_leaves_no_template_behind(region: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    fis = FakeFis(["pending", "running"])
    stack: Any = FakeDeployment(fis)
    assert interrupt.by_fault_injection(stack, "arn:aws:iam::123456789012:role/fis", an_attempt(zone=f"{region}c")) == "EXP1"
    assert [name for name, _ in fis.calls] == ["create", "start", "delete"]
    (target,) = fis.calls[0][1]["targets"].values()
    assert (stack.asked_in, target["resourceArns"]) == (region, [f"arn:aws:ec2:{region}:123456789012:instance/{INSTANCE}"])


def test_fault_injection_that_fails_is_told_and_its_template_goes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    fis = FakeFis(["failed"])
    stack: Any = FakeDeployment(fis)
    with pytest.raises(Exception, match="no such role"):
        interrupt.by_fault_injection(stack, "arn", an_attempt())
    assert fis.calls[-1][0] == "delete"


def test_interrupt_refuses_what_has_nothing_to_take_back(bucket: Bucket) -> None:
    bucket.put_status("over", "SUCCEEDED", attempts=(an_attempt(ended_at=NOW, end="completed"),))
    bucket.put_status("dear", attempts=(an_attempt(market="on-demand"),))
    bucket.put_status("spot", attempts=(an_attempt(),))
    assert "no live instance" in said(run("interrupt", "over", "--yes"))
    assert "on-demand instance" in said(run("interrupt", "dear", "--yes"))
    assert "--role-arn" in said(run("interrupt", "spot", "--yes"))
    assert "Nothing was done" in said(run("interrupt", "spot", "--dry-run"))


# --- what AWS refuses -----------------------------------------------------------------------------------------------

DENIED = ClientError({"Error": {"Code": "AccessDenied", "Message": "User: u is not authorized to perform: s3:GetObject on resource: r"}}, "GetObject")
EXPIRED = ClientError({"Error": {"Code": "ExpiredToken", "Message": "The provided token has expired."}}, "ListObjectsV2")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (DENIED, "You lack the right to s3:GetObject. The policies to attach: docs/jobs.md, Rights (jobs), and docs/operations.md, Rights (the stack)."),
        (EXPIRED, "The credentials are old or wrong. For an account: `aws configure`"),
        (NoCredentialsError(), 'eval "$(dropforge local env)"'),
        (NoRegionError(), "AWS_DEFAULT_REGION"),
        (EndpointConnectionError(endpoint_url="http://127.0.0.1:1"), "dropforge local status"),
        (RuntimeError("odd"), "dropforge --debug"),
    ],
)
def test_every_refusal_is_a_sentence_with_the_next_step(monkeypatch: pytest.MonkeyPatch, error: Exception, told: str) -> None:
    def refuse(name: str) -> None:
        raise error

    monkeypatch.setattr(stacks, "find_stack", refuse)
    result = run("list")
    assert result.exit_code == 1
    assert told in said(result)
    assert "Traceback" not in result.output


def test_debug_shows_where_it_happened(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        raise RuntimeError("odd")

    monkeypatch.setattr(stacks, "find_stack", refuse)
    assert isinstance(run("--debug", "list").exception, RuntimeError)
