"""Events reach real handlers, in an environment like Lambda's, and failures go where they go on AWS."""

import json
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from dropforge.local import printed
from dropforge.local.plugin.lambdas import AT_ONCE

from .conftest import MINUTE_S, LocalCloud, alive, eventually

pytestmark = pytest.mark.local_cloud


def invoke(cloud: LocalCloud, function: str, payload: dict[str, Any]) -> tuple[str | None, Any]:
    answer = cloud.client("lambda").invoke(FunctionName=cloud.outputs[function], Payload=json.dumps(payload).encode())
    return answer.get("FunctionError"), json.loads(answer["Payload"].read())


def drop(cloud: LocalCloud, key: str) -> None:
    cloud.client("s3").put_object(Bucket=cloud.outputs["Bucket"], Key=key, Body=b"x")


def test_an_object_under_jobs_drives_the_function_and_another_does_not(local_cloud: LocalCloud) -> None:
    drop(local_cloud, "other/ignored.yaml")
    drop(local_cloud, "jobs/seen.yaml")
    kept = eventually(lambda: [k for k in local_cloud.kept("Object Created") if k["event"]["detail"]["object"]["key"] == "jobs/seen.yaml"])
    event = kept[0]["event"]
    assert event["detail"]["bucket"]["name"] == local_cloud.outputs["Bucket"]
    assert event["detail"]["object"]["version-id"]
    assert event["detail"]["reason"] == "PutObject"
    assert "other/ignored.yaml" not in json.dumps(local_cloud.kept("Object Created"))


def test_a_function_has_its_own_role_and_only_lambdas_environment(local_cloud: LocalCloud) -> None:
    drop(local_cloud, "jobs/environment.yaml")
    kept = eventually(lambda: local_cloud.kept("Object Created"))[0]
    assert f"assumed-role/{'standin-RecordFunctionRole'}" in kept["arn"]
    assert {"TABLE_NAME", "TOPIC_ARN", "AWS_LAMBDA_FUNCTION_NAME", "AWS_ENDPOINT_URL"} <= set(kept["environment"])
    assert not {"DROPFORGE_LOCAL_SETTINGS", "GATEWAY_PORT", "AUTH", "PYTHONPATH", "HOME"} & set(kept["environment"])


def test_a_schedule_fires_by_itself(local_cloud: LocalCloud) -> None:
    eventually(lambda: local_cloud.kept("Scheduled Event"), within_s=MINUTE_S * 24)


def test_a_failing_event_is_tried_again_and_then_goes_to_the_dead_letters(local_cloud: LocalCloud) -> None:
    drop(local_cloud, "jobs/please-fail.yaml")
    sqs = local_cloud.client("sqs")
    (message,) = eventually(lambda: sqs.receive_message(QueueUrl=local_cloud.outputs["DeadLetters"]).get("Messages"))
    letter = json.loads(message["Body"])
    assert letter["requestPayload"]["detail"]["object"]["key"] == "jobs/please-fail.yaml"
    assert letter["responsePayload"]["errorType"] == "ValueError"
    assert "stackTrace" in letter["responsePayload"]
    tries = [k for k in local_cloud.kept("Object Created") if "please-fail" in json.dumps(k["event"])]
    assert len(tries) == 2
    logged = [
        entry for entry in printed.entries(local_cloud.home, "record", follow=False) if "about to fail on jobs/please-fail.yaml" in "".join(entry["lines"])
    ]
    assert [entry["error"] for entry in logged] == [True, True]


def test_a_burst_of_events_waits_its_turn_and_none_is_lost(local_cloud: LocalCloud) -> None:
    names = {f"jobs/burst-{number:02}.yaml" for number in range(24)}
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(partial(drop, local_cloud), names))
    eventually(lambda: names <= {kept["event"]["detail"]["object"]["key"] for kept in local_cloud.kept("Object Created")})
    ran = [(entry["at"] - entry["duration_ms"] / 1000, entry["at"]) for entry in printed.entries(local_cloud.home, "record", follow=False)]
    assert max(sum(began <= moment < ended for began, ended in ran) for moment, _ in ran) <= AT_ONCE


def test_a_timeout_ends_the_function_and_what_it_started(local_cloud: LocalCloud) -> None:
    failed, body = invoke(local_cloud, "Faults", {"sleep_s": 30})
    assert failed
    assert body["errorType"] == "Sandbox.Timedout"
    lines = [line for entry in printed.entries(local_cloud.home, "faults", follow=False) for line in entry["lines"]]
    child = int(next(line for line in lines if line.startswith("child ")).split()[1])
    eventually(lambda: not alive(child))


def test_a_function_process_is_used_again(local_cloud: LocalCloud) -> None:
    assert invoke(local_cloud, "Faults", {})[1]["pid"] == invoke(local_cloud, "Faults", {})[1]["pid"]


def test_a_call_outside_the_role_is_denied(local_cloud: LocalCloud) -> None:
    failed, body = invoke(local_cloud, "Faults", {"forbidden_bucket": local_cloud.outputs["Bucket"]})
    assert failed
    assert "AccessDenied" in body["errorMessage"]


def test_a_handler_that_cannot_be_imported_says_so(local_cloud: LocalCloud) -> None:
    failed, body = invoke(local_cloud, "Broken", {})
    assert failed
    assert body["errorType"] == "Runtime.ImportModuleError"


def test_an_email_lands_in_the_mail_folder(local_cloud: LocalCloud) -> None:
    failed, _ = invoke(local_cloud, "Publish", {"subject": "Job one: SUCCEEDED", "message": "The model is ready.\nüber alles gut"})
    assert not failed
    path = eventually(lambda: next(iter((local_cloud.home / "mail").glob("*-job-one-succeeded.txt")), None))
    text = path.read_text() if path else ""
    assert "To: you@example.com\n" in text
    assert "Subject: Job one: SUCCEEDED\n" in text
    assert text.endswith("\nThe model is ready.\nüber alles gut\n")


def test_logs_are_in_cloudwatch_too(local_cloud: LocalCloud) -> None:
    invoke(local_cloud, "Faults", {})
    group = f"/aws/lambda/{local_cloud.outputs['Faults']}"
    events = local_cloud.client("logs").filter_log_events(logGroupName=group)["events"]
    assert any(event["message"].startswith("REPORT RequestId") for event in events)
