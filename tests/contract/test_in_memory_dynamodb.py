"""The DynamoDB in memory beyond the ports: it answers the questions that it knows, as DynamoDB would, and refuses the others."""

from typing import Any

import pytest
from botocore.exceptions import ClientError

from control_plane.adapters.dynamodb import DynamoStore
from control_plane.core.state import JobState
from tests.contract.samples import attempt, changed, job, now
from tests.contract.sides import TABLE, InMemorySide, MotoSide, Side


def put(pk: str, condition: str, values: dict[str, Any] | None = None) -> dict[str, Any]:
    entry: dict[str, Any] = {"Item": {"pk": {"S": pk}, "job_id": {"S": "demo-1"}}, "ConditionExpression": condition}
    return {"Put": entry | ({"ExpressionAttributeValues": values} if values else {})}


def transact(side: Side, *puts: dict[str, Any]) -> None:
    side.client("dynamodb").transact_write_items(TransactItems=[{"Put": one["Put"] | {"TableName": side.table}} for one in puts])


def write(side: Side, *puts: dict[str, Any]) -> list[str]:
    """The reasons why the transaction was cancelled; none where it was written."""
    try:
        transact(side, *puts)
    except ClientError as error:
        return [reason["Code"] for reason in error.response["CancellationReasons"]]
    return []


@pytest.mark.parametrize(
    ("condition", "before", "after"),
    [
        ("attribute_not_exists(pk)", True, False),
        ("attribute_not_exists(version)", True, True),
        ("job_id = :mine", False, True),
        ("attribute_not_exists(pk) OR job_id = :mine", True, True),
        ("attribute_not_exists(pk) OR job_id = :other", True, False),
    ],
)
def test_a_condition_is_held_against_the_item_that_is_there(side: Side, condition: str, before: bool, after: bool) -> None:
    side.job_table()
    used = {name: value for name, value in {":mine": {"S": "demo-1"}, ":other": {"S": "demo-2"}}.items() if name in condition}
    assert write(side, put("NAME#demo", condition, used)) == ([] if before else ["ConditionalCheckFailed"])
    write(side, put("NAME#demo", "attribute_not_exists(pk)"))
    assert write(side, put("NAME#demo", condition, used)) == ([] if after else ["ConditionalCheckFailed"])


def test_one_condition_that_fails_cancels_the_whole_transaction_and_is_named_in_its_place(side: Side) -> None:
    dynamodb = side.job_table()
    write(side, put("NAME#demo", "attribute_not_exists(pk)"))
    answer = write(side, put("KEY#demo", "attribute_not_exists(pk)"), put("NAME#demo", "attribute_not_exists(pk)"))
    assert answer == ["None", "ConditionalCheckFailed"]
    assert "Item" not in dynamodb.get_item(TableName=side.table, Key={"pk": {"S": "KEY#demo"}})


def test_the_item_that_forbids_a_put_is_told_where_that_is_asked_for(side: Side) -> None:
    side.job_table()
    write(side, put("NAME#demo", "attribute_not_exists(pk)"))
    asked, quiet = (put("NAME#demo", "attribute_not_exists(pk)") for _ in range(2))
    asked["Put"]["ReturnValuesOnConditionCheckFailure"] = "ALL_OLD"
    told = []
    for one in (asked, quiet):
        with pytest.raises(ClientError) as refused:
            transact(side, put("KEY#demo", "attribute_not_exists(pk)"), one)
        told.append([reason.get("Item") for reason in refused.value.response["CancellationReasons"]])
    assert told == [[None, {"pk": {"S": "NAME#demo"}, "job_id": {"S": "demo-1"}}], [None, None]]


def test_an_item_twice_or_more_than_a_hundred_in_one_transaction_are_refused(side: Side) -> None:
    side.job_table()
    once = put("NAME#demo", "attribute_not_exists(pk)")
    for puts in ([once, once], [put(f"NAME#{n}", "attribute_not_exists(pk)") for n in range(101)]):
        with pytest.raises(ClientError, match="ValidationException"):
            transact(side, *puts)


@pytest.mark.parametrize(
    "condition",
    [
        "attribute_exists(pk)",
        "NOT attribute_not_exists(pk)",
        "version = :loaded AND job_id = :mine",
        "attribute_not_exists(pk) or job_id = :mine",
        "version <> :loaded",
        "version = loaded",
        "size(holders) = :limit",
        "",
    ],
)
def test_a_condition_that_the_table_in_memory_does_not_know_is_refused_and_not_guessed(condition: str) -> None:
    side = InMemorySide()
    with pytest.raises(ValueError, match="does not know"):
        write(side, put("NAME#demo", condition, {":loaded": {"N": "1"}, ":mine": {"S": "demo-1"}, ":limit": {"N": "1"}}))
    assert side.account.dynamodb.items == {}


@pytest.mark.parametrize(
    "change", [{"KeyConditionExpression": "#open = :yes AND place > :waiting"}, {"IndexName": "state"}, {"ExpressionAttributeNames": {"#open": "state"}}]
)
def test_a_query_that_the_table_in_memory_does_not_know_is_refused_and_not_guessed(change: dict[str, Any]) -> None:
    request = {
        "TableName": TABLE,
        "IndexName": "open",
        "KeyConditionExpression": "#open = :yes AND begins_with(place, :waiting)",
        "ExpressionAttributeNames": {"#open": "open"},
        "ExpressionAttributeValues": {":yes": {"S": "1"}, ":waiting": {"S": "1#"}},
        "Limit": 1,
    }
    dynamodb = InMemorySide().client("dynamodb")
    assert dynamodb.query(**request) == {"Items": []}
    with pytest.raises(ValueError, match="does not know"):
        dynamodb.query(**(request | change))
    with pytest.raises(ValueError, match="does not know"):
        list(dynamodb.get_paginator("query").paginate(**request))


def test_the_index_may_lag_behind_and_the_table_may_not() -> None:
    side = InMemorySide()
    late: list[Any] = []
    side.account.later = lambda seconds, follow: late.append(follow)
    side.account.dynamodb.index_lag_s = lambda: 5.0
    store = DynamoStore(side.job_table(), TABLE, 1, now)
    store.create(job())
    assert store.load("demo-1") == job()
    assert list(store.unsettled()) == []
    late.pop()()
    assert list(store.unsettled()) == ["demo-1"]


def test_a_row_that_moves_while_the_pages_are_read_may_be_missed_and_none_is_made_up() -> None:
    """A job behind the first page that comes to run moves before it: its own function has just driven it."""
    store = DynamoStore(InMemorySide().job_table(), TABLE, 9, now)
    names = [f"n{n}" for n in range(7)]
    for name in names:
        store.create(job(name, name=name, key=f"jobs/{name}.yaml"))
    seen = []
    for name in store.unsettled():
        seen.append(name)
        if name == "n2":
            store.save(changed(job("n6", name="n6", key="jobs/n6.yaml"), state=JobState.RUNNING, attempts=(attempt(1),)))
    assert seen == names[:-1]


def test_moto_and_the_table_in_memory_hold_the_same_items_after_the_same_writes(aws: MotoSide) -> None:
    moto, in_memory = aws.job_table(), InMemorySide()
    for dynamodb in (moto, in_memory.job_table()):
        store = DynamoStore(dynamodb, TABLE, 2, now)
        store.create(job())
        running = store.save(changed(job(), state=JobState.RUNNING, attempts=(attempt(1),)))
        store.save(changed(running, state=JobState.FAILED, settled=True, attempts=(changed(attempt(1), gone_at=attempt(1).launched_at),)))
    assert {item["pk"]["S"]: item for item in moto.scan(TableName=TABLE)["Items"]} == in_memory.account.dynamodb.items
