"""Every way to fail that money or a job hangs on has an alarm, and every number that alarms and dashboard read is one that is sent."""

import json
from typing import Any

import pytest

from control_plane.core import measures
from control_plane.handlers import curfew, publish_ledger
from jobspec.manifest import Notify
from jobspec.marker import FailureCode
from tests.core.worlds import gpu
from tests.driver.house import CONTEXT, House
from tests.template.stack import ROOT, Stack

NAMESPACE = "Dropforge/dropforge"
SILENCE_IS_THE_ALARM = {"TickMissingAlarm", "CurfewMissingAlarm"}


def _widgets(stack: Stack) -> list[dict[str, Any]]:
    return [widget["properties"] for widget in json.loads(stack.properties("Dashboard")["DashboardBody"])["widgets"]]


def read_metrics(stack: Stack) -> set[str]:
    """Names of our own metrics that an alarm or the dashboard reads."""
    alarms = stack.of_type("AWS::CloudWatch::Alarm").values()
    found = {alarm["MetricName"] for alarm in alarms if alarm.get("Namespace") == NAMESPACE}
    return found | {metric[1] for widget in _widgets(stack) for metric in widget["metrics"] if metric[0] == NAMESPACE}


def sent_metrics() -> set[str]:
    """What a whole life of jobs makes the functions send: a tick over every kind of job, each end, each door that counts of its own."""
    house = House()
    sent: set[str] = set()
    house.put("jobs/bad.yaml", b"{")
    for n, end in enumerate(("finish", "fail", "delete", "stop")):
        house.put(f"jobs/{n}.yaml", name=f"job-{n}", **({"limits": {"max_runtime": "10m"}} if end == "stop" else {}))
        job = house.named(f"job-{n}")
        house.beat(job=job, gpus=(gpu(2),))
        sent |= house.tick().keys()
        house.warn(house.named(f"job-{n}").attempts[0])
        match end:
            case "finish":
                house.finish(job=job)
            case "fail":
                house.fail(FailureCode.OUT_OF_MEMORY, "no memory", house.named(f"job-{n}"))
            case "delete":
                house.delete(f"jobs/{n}.yaml")
            case "stop":
                house.tick(900)
        house.tick()
    house.close_spot("g5.xlarge", "g6.xlarge")
    house.put("jobs/scarce.yaml", name="scarce")
    sent |= house.tick().keys()
    done = curfew.handle({}, CONTEXT, house.rooms)
    sent |= done.get("metrics", done).keys()
    event = json.loads((ROOT / "events/published-notice-sns.json").read_text())
    sent |= publish_ledger.handle(event, CONTEXT, house.rooms)["metrics"].keys()
    return sent | house.counts.keys()


def test_every_metric_that_is_read_is_one_that_is_sent() -> None:
    assert read_metrics(Stack()) - sent_metrics() == set()


def test_a_metric_that_nobody_sends_would_be_seen() -> None:
    stack = Stack()
    stack.raw("IdleGpusAlarm")["MetricName"] = "IdleGpu"
    assert read_metrics(stack) - sent_metrics() == {"IdleGpu"}


def test_every_alarm_speaks_to_the_e_mail_topic_which_lets_it() -> None:
    stack = Stack()
    for name, alarm in stack.of_type("AWS::CloudWatch::Alarm").items():
        assert alarm["AlarmActions"] == ["<Topic>"], name
        assert len(alarm["AlarmDescription"]) > 60, name
    (grant,) = [s for s in stack.properties("TopicPolicy")["PolicyDocument"]["Statement"] if s["Effect"] == "Allow"]
    assert (grant["Principal"], grant["Action"]) == ({"Service": "cloudwatch.amazonaws.com"}, "sns:Publish")
    assert grant["Condition"] == {
        "StringEquals": {"aws:SourceAccount": "111122223333"},
        "ArnLike": {"aws:SourceArn": "arn:aws:cloudwatch:eu-west-1:111122223333:alarm:*"},
    }


def test_silence_alarms_only_where_it_is_the_failure() -> None:
    alarms = Stack().of_type("AWS::CloudWatch::Alarm")
    assert {name for name, alarm in alarms.items() if alarm["TreatMissingData"] == "breaching"} == SILENCE_IS_THE_ALARM
    assert {alarm["TreatMissingData"] for alarm in alarms.values()} == {"breaching", "notBreaching"}
    for name in SILENCE_IS_THE_ALARM:
        assert (alarms[name]["ComparisonOperator"], alarms[name]["Threshold"], alarms[name]["Statistic"]) == ("LessThanThreshold", 1, "Sum")


@pytest.mark.parametrize(
    ("alarm", "metric"),
    [
        ("DeadLettersAlarm", ("AWS/SQS", "ApproximateNumberOfMessagesVisible", [{"Name": "QueueName", "Value": "<DeadLetters.QueueName>"}])),
        ("TickMissingAlarm", ("AWS/Lambda", "Invocations", [{"Name": "FunctionName", "Value": "<ReconcileFunction>"}])),
        ("CurfewMissingAlarm", ("AWS/Lambda", "Invocations", [{"Name": "FunctionName", "Value": "<CurfewFunction>"}])),
        ("OverdueInstancesAlarm", (NAMESPACE, "OverdueInstances", [{"Name": "service", "Value": "dropforge"}])),
        ("StaleHeartbeatsAlarm", (NAMESPACE, "StaleHeartbeats", [{"Name": "service", "Value": "dropforge"}])),
        ("SpendRateAlarm", (NAMESPACE, "SpendUsdPerHour", [{"Name": "service", "Value": "dropforge"}])),
        ("IdleGpusAlarm", (NAMESPACE, "IdleGpus", [{"Name": "service", "Value": "dropforge"}])),
        ("LaunchWaitAlarm", (NAMESPACE, "LaunchWaitSeconds", [{"Name": "service", "Value": "dropforge"}])),
    ],
)
def test_every_failure_has_its_alarm(alarm: str, metric: tuple[str, str, list[dict[str, str]]]) -> None:
    found = Stack().properties(alarm)
    assert (found["Namespace"], found["MetricName"], found["Dimensions"]) == metric


def test_our_metrics_are_read_where_the_functions_send_them() -> None:
    """Powertools puts its namespace and the one dimension ``service`` on every metric."""
    variables = Stack().properties("SubmitFunction")["Environment"]["Variables"]
    assert (variables["POWERTOOLS_METRICS_NAMESPACE"], variables["POWERTOOLS_SERVICE_NAME"]) == (NAMESPACE, "dropforge")


def test_each_function_has_an_error_alarm_whose_mail_says_where_to_look() -> None:
    stack = Stack()
    alarms = {name: alarm for name, alarm in stack.of_type("AWS::CloudWatch::Alarm").items() if alarm["MetricName"] == "Errors"}
    watched = {alarm["Dimensions"][0]["Value"] for alarm in alarms.values()}
    assert watched == {f"<{name}>" for name in stack.of_type("AWS::Lambda::Function")}
    for name, alarm in alarms.items():
        function = name.removesuffix("ErrorsAlarm")
        assert alarm["Dimensions"] == [{"Name": "FunctionName", "Value": f"<{function}Function>"}]
        assert stack.properties(f"{function}Logs")["LogGroupName"] in alarm["AlarmDescription"]
        # One failed call is repeated by Lambda; behind the operator's door a person waits.
        assert (alarm["DatapointsToAlarm"], alarm["EvaluationPeriods"]) == ((1, 1) if function == "Operator" else (2, 3)), name


def test_no_alarm_is_over_metric_math_which_no_emulator_evaluates_and_which_costs_as_much() -> None:
    assert all("Metrics" not in alarm for alarm in Stack().of_type("AWS::CloudWatch::Alarm").values())


def test_the_launch_alarm_rings_after_an_hour_of_asking_in_vain() -> None:
    alarm = Stack().properties("LaunchWaitAlarm")
    assert (alarm["Threshold"], alarm["Statistic"], alarm["ComparisonOperator"]) == (3600, "Maximum", "GreaterThanThreshold")


def test_the_spend_alarm_is_the_parameters() -> None:
    assert Stack(parameters={"SpendAlarmUsdPerHour": "7"}).properties("SpendRateAlarm")["Threshold"] == "7"


def test_the_dashboard_shows_jobs_attempts_interruptions_dollars_and_gpus() -> None:
    stack = Stack()
    shown = {metric[1] for widget in _widgets(stack) for metric in widget["metrics"]}
    states = set(measures.by_state([]))
    ends = set(measures.ENDS.values())
    assert (
        states
        | ends
        | {"LiveInstances", "AttemptsStarted", "Interruptions", "SpendUsdPerHour", "SpendUsdThisMonth", "GpuPercent", "IdleGpus", "NoticesDoubled", "Errors"}
        <= shown
    )
    assert stack.properties("Dashboard")["DashboardName"] == "dropforge-eu-west-1"


def test_with_few_what_is_left_still_rings_for_money_instances_silence_launches_and_dead_letters() -> None:
    stack = Stack(parameters={"Watch": "few"})
    watching = {
        name: resource
        for name, resource in stack.template["Resources"].items()
        if resource["Type"].startswith("AWS::CloudWatch") and ("Condition" not in resource or stack.holds({"Condition": resource["Condition"]}))
    }
    assert set(watching) == {
        *("DeadLettersAlarm", "TickMissingAlarm", "CurfewMissingAlarm"),
        *("OverdueInstancesAlarm", "StaleHeartbeatsAlarm", "SpendRateAlarm"),
    }
    assert "idle" in Notify().on, "of idle GPUs the job's owner is told, alarm or not"
    left = json.dumps({name: resource for name, resource in stack.template["Resources"].items() if resource.get("Condition") != "WatchesAll"})
    assert "ErrorsAlarm" not in left.replace("WebhookErrorsAlarm", ""), "what is always there may not name what is not"
    assert '"Dashboard"' not in left
