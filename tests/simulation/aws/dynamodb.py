"""DynamoDB: one table, conditional transactions, one sparse index that may lag behind."""

import re
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from tests.simulation.aws.faults import aws_error

if TYPE_CHECKING:
    from tests.simulation.aws.account import Account

Item = dict[str, Any]
#: TransactWriteItems takes so many (API reference), and no item twice.
_MAX_WRITES = 100
_OPEN = "#open = :yes"
_WAITING = "#open = :yes AND begins_with(place, :waiting)"


class DynamoDb:
    """A client. ``items`` is the truth; ``index_lag_s()`` is how long the index takes to follow a write."""

    def __init__(self, account: "Account") -> None:
        self._account = account
        self.items: dict[str, Item] = {}
        self._index: dict[str, str] = {}
        #: The index's rows in its order: (place, pk).
        self._line: list[tuple[str, str]] = []
        #: Rows in a page of answers; see Ec2.
        self.page_rows = 3
        self.index_lag_s: Callable[[], float] = lambda: 0.0
        #: Called with every item written, before anybody can read it.
        self.on_write: Callable[[str, Item], None] = lambda pk, item: None

    def get_item(self, *, TableName: str, Key: Item, ConsistentRead: bool = False, ProjectionExpression: str = "") -> Item:
        pk = Key["pk"]["S"]

        def read() -> Item:
            item = self.items.get(pk)
            if item is None:
                return {}
            names = [name.strip() for name in ProjectionExpression.split(",")] if ProjectionExpression else item
            return {"Item": {name: item[name] for name in names if name in item}}

        return self._call("get_item", pk, read)

    def put_item(self, *, TableName: str, Item: Item) -> Item:
        return self._call("put_item", Item["pk"]["S"], partial(self._written, Item["pk"]["S"], Item))

    def update_item(self, *, TableName: str, Key: Item, UpdateExpression: str, ExpressionAttributeValues: Item, ReturnValues: str) -> Item:
        """The ledger's one form: add to a set of strings, set a number."""
        assert UpdateExpression == "ADD messages :message SET expires_at = :expiry", "an expression that this table does not know"
        pk, values = Key["pk"]["S"], ExpressionAttributeValues

        def update() -> Item:
            before = self.items.get(pk, {"pk": {"S": pk}, "messages": {"SS": []}})
            messages = sorted({*before["messages"]["SS"], *values[":message"]["SS"]})
            after = before | {"messages": {"SS": messages}, "expires_at": values[":expiry"]}
            self._write(pk, after)
            return {"Attributes": after}

        return self._call("update_item", pk, update)

    def transact_write_items(self, *, TransactItems: list[Item]) -> Item:
        puts = [entry["Put"] for entry in TransactItems]

        def write() -> Item:
            if len(puts) > _MAX_WRITES or len({put["Item"]["pk"]["S"] for put in puts}) < len(puts):
                raise aws_error("ValidationException", "too many items, or one of them twice", "TransactWriteItems")
            cancelled = [{"Code": "None"} if self._holds(put) else self._refusal(put) for put in puts]
            if any(reason["Code"] != "None" for reason in cancelled):
                raise aws_error("TransactionCanceledException", "Transaction cancelled", "TransactWriteItems", CancellationReasons=cancelled)
            for put in puts:
                self._write(put["Item"]["pk"]["S"], put["Item"])
            return {}

        return self._call("transact_write_items", puts[0]["Item"]["pk"]["S"], write)

    def _refusal(self, put: Item) -> Item:
        """Why a put is forbidden, with the item that forbids it where that was asked for."""
        item = self.items.get(put["Item"]["pk"]["S"]) if put.get("ReturnValuesOnConditionCheckFailure") == "ALL_OLD" else None
        return {"Code": "ConditionalCheckFailed"} | ({} if item is None else {"Item": dict(item)})

    def query(self, *, Limit: int, **request: Any) -> Item:
        _known_query(request, _WAITING)
        prefix = request["ExpressionAttributeValues"][":waiting"]["S"]

        def read() -> Item:
            first = bisect_left(self._line, (prefix, ""))
            rows = [(place, pk) for place, pk in self._line[first : first + Limit] if place.startswith(prefix)]
            return {"Items": [{"pk": {"S": pk}, "place": {"S": place}, "open": {"S": "1"}} for place, pk in rows]}

        answer: Item = self._call("query", prefix, read)
        return answer

    def get_paginator(self, operation: str) -> "_Pages":
        assert operation == "query"
        return _Pages(self)

    def pages(self, request: Item) -> Iterator[Item]:
        """A page that starts after the last key of the page before, as DynamoDB's does: rows that move meanwhile may come twice or not at all."""
        _known_query(request, _OPEN)
        last = ""
        while True:
            rows = self._call("query", "open", partial(self._rows_after, last))["rows"]
            yield {"Items": [{"pk": {"S": pk}} for _, pk in rows[: self.page_rows]]}
            if len(rows) <= self.page_rows:
                return
            last = rows[self.page_rows - 1][0]

    def _rows_after(self, last: str) -> dict[str, Any]:
        first = bisect_right(self._line, last, key=lambda row: row[0])
        return {"rows": self._line[first : first + self.page_rows + 1]}

    def _call(self, operation: str, subject: str, effect: Callable[[], Any]) -> Item:
        answer: Item = self._account.call(f"dynamodb.{operation}", subject, effect)
        return answer

    def _holds(self, put: Item) -> bool:
        item = self.items.get(put["Item"]["pk"]["S"])
        return _condition(put["ConditionExpression"])(item, put.get("ExpressionAttributeValues", {}))

    def _written(self, pk: str, item: Item) -> Item:
        self._write(pk, item)
        return {}

    def _write(self, pk: str, item: Item) -> None:
        self.items[pk] = item
        place = item["place"]["S"] if "open" in item else None
        if place != self._index.get(pk):
            lag_s = self.index_lag_s()
            if lag_s:
                self._account.later(lag_s, lambda: self._follow(pk))
            else:
                self._follow(pk)
        self.on_write(pk, item)

    def _follow(self, pk: str) -> None:
        item = self.items.get(pk)
        if (before := self._index.pop(pk, None)) is not None:
            del self._line[bisect_left(self._line, (before, pk))]
        if item is not None and "open" in item:
            self._index[pk] = item["place"]["S"]
            insort(self._line, (self._index[pk], pk))


class _Pages:
    def __init__(self, table: DynamoDb) -> None:
        self._table = table

    def paginate(self, **request: Any) -> Iterator[Item]:
        return self._table.pages(request)


Test = Callable[[Item | None, Item], bool]
_TERM = re.compile(r"attribute_not_exists\((\w+)\)|(\w+) = (:\w+)")


def _known_query(request: Item, expression: str) -> None:
    """Raises ValueError for any question but that one: an answer to another would be a guess."""
    yes = request["ExpressionAttributeValues"].get(":yes"), request.get("ExpressionAttributeNames")
    if request["KeyConditionExpression"] != expression or request["IndexName"] != "open" or yes != ({"S": "1"}, {"#open": "open"}):
        raise ValueError(f"a query that this table does not know: {request!r}")


@lru_cache
def _condition(text: str) -> Test:
    """Terms ``attribute_not_exists(name)`` and ``name = :value``, joined by OR. Raises ValueError for any other."""
    terms = [_term(part) for part in text.split(" OR ")]
    return lambda item, values: any(term(item, values) for term in terms)


def _term(text: str) -> Test:
    known = _TERM.fullmatch(text)
    if known is None:
        raise ValueError(f"a condition that this table does not know: {text!r}")
    absent, name, value = known.groups()
    if absent:
        return lambda item, values: item is None or absent not in item
    return lambda item, values: item is not None and item.get(name) == values[value]
