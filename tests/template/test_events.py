"""Which event wakes which function: the real samples in ``events/``, the rules' patterns, and the parsers behind them."""

import copy
import json
from typing import Any

import pytest

from control_plane.core.events import Ignored
from control_plane.parsers import (
    parse_budget_event,
    parse_interruption_event,
    parse_mails,
    parse_manifest_event,
    parse_marker_event,
    parse_published,
    parse_state_event,
    parse_status_event,
)
from jobspec import keys
from tests.template.stack import ROOT, Stack, matches

DATA, OUTPUTS = "<DataBucket>", "<OutputsBucket>"
WAKES = {
    "spot-interruption-warning": "InterruptionFunctionSpotWarned",
    "rebalance-recommendation": "InterruptionFunctionSpotWarned",
    "instance-shutting-down": "InstanceStateFunctionInstanceEnding",
    "instance-terminated": "InstanceStateFunctionInstanceEnding",
    "manifest-created": "SubmitFunctionManifestChanged",
    "manifest-deleted": "SubmitFunctionManifestChanged",
    "marker-created": "CompletionFunctionMarkerWritten",
    "status-created": "ReportFunctionStatusWritten",
    "budget-alert": "BudgetFunctionBudgetAlert",
    "operator-request": "OperatorFunctionOperatorRequest",
}
#: A schedule and a subscription deliver these; no pattern does.
WITHOUT_PATTERN = {"tick", "curfew", "budget-mail-sns", "published-notice-sns"}


def _event(name: str) -> dict[str, Any]:
    """A sample, with the stack's own bucket for the example's."""
    event: dict[str, Any] = json.loads((ROOT / f"events/{name}.json").read_text())
    bucket = event.get("detail", {}).get("bucket")
    if bucket:
        bucket["name"] = OUTPUTS if name == "marker-created" else DATA
    return event


def _woken(event: dict[str, Any]) -> list[str]:
    rules = Stack().of_type("AWS::Events::Rule")
    return [name for name, rule in rules.items() if "EventPattern" in rule and matches(rule["EventPattern"], event)]


def _s3(bucket: str, key: str, detail_type: str = "Object Created") -> dict[str, Any]:
    event = copy.deepcopy(_event("manifest-created"))
    event["detail-type"] = detail_type
    event["detail"]["bucket"]["name"] = bucket
    event["detail"]["object"]["key"] = key
    return event


def test_every_sample_is_named_here_and_in_the_readme() -> None:
    names = {path.stem for path in (ROOT / "events").glob("*.json")}
    assert names == WAKES.keys() | WITHOUT_PATTERN
    readme = (ROOT / "events/README.md").read_text()
    assert [name for name in names if f"`{name}.json`" not in readme] == []


@pytest.mark.parametrize(("name", "rule"), WAKES.items())
def test_every_sample_wakes_exactly_its_function(name: str, rule: str) -> None:
    assert _woken(_event(name)) == [rule]


@pytest.mark.parametrize("detail_type", ["Object Created", "Object Deleted"])
@pytest.mark.parametrize(
    "key",
    [
        keys.report_key("tiny"),
        keys.receipts_prefix("2026-11") + "tiny-0.json",
        keys.ticket_key("AROAEXAMPLEID:i-0aaaaaaaaaaaaaaaa"),
        keys.stop_key("AROAEXAMPLEID:i-0aaaaaaaaaaaaaaaa"),
        "data/jobs/train.jsonl",
        "jobsx/tiny.yaml",
    ],
)
def test_what_the_control_plane_writes_wakes_nobody(key: str, detail_type: str) -> None:
    assert _woken(_s3(DATA, key, detail_type)) == []


@pytest.mark.parametrize("key", [keys.status_key("tiny"), keys.refused_key("tiny")])
def test_a_written_status_wakes_nobody_but_who_draws_its_page(key: str) -> None:
    """Its page, ``reports/``, wakes nobody: see above."""
    assert _woken(_s3(DATA, key)) == ["ReportFunctionStatusWritten"]
    assert _woken(_s3(DATA, key, "Object Deleted")) == []
    assert _woken(_s3(OUTPUTS, key)) == []


def test_a_pattern_without_its_prefix_would_loop_and_is_noticed() -> None:
    rule = copy.deepcopy(Stack().properties("SubmitFunctionManifestChanged"))
    del rule["EventPattern"]["detail"]["object"]
    assert matches(rule["EventPattern"], _s3(DATA, keys.status_key("tiny")))


@pytest.mark.parametrize("key", [keys.heartbeat_key("j", "AROAX:i-0aaaaaaa"), keys.final_prefix("j", "AROAX:i-0aaaaaaa") + "completion.json.txt"])
def test_of_what_instances_write_only_a_marker_wakes_anybody(key: str) -> None:
    assert _woken(_s3(OUTPUTS, key)) == []
    assert _woken(_s3(OUTPUTS, keys.marker_key("j", "AROAX:i-0aaaaaaa"))) == ["CompletionFunctionMarkerWritten"]


def test_another_bucket_another_project_and_a_starting_instance_wake_nobody() -> None:
    assert _woken(_s3("somebody-elses", "jobs/tiny.yaml")) == []
    alert = _event("budget-alert")
    alert["detail"]["project"] = "another"
    assert _woken(alert) == []
    change = _event("instance-terminated")
    change["detail"]["state"] = "running"
    assert _woken(change) == []


def test_the_parsers_read_every_sample() -> None:
    read = [
        parse_interruption_event(_event("spot-interruption-warning")),
        parse_interruption_event(_event("rebalance-recommendation")),
        parse_state_event(_event("instance-shutting-down")),
        parse_state_event(_event("instance-terminated")),
        parse_manifest_event(_event("manifest-created"), DATA),
        parse_manifest_event(_event("manifest-deleted"), DATA),
        parse_marker_event(_event("marker-created"), OUTPUTS),
        parse_status_event(_event("status-created"), DATA),
        parse_budget_event(_event("budget-alert"), "dropforge"),
    ]
    assert [result for result in read if isinstance(result, Ignored)] == []
    assert len(parse_mails(_event("budget-mail-sns"))) == 1
    assert [one.notice_id for one in parse_published(_event("published-notice-sns"))] == ["tiny-0123456789ab#end"]
    assert parse_published(_event("budget-mail-sns")) == ()


def test_the_tick_comes_every_minute_and_gives_way_to_the_next() -> None:
    tick = Stack().properties("ReconcileFunctionTick")
    assert tick["ScheduleExpression"] == "rate(1 minute)"
    assert tick["Targets"][0]["RetryPolicy"] == {"MaximumRetryAttempts": 2, "MaximumEventAgeInSeconds": 120}


def test_the_curfew_comes_by_a_scheduler_that_is_not_the_ticks() -> None:
    stack = Stack()
    (curfew,) = stack.of_type("AWS::Scheduler::Schedule").values()
    assert (curfew["ScheduleExpression"], curfew["FlexibleTimeWindow"]) == ("rate(5 minutes)", {"Mode": "OFF"})
    assert (curfew["Target"]["Arn"], curfew["Target"]["RoleArn"]) == ("<CurfewFunction.Arn>", "<CurfewScheduleRole.Arn>")
    assert "Name" not in curfew, "a fixed name would be taken by the account's other stack"
    woken_by_rules = {target["Arn"] for rule in stack.of_type("AWS::Events::Rule").values() for target in rule["Targets"]}
    assert "<CurfewFunction.Arn>" not in woken_by_rules
    assert "<ReconcileFunction.Arn>" in woken_by_rules


def test_only_the_curfews_schedule_of_this_account_wakes_the_curfew() -> None:
    role = Stack().properties("CurfewScheduleRole")
    (trust,) = role["AssumeRolePolicyDocument"]["Statement"]
    assert trust["Principal"] == {"Service": "scheduler.amazonaws.com"}
    assert trust["Condition"] == {
        "StringEquals": {"aws:SourceAccount": "111122223333"},
        "ArnEquals": {"aws:SourceArn": "arn:aws:scheduler:eu-west-1:111122223333:schedule-group/default"},
    }
    allows = [(s["Action"], s["Resource"]) for s in role["Policies"][0]["PolicyDocument"]["Statement"]]
    assert allows == [("lambda:InvokeFunction", "<CurfewFunction.Arn>"), ("sqs:SendMessage", "<DeadLetters.Arn>")]
