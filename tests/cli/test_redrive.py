"""``dropforge redrive``: every kind of letter reaches its function again, and none is deleted before Lambda has taken it."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from dropforge.jobs.find import read_status
from tests.cli.conftest import Site, eventually
from tests.cli.test_letters import EVENT, NOTIFICATION, RECORD, as_attributes

pytestmark = pytest.mark.local_cloud


@pytest.fixture(autouse=True)
def _empty_queue(site: Site) -> Iterator[None]:
    yield
    site.client("sqs").purge_queue(QueueUrl=site.id("DeadLetters"))


def put(site: Site, body: Any, **attributes: str) -> None:
    site.client("sqs").send_message(
        QueueUrl=site.id("DeadLetters"), MessageBody=body if isinstance(body, str) else json.dumps(body), MessageAttributes=as_attributes(attributes)
    )


def lying(site: Site) -> int:
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    found = site.client("sqs").get_queue_attributes(QueueUrl=site.id("DeadLetters"), AttributeNames=names)["Attributes"]
    return sum(int(value) for value in found.values())


def visible(site: Site) -> int:
    name = "ApproximateNumberOfMessages"
    return int(site.client("sqs").get_queue_attributes(QueueUrl=site.id("DeadLetters"), AttributeNames=[name])["Attributes"][name])


def arn(site: Site, logical_id: str) -> str:
    return f"arn:aws:lambda:us-east-1:123456789012:function:{site.id(logical_id)}"


def record(site: Site, logical_id: str, payload: Any = EVENT) -> dict[str, Any]:
    return RECORD | {"requestPayload": payload, "requestContext": {"functionArn": f"{arn(site, logical_id)}:$LATEST", "condition": "RetriesExhausted"}}


def redriven(site: Site, *words: str) -> tuple[int, list[dict[str, Any]]]:
    result = site.run("redrive", "--json", *words)
    return result.exit_code, json.loads(result.stdout)


def invoked(site: Site) -> list[dict[str, Any]]:
    return [parameters for operation, parameters in site.answers.requests if operation == "Invoke"]


def test_each_kind_of_letter_goes_to_its_function_once_and_leaves_the_queue(site: Site) -> None:
    put(site, record(site, "InstanceStateFunction"))
    put(site, EVENT, RULE_ARN="arn:x", TARGET_ARN=arn(site, "CompletionFunction"))
    put(site, {}, SCHEDULE_ARN="arn:x", TARGET_ARN=arn(site, "CurfewFunction"))
    put(site, NOTIFICATION | {"TopicArn": site.id("BudgetTopic")}, ErrorCode="x")
    put(site, NOTIFICATION | {"TopicArn": site.id("Topic")}, ErrorCode="x")
    status, outcomes = redriven(site)
    assert status == 0
    assert {outcome["did"] for outcome in outcomes} == {"sent"}
    names = ["InstanceStateFunction", "CompletionFunction", "CurfewFunction", "BudgetRelayFunction", "PublishLedgerFunction"]
    assert sorted(outcome["function"] for outcome in outcomes) == sorted(names)
    assert sorted(call["FunctionName"] for call in invoked(site)) == sorted(site.id(name) for name in names)
    assert {call["InvocationType"] for call in invoked(site)} == {"Event"}
    assert lying(site) == 0


def test_where_two_functions_listen_a_letter_goes_to_the_one_whose_subscription_it_names(site: Site) -> None:
    sns, topic = site.client("sns"), site.id("Topic")
    added = sns.subscribe(TopicArn=topic, Protocol="lambda", Endpoint=arn(site, "OperatorFunction"), ReturnSubscriptionArn=True)["SubscriptionArn"]
    try:
        put(site, NOTIFICATION | {"TopicArn": topic, "UnsubscribeURL": f"https://sns.example/?Action=Unsubscribe&SubscriptionArn={added}"}, ErrorCode="x")
        put(site, NOTIFICATION | {"TopicArn": topic}, ErrorCode="x")
        status, outcomes = redriven(site)
    finally:
        sns.unsubscribe(SubscriptionArn=added)
    assert status == 1, "one does not say whose it is"
    assert sorted((outcome["did"], outcome["function"]) for outcome in outcomes) == [("sent", "OperatorFunction"), ("stays", "")]
    assert len(invoked(site)) == 1


def test_a_manifest_that_nobody_could_take_is_taken_after_all(site: Site) -> None:
    """The real thing: a function that fails at its start, S3's own event in the queue, the cause mended, the letter sent again."""
    client, name = site.client("lambda"), site.id("SubmitFunction")
    variables = client.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
    client.update_function_configuration(FunctionName=name, Environment={"Variables": {key: value for key, value in variables.items() if key != "TABLE_NAME"}})
    site.client("s3").put_object(Bucket=site.id("DataBucket"), Key="jobs/lost.yaml", Body=b"name: lost\nmodel: 1\n")
    eventually(lambda: lying(site) == 1)
    client.update_function_configuration(FunctionName=name, Environment={"Variables": variables})
    status, (outcome,) = redriven(site)
    assert (status, outcome["did"], outcome["function"], outcome["kind"]) == (0, "sent", "SubmitFunction", "failed invocation")
    assert outcome["what"] == "aws.s3 Object Created jobs/lost.yaml"
    from dropforge.stack import find_stack

    found = eventually(lambda: read_status(find_stack("well"), "lost"))
    assert found is not None
    assert found.state == "REJECTED"
    assert lying(site) == 0


def test_a_dry_run_sends_nothing_and_leaves_every_letter_visible(site: Site) -> None:
    put(site, record(site, "SubmitFunction"))
    put(site, "?")
    status, outcomes = redriven(site, "--dry-run")
    assert sorted(outcome["did"] for outcome in outcomes) == ["stays", "would send"]
    assert status == 1, "one letter would stay"
    assert invoked(site) == []
    assert visible(site) == 2


@pytest.mark.parametrize("what", ["another stack's function", "another topic", "a rule's other target", "no letter at all"])
def test_a_letter_that_is_not_this_stacks_stays_and_is_shown(site: Site, what: str) -> None:
    match what:
        case "another stack's function":
            put(site, RECORD | {"responsePayload": {"errorType": "Red", "errorMessage": "\x1b[31mred"}})
        case "another topic":
            put(site, NOTIFICATION)
        case "a rule's other target":
            put(site, EVENT, RULE_ARN="arn:x", TARGET_ARN="arn:aws:lambda:us-east-1:123456789012:function:theirs")
        case "no letter at all":
            put(site, "not a letter")
    result = site.run("redrive")
    assert result.exit_code == 1
    assert result.stdout.startswith("stays")
    assert "\x1b" not in result.stdout
    assert result.stdout.splitlines()[-1] == "1 letter(s): 0 sent again, 1 stay."
    assert invoked(site) == []
    assert visible(site) == 1


@pytest.mark.parametrize("refusal", ["refused", "not taken"])
def test_a_letter_that_lambda_did_not_take_stays(site: Site, refusal: str) -> None:
    put(site, record(site, "SubmitFunction"))
    if refusal == "refused":
        site.answers.refuse("Invoke", "TooManyRequestsException", "Rate exceeded")
    else:
        site.answers.give("Invoke", {"StatusCode": 200})
    status, (outcome,) = redriven(site)
    assert (status, outcome["did"]) == (1, "stays")
    assert ("TooManyRequests" if refusal == "refused" else "200") in outcome["stays"]
    assert visible(site) == 1


def test_no_more_than_the_limit_is_taken(site: Site) -> None:
    for _ in range(4):
        put(site, record(site, "SubmitFunction", {"source": "nobody"}))
    status, outcomes = redriven(site, "--limit", "3")
    assert (status, len(outcomes)) == (0, 3)
    assert lying(site) == 1


def test_an_empty_queue_is_said(site: Site) -> None:
    result = site.run("redrive")
    assert (result.exit_code, result.stdout) == (0, "The dead-letter queue shows no letter.\n")
