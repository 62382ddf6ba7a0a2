"""The doors as Lambda calls them: real events, the real adapters, moto's account behind them."""

import copy
import json
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
import yaml
from moto import mock_aws

from control_plane.core.state import JobState
from control_plane.handlers import (
    budget,
    budget_relay,
    completion,
    curfew,
    door,
    instance_state,
    interruption,
    operator,
    publish_ledger,
    reconcile,
    report,
    submit,
)
from control_plane.settings import MissingSetting, settings_from
from jobspec import keys, wire
from jobspec.base import FileDigest
from jobspec.heartbeat import GpuUse, Heartbeat, Phase
from jobspec.marker import CompletionMarker, Outcome, Results
from jobspec.status import Status
from tests.contract.sides import MotoSide
from tests.driver.house import MANIFEST, MATERIAL

EVENTS = Path(__file__).parents[2] / "events"
DATA, OUTPUTS = "dropforge-databucket-example", "dropforge-outputsbucket-example"
CONTEXT = SimpleNamespace(
    function_name="f",
    memory_limit_in_mb=256,
    invoked_function_arn="arn:aws:lambda:us-east-1:1:function:f",
    aws_request_id="r",
    get_remaining_time_in_millis=lambda: 60_000,
)


def sample(name: str, **detail: Any) -> dict[str, Any]:
    """A committed sample event, with parts of its detail replaced."""
    event: dict[str, Any] = json.loads((EVENTS / f"{name}.json").read_text())
    return event | {"detail": event["detail"] | detail} if detail else event


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """A stack's resources in moto, and the functions' environment."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "testing")
    for name, value in {"AWS_DEFAULT_REGION": "us-east-1", "MOTO_EC2_LOAD_DEFAULT_AMIS": "false"}.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    with mock_aws():
        s3, ec2, sns, sqs = (boto3.client(name) for name in ("s3", "ec2", "sns", "sqs"))
        for bucket in (DATA, OUTPUTS):
            s3.create_bucket(Bucket=bucket)
            s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        for key, body in MATERIAL.items():
            s3.put_object(Bucket=DATA, Key=key, Body=body)
        MotoSide().job_table()
        subnets = [subnet["SubnetId"] for subnet in ec2.describe_subnets()["Subnets"]][:2]
        image = ec2.register_image(Name="gpu", RootDeviceName="/dev/sda1")["ImageId"]
        template = ec2.create_launch_template(LaunchTemplateName="lt", LaunchTemplateData={"ImageId": image, "InstanceType": "g5.xlarge"})["LaunchTemplate"]
        topic = sns.create_topic(Name="mail")["TopicArn"]
        queue = sqs.create_queue(QueueName="inbox")["QueueUrl"]
        sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"])
        environment = {
            "PROJECT": "dropforge",
            "TABLE_NAME": "jobs",
            "DATA_BUCKET": DATA,
            "OUTPUTS_BUCKET": OUTPUTS,
            "TOPIC_ARN": topic,
            "INSTANCE_ROLE_ID": "AROAEXAMPLEID",
            "LAUNCH_TEMPLATE_ID": template["LaunchTemplateId"],
            "LAUNCH_TEMPLATE_VERSION": "1",
            "SUBNET_IDS": ",".join(subnets),
            "HEARTBEAT_SECONDS": "30",
            "NOTICE_SECONDS": "120",
            "STRAY_GRACE_SECONDS": "300",
            "MAX_CONCURRENT_JOBS": "10",
            "BUDGET_ACTION": "pause",
            "MONTHLY_CAP_USD": "200",
            "VOLUME_GIB": "150",
        }
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        door.rooms.cache_clear()

        def inbox() -> list[dict[str, Any]]:
            found = []
            while messages := sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", []):
                for message in messages:
                    found.append(json.loads(message["Body"]))
                    sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
            return found

        yield SimpleNamespace(s3=s3, ec2=ec2, inbox=inbox, environment=environment)


def put_manifest(account: SimpleNamespace, key: str = "jobs/tiny.yaml", **changes: Any) -> dict[str, Any]:
    account.s3.put_object(Bucket=DATA, Key=key, Body=yaml.safe_dump({**MANIFEST, **changes}).encode())
    answer: dict[str, Any] = submit.handler(sample("manifest-created", object={"key": key}), CONTEXT)
    return answer


def counts(capsys: pytest.CaptureFixture[str]) -> dict[str, float]:
    """The metrics of the last invocation, as CloudWatch reads them out of the log (its embedded metric format)."""
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if '"_aws"' in line]
    names = [metric["Name"] for metric in lines[-1]["_aws"]["CloudWatchMetrics"][0]["Metrics"]]
    return {name: float(sum(lines[-1][name])) for name in names}


def live(account: SimpleNamespace) -> list[str]:
    found = [i for r in account.ec2.describe_instances()["Reservations"] for i in r["Instances"]]
    return [i["InstanceId"] for i in found if i["State"]["Name"] in ("pending", "running")]


def marker_of(account: SimpleNamespace, job_id: str, instance_id: str, attempt: int) -> str:
    writer = keys.writer_of("AROAEXAMPLEID", instance_id)
    account.s3.put_object(Bucket=OUTPUTS, Key=keys.run_prefix(job_id, writer) + "final/a.safetensors", Body=b"w")
    digest = "50e721e49c013f00c62cf59f2163542a9d8df02464efeb615d31051b0fddc326"
    marker = CompletionMarker(
        job_id=job_id,
        attempt=attempt,
        instance_id=instance_id,
        outcome=Outcome.COMPLETED,
        at="2026-11-01T00:00:00Z",
        files=(FileDigest(path="final/a.safetensors", size=1, sha256=digest),),
        results=Results(steps=3),
    )
    key = keys.marker_key(job_id, writer)
    account.s3.put_object(Bucket=OUTPUTS, Key=key, Body=wire.dump(marker))
    return key


def test_one_job_through_every_door(account: SimpleNamespace) -> None:
    answer = put_manifest(account)
    assert answer["state"] == JobState.LAUNCHED
    (first,) = live(account)
    job_id = answer["job_id"]
    writer = keys.writer_of("AROAEXAMPLEID", first)
    beat = Heartbeat(job_id=job_id, attempt=1, instance_id=first, seq=1, at="2026-11-01T00:00:00Z", phase=Phase.TRAINING, step=5, total_steps=9)
    account.s3.put_object(Bucket=OUTPUTS, Key=keys.heartbeat_key(job_id, writer), Body=wire.dump(beat))
    assert reconcile.handler(sample("tick"), CONTEXT)["JobsDriven"] == 1
    interruption.handler(sample("spot-interruption-warning", **{"instance-id": first}), CONTEXT)
    assert len(live(account)) == 2
    second = next(i for i in live(account) if i != first)
    account.ec2.terminate_instances(InstanceIds=[first])
    assert instance_state.handler(sample("instance-terminated", **{"instance-id": first}), CONTEXT)["outcome"] == "done"
    key = marker_of(account, job_id, second, 2)
    done = completion.handler(sample("marker-created", object={"key": key}), CONTEXT)
    assert done["state"] == JobState.SUCCEEDED
    assert live(account) == []
    for _ in range(2):
        reconcile.handler(sample("tick"), CONTEXT)
    assert reconcile.handler(sample("tick"), CONTEXT)["JobsDriven"] == 0, "settled"
    (mail,) = account.inbox()
    assert "finished" in mail["Subject"]
    status = json.loads(account.s3.get_object(Bucket=DATA, Key="status/tale.json")["Body"].read())
    assert status["state"] == "SUCCEEDED"


def test_a_written_status_becomes_a_page_and_the_next_one_replaces_it(account: SimpleNamespace) -> None:
    put_manifest(account)
    key = keys.status_key("tale")
    status = wire.load(Status, account.s3.get_object(Bucket=DATA, Key=key)["Body"].read())
    for word in ("the first word", "a newer word"):
        account.s3.put_object(Bucket=DATA, Key=key, Body=wire.dump(status.model_copy(update={"reason": word})))
        assert report.handler(sample("status-created", bucket={"name": DATA}, object={"key": key}), CONTEXT)["page"] == keys.report_key("tale")
        page = account.s3.get_object(Bucket=DATA, Key=keys.report_key("tale"))
        assert page["ContentType"] == "text/html; charset=utf-8"
        text = page["Body"].read().decode()
        assert word in text
        assert "data/train.jsonl" in text


def test_a_deleted_manifest_cancels(account: SimpleNamespace) -> None:
    put_manifest(account)
    account.s3.delete_object(Bucket=DATA, Key="jobs/tiny.yaml")
    assert submit.handler(sample("manifest-deleted"), CONTEXT)["state"] == JobState.CANCELLED
    assert live(account) == []


def test_a_hostile_manifest_is_rejected_and_its_event_succeeds(account: SimpleNamespace) -> None:
    account.s3.put_object(Bucket=DATA, Key="jobs/tiny.yaml", Body=b"a: &a [*a]\n" + b"\x00" * 10)
    assert submit.handler(sample("manifest-created"), CONTEXT)["state"] == JobState.REJECTED
    assert len(account.inbox()) == 1


def test_a_foreign_instances_event_is_ignored(account: SimpleNamespace) -> None:
    for name in ("spot-interruption-warning", "rebalance-recommendation", "instance-terminated", "instance-shutting-down"):
        handler = instance_state.handler if name.startswith("instance") else interruption.handler
        assert handler(sample(name), CONTEXT)["outcome"] == "ignored", name


NOT_EVENTS: tuple[Any, ...] = (
    {},
    {"source": "aws.s3"},
    {"detail": None},
    {"detail": []},
    [],
    "text",
    {"source": ["aws.ec2"], "detail-type": {}, "detail": {"instance-id": 7}},
    {"Records": [None, {"Sns": "x"}]},
)


def test_an_event_that_is_none_is_ignored_and_never_raises(account: SimpleNamespace) -> None:
    for module in (submit, interruption, instance_state, completion, budget, budget_relay, publish_ledger):
        for event in NOT_EVENTS:
            assert module.handler(copy.deepcopy(event), CONTEXT)["outcome"] == "ignored", (module.__name__, event)


def test_another_buckets_or_prefixs_object_is_ignored(account: SimpleNamespace) -> None:
    assert submit.handler(sample("manifest-created", bucket={"name": "someone-elses"}), CONTEXT)["outcome"] == "ignored"
    assert submit.handler(sample("manifest-created", object={"key": "status/tiny.json"}), CONTEXT)["outcome"] == "ignored"
    assert completion.handler(sample("marker-created"), CONTEXT)["outcome"] == "ignored", "nobody's instance"


def test_a_forged_marker_of_an_instance_under_another_job_is_ignored(account: SimpleNamespace) -> None:
    job_id = put_manifest(account)["job_id"]
    (first,) = live(account)
    key = marker_of(account, "other-0123456789", first, 1)
    answer = completion.handler(sample("marker-created", object={"key": key}), CONTEXT)
    assert answer["outcome"] == "ignored"
    assert job_id in {i["Tags"][n]["Value"] for r in account.ec2.describe_instances()["Reservations"] for i in r["Instances"] for n in range(len(i["Tags"]))}


def test_aws_budgets_mail_holds_new_launches_through_the_bus(account: SimpleNamespace) -> None:
    relayed = budget_relay.handler(sample("budget-mail-sns"), CONTEXT)
    assert relayed["relayed"] == 1
    assert "held" in budget.handler(sample("budget-alert"), CONTEXT)["did"]
    assert put_manifest(account)["state"] == JobState.WAITING
    assert live(account) == []
    assert any("budget alert" in mail["Subject"] for mail in account.inbox())


def test_another_projects_budget_is_ignored(account: SimpleNamespace) -> None:
    assert budget.handler(sample("budget-alert", project="other"), CONTEXT)["outcome"] == "ignored"


def test_a_tick_that_fails_in_part_does_the_rest_counts_it_and_raises(
    account: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    put_manifest(account)
    monkeypatch.setattr(door.rooms().driver.fleets.at(""), "launch", lambda *_: (_ for _ in ()).throw(ConnectionError("no answer")))
    account.s3.put_object(Bucket=DATA, Key="jobs/two.yaml", Body=yaml.safe_dump({**MANIFEST, "name": "two"}).encode())
    with pytest.raises(Exception, match="no answer"):
        submit.handler(sample("manifest-created", object={"key": "jobs/two.yaml"}), CONTEXT)
    capsys.readouterr()
    with pytest.raises(reconcile.TickFailed, match="two-"):
        reconcile.handler(sample("tick"), CONTEXT)
    counted = counts(capsys)
    assert (counted["JobsDriven"], counted["LiveInstances"]) == (1, 1), "what a failing tick did is counted too"


def test_what_a_door_did_is_counted_though_it_raises_in_the_end(
    account: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(door.rooms().driver.objects, "put", lambda *_: (_ for _ in ()).throw(ConnectionError("no ticket")))
    with pytest.raises(Exception, match="no ticket"):
        put_manifest(account)
    counted = counts(capsys)
    assert counted["AttemptsStarted"] == 1


def test_dollars_and_percent_are_sent_in_their_units(account: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    answer = put_manifest(account)
    (first,) = live(account)
    use = GpuUse(index=0, percent=2, memory_mib=900, memory_total_mib=24564, window_s=1800)
    beat = Heartbeat(job_id=answer["job_id"], attempt=1, instance_id=first, seq=1, at="2026-11-01T00:00:00Z", phase=Phase.TRAINING, gpus=(use,))
    account.s3.put_object(Bucket=OUTPUTS, Key=keys.heartbeat_key(answer["job_id"], keys.writer_of("AROAEXAMPLEID", first)), Body=wire.dump(beat))
    capsys.readouterr()
    reconcile.handler(sample("tick"), CONTEXT)
    (told,) = [json.loads(line) for line in capsys.readouterr().out.splitlines() if '"_aws"' in line]
    units = {metric["Name"]: metric["Unit"] for metric in told["_aws"]["CloudWatchMetrics"][0]["Metrics"]}
    assert (units["GpuPercent"], units["SpendUsdPerHour"], units["SpendUsdThisMonth"], units["IdleGpus"]) == ("Percent", "None", "None", "Count")
    assert (told["GpuPercent"], told["IdleGpus"], told["JobsRunning"], told["StaleHeartbeats"]) == ([2.0], [1.0], [1.0], [0.0])


def test_between_jobs_nothing_is_sent_that_is_billed(account: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    with warnings.catch_warnings(record=True) as complaints:
        assert reconcile.handler(sample("tick"), CONTEXT)["outcome"] == curfew.handler({}, CONTEXT)["outcome"] == "done"
    assert '"_aws"' not in capsys.readouterr().out
    assert complaints == []


def test_a_missing_setting_is_named(account: SimpleNamespace) -> None:
    with pytest.raises(MissingSetting, match="TOPIC_ARN"):
        settings_from({name: value for name, value in account.environment.items() if name != "TOPIC_ARN"})


def test_no_log_line_holds_what_a_stranger_wrote(account: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    event = sample("manifest-created", object={"key": "jobs/x.yaml"}, note="canary-7f3a")
    submit.handler(event, CONTEXT)
    assert "canary-7f3a" not in capsys.readouterr().out


def note_of(mail: dict[str, Any]) -> dict[str, Any]:
    """What the topic's second subscriber is given for a mail that the first one got."""
    event = sample("published-notice-sns")
    event["Records"][0]["Sns"] |= {key: mail[key] for key in ("MessageId", "Subject", "Message", "MessageAttributes")}
    return event


def test_a_published_notice_is_noted_once_however_often_it_is_delivered(account: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    account.s3.put_object(Bucket=DATA, Key="jobs/tiny.yaml", Body=b"\x00")
    job_id = submit.handler(sample("manifest-created"), CONTEXT)["job_id"]
    (mail,) = account.inbox()
    ledger = door.rooms().ledger
    assert not ledger.knows(f"{job_id}#end")
    capsys.readouterr()
    for _ in range(2):
        assert publish_ledger.handler(note_of(mail), CONTEXT)["noted"] == 1
        assert counts(capsys)["NoticesDoubled"] == 0
    assert ledger.knows(f"{job_id}#end")
    publish_ledger.handler(note_of({**mail, "MessageId": "another-publish"}), CONTEXT)
    assert counts(capsys)["NoticesDoubled"] == 1, "two e-mails went out: somebody must know"


def test_the_sample_of_a_published_notice_is_noted(account: SimpleNamespace) -> None:
    event = sample("published-notice-sns")
    assert publish_ledger.handler(event, CONTEXT)["noted"] == 1
    assert door.rooms().ledger.knows(event["Records"][0]["Sns"]["MessageAttributes"]["notice_id"]["Value"])


def test_two_budget_letters_in_one_hour_are_no_doubled_notice(account: SimpleNamespace) -> None:
    for _ in range(2):
        budget.handler(sample("budget-alert"), CONTEXT)
    first, second = account.inbox()
    for mail in (first, second):
        assert publish_ledger.handler(note_of(mail), CONTEXT)["outcome"] == "ignored", "the project's letters are no job's notices"


def overdue_instance(account: SimpleNamespace, **own_tags: str) -> str:
    known = {"dropforge:project": "dropforge", "dropforge:deadline": "1"} | own_tags
    spec = [{"ResourceType": "instance", "Tags": [{"Key": key, "Value": value} for key, value in known.items()]}]
    answer = account.ec2.run_instances(ImageId="ami-0123456789abcdef0", MinCount=1, MaxCount=1, InstanceType="g5.xlarge", TagSpecifications=spec)
    return str(answer["Instances"][0]["InstanceId"])


def test_the_curfew_ends_what_is_overdue_and_counts_it(account: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    overdue_instance(account)
    foreign = overdue_instance(account, **{"dropforge:project": "somebody-else"})
    timely = overdue_instance(account, **{"dropforge:deadline": "9999999999"})
    assert curfew.handler(sample("curfew"), CONTEXT)["OverdueInstances"] == 1
    assert counts(capsys)["OverdueInstances"] == 1
    assert set(live(account)) == {foreign, timely}
    assert curfew.handler(sample("curfew"), CONTEXT)["OverdueInstances"] == 0


def test_an_overdue_instance_that_cannot_be_ended_is_counted_and_raised(
    account: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    instance_id = overdue_instance(account)
    monkeypatch.setattr(door.rooms().fleets.at(""), "terminate", lambda _: (_ for _ in ()).throw(ConnectionError("no answer")))
    with pytest.raises(curfew.NotEnded, match=f"{instance_id}: ConnectionError: no answer"):
        curfew.handler(sample("curfew"), CONTEXT)
    assert counts(capsys)["OverdueInstances"] == 1, "the alarm on this count must not fall silent in the worst case"


def test_the_curfew_asks_for_nothing_but_ec2(account: SimpleNamespace) -> None:
    curfew.handler(sample("curfew"), CONTEXT)
    assert set(vars(door.rooms())) == {"settings", "now", "each", "pause", "_client", "_counted", "fleets"}


@pytest.fixture
def at_the_quarter(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next quarter of an hour that is at least as far away as an event needs to arrive."""
    soon = datetime.now(UTC) + timedelta(minutes=18)
    monkeypatch.setattr(door, "_now", lambda: soon.replace(minute=soon.minute // 15 * 15, second=7))


@pytest.mark.usefixtures("at_the_quarter")
def test_a_manifest_whose_event_was_lost_is_taken_up_by_the_tick(account: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    door.rooms.cache_clear()
    account.s3.put_object(Bucket=DATA, Key="jobs/tiny.yaml", Body=yaml.safe_dump(MANIFEST).encode())
    assert reconcile.handler(sample("tick"), CONTEXT)["ManifestsFound"] == 1
    assert counts(capsys)["ManifestsFound"] == 1
    assert len(live(account)) == 1
    assert reconcile.handler(sample("tick"), CONTEXT)["ManifestsFound"] == 0


@pytest.mark.usefixtures("at_the_quarter")
def test_a_tick_without_time_takes_up_nothing_and_says_what_it_left(account: SimpleNamespace) -> None:
    put_manifest(account)
    account.s3.put_object(Bucket=DATA, Key="jobs/two.yaml", Body=yaml.safe_dump({**MANIFEST, "name": "two"}).encode())
    door.rooms.cache_clear()
    late = SimpleNamespace(**vars(CONTEXT) | {"get_remaining_time_in_millis": lambda: 15_000})
    answer = reconcile.handler(sample("tick"), late)
    assert (answer["JobsLeft"], answer["JobsDriven"], answer["ManifestsFound"]) == (1, 0, 0)


def test_a_person_holds_and_lifts_launches(account: SimpleNamespace) -> None:
    now = datetime.now(UTC)
    ask = {"asked_at": now.isoformat()}
    assert operator.handler(sample("operator-request", **ask), CONTEXT)["did"] == "pause"
    assert put_manifest(account)["state"] == JobState.WAITING
    assert live(account) == []
    assert operator.handler(sample("operator-request", **ask, action="resume"), CONTEXT)["did"] == "resume"
    reconcile.handler(sample("tick"), CONTEXT)
    assert len(live(account)) == 1


def test_a_request_that_nobody_waits_for_or_that_a_newer_pause_overtook_changes_nothing(account: SimpleNamespace) -> None:
    now = datetime.now(UTC)
    old = operator.handler(sample("operator-request", asked_at=(now - timedelta(hours=1)).isoformat()), CONTEXT)
    assert (old["outcome"], "nobody waits" in old["reason"]) == ("ignored", True)
    operator.handler(sample("operator-request", asked_at=now.isoformat()), CONTEXT)
    late = operator.handler(sample("operator-request", asked_at=(now - timedelta(seconds=30)).isoformat(), action="resume"), CONTEXT)
    assert late["outcome"] == "ignored"
    assert put_manifest(account)["state"] == JobState.WAITING


def test_another_projects_request_is_ignored(account: SimpleNamespace) -> None:
    assert operator.handler(sample("operator-request", project="another"), CONTEXT)["outcome"] == "ignored"


def test_an_older_pause_that_comes_after_a_resume_holds_nothing(account: SimpleNamespace) -> None:
    """The bus keeps no order and delivers at least once: a second delivery of the pause may be the last thing to come."""
    now = datetime.now(UTC)
    pause = sample("operator-request", asked_at=(now - timedelta(seconds=20)).isoformat())
    operator.handler(pause, CONTEXT)
    operator.handler(sample("operator-request", asked_at=now.isoformat(), action="resume"), CONTEXT)
    assert operator.handler(pause, CONTEXT)["outcome"] == "ignored"
    assert put_manifest(account)["state"] == JobState.LAUNCHED
