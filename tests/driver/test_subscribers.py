"""Who hears of what: the filters that docs/notifications.md shows, on letters that the control plane really writes, sorted by moto's SNS."""

import json
import re
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from control_plane.core.budget import DETAIL_TYPE, SOURCE, BudgetAlert
from control_plane.handlers import budget
from jobspec.marker import FailureCode
from tests.core.worlds import gpu
from tests.driver.house import CONTEXT, House

PAGE = (Path(__file__).parents[2] / "docs/notifications.md").read_text()
Heard = set[tuple[str | None, str]]


def letters() -> list[dict[str, Any]]:
    """As published: a support job with an idle GPU that ends well, two that fail, one that waits for a quota, and the month's cap."""
    house = House()
    house.put("jobs/a.yaml", name="support-bot", notify={"on": ["accepted", "idle"]})
    house.beat(job=house.named("support-bot"), gpus=(gpu(2),))
    house.tick()
    house.finish(job=house.named("support-bot"))
    for name in ("try-7", "maths"):
        house.put(f"jobs/{name}.yaml", name=name)
        house.fail(FailureCode.OUT_OF_MEMORY, "no memory", house.named(name))
        house.tick()
    house.ec2.quota_vcpus["spot"] = 0
    house.put("jobs/q.yaml", name="vision")
    alert = BudgetAlert(project=house.account.project, origin="project-ledger", budget_name="2026-11", amount_usd=9, budgeted_usd=5)
    budget.handle({"source": SOURCE, "detail-type": DETAIL_TYPE, "detail": alert.model_dump()}, CONTEXT, house.rooms)
    return house.account.sns.published


def of(note: dict[str, Any]) -> tuple[str | None, str]:
    attributes = note["MessageAttributes"]
    return attributes.get("job", {}).get("Value"), attributes["kind"]["Value"]


def heard_with(filter_policy: str, notes: list[dict[str, Any]]) -> Heard:
    """Job and kind of the letters that a subscription with this filter gets."""
    with mock_aws():
        credentials = {"region_name": "us-east-1", "aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
        clients: Any = {name: boto3.client(name, **credentials) for name in ("sns", "sqs")}  # type: ignore[call-overload]  # stubs want a literal
        topic = clients["sns"].create_topic(Name="t")["TopicArn"]
        queue = clients["sqs"].create_queue(QueueName="q")["QueueUrl"]
        arn = clients["sqs"].get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        clients["sns"].subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn, Attributes={"FilterPolicy": filter_policy})
        for note in notes:
            attributes = {key: {"DataType": value["Type"], "StringValue": value["Value"]} for key, value in note["MessageAttributes"].items()}
            clients["sns"].publish(TopicArn=topic, Subject=note["Subject"], Message=note["Message"], MessageAttributes=attributes)
        # An alarm, as CloudWatch sends it: without attributes.
        clients["sns"].publish(TopicArn=topic, Subject="ALARM", Message='{"AlarmName": "a"}')
        found: Heard = set()
        while messages := clients["sqs"].receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", []):
            found |= {of(json.loads(message["Body"])) for message in messages}
            for message in messages:
                clients["sqs"].delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
        return found


EVERYTHING: Heard = {
    *(("support-bot", "accepted"), ("support-bot", "idle"), ("support-bot", "end")),
    *(("try-7", "end"), ("maths", "end"), ("vision", "quota"), (None, "budget")),
}
#: What each filter of the page lets through.
EXPECTED: dict[str, Heard] = {
    '{"kind": ["end"], "job": [{"prefix": "support-"}]}': {("support-bot", "end")},
    '{"state": ["FAILED", "STOPPED_BUDGET", "STOPPED_DEADLINE"]}': {("try-7", "end"), ("maths", "end")},
    '{"project": ["dropforge-prod"]}': set(),
    '{"kind": ["quota", "idle", "budget"]}': {("vision", "quota"), ("support-bot", "idle"), (None, "budget")},
    '{"state": ["FAILED"], "job": [{"anything-but": {"prefix": "try-"}}]}': {("maths", "end")},
    '{"kind": ["budget"], "job": [{"exists": false}]}': {(None, "budget")},
}


def filters_of_the_page() -> list[str]:
    """As SNS is given them: in a table, as an attribute's value, and within the attributes of a new subscription."""
    tabled = re.findall(r"^\| .* \| `(\{.*\})` \|$", PAGE, re.MULTILINE)
    given = re.findall(r"--attribute-value '(\{.*\})'", PAGE)
    within = [json.loads(text)["FilterPolicy"] for text in re.findall(r"--attributes '(\{.*\})'", PAGE)]
    return tabled + given + within


def test_the_letters_are_of_many_kinds_and_every_one_is_heard_without_a_filter() -> None:
    assert {of(note) for note in letters()} == EVERYTHING


def test_every_filter_of_the_page_is_tried_here() -> None:
    assert sorted(filters_of_the_page()) == sorted(EXPECTED)


@pytest.mark.parametrize("filter_policy", EXPECTED)
def test_a_filter_lets_through_what_the_page_says(filter_policy: str) -> None:
    assert heard_with(filter_policy, letters()) == EXPECTED[filter_policy]


def test_the_projects_name_is_one_to_filter_by() -> None:
    assert heard_with('{"project": ["proj"]}', letters()) == EVERYTHING


def test_the_page_lists_every_kind_and_every_attribute_that_letters_have() -> None:
    notes = letters()
    kinds = {of(note)[1] for note in notes}
    attributes = {name for note in notes for name in note["MessageAttributes"]}
    assert kinds | attributes <= set(re.findall(r"`([a-z_]+)`", PAGE))
