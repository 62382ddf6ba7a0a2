"""What the project's settled jobs have cost, month by month, in the job table.

Items: ``SPEND#2026-11`` with version (N), settled_usd (N), alerted_at (S, once the month's cap was told of). A job's cost is added in
the very transaction that settles it, so it counts once whatever crashes; jobs that are not settled are counted by the tick.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from control_plane.adapters import items
from control_plane.adapters.items import Item
from control_plane.ports import MonthSpend

if TYPE_CHECKING:
    from datetime import datetime

    from control_plane.core.state import Job

#: Others that write the same month at the same moment; each round someone made progress.
_MAX_ROUNDS = 5


class DynamoSpend:
    """A SpendStore over a boto3 DynamoDB client and a table's name."""

    def __init__(self, dynamodb: Any, table_name: str) -> None:
        self._dynamodb = dynamodb
        self._table = table_name

    def month(self, month: str) -> MonthSpend:
        item = self._item(month)
        return MonthSpend(month, float(item["settled_usd"]["N"]), "alerted_at" in item) if item else MonthSpend(month, 0.0, alerted=False)

    def mark_alerted(self, month: str, at: datetime) -> None:
        for _ in range(_MAX_ROUNDS):
            item = self._item(month)
            if item is not None and "alerted_at" in item:
                return
            try:
                self._dynamodb.transact_write_items(TransactItems=[{"Put": self._put(month, item, {"alerted_at": {"S": at.isoformat()}})}])
                return
            except ClientError as error:
                if error.response["Error"].get("Code") != "TransactionCanceledException":
                    raise
        raise RuntimeError(f"{_pk(month)}: others wrote it {_MAX_ROUNDS} times in a row; deliver the alert again")

    def settling(self, job: Job, now: datetime) -> list[Item]:
        """The writes that belong into the transaction that settles the job: its cost added to each month that it ran in."""
        # Here, for whoever settles a job has its models; the door that hears of a budget reads months without them.
        from control_plane.core import ledger

        return [self._adding(month, usd) for month, usd in sorted(ledger.by_month(job, now).items()) if usd > 0]

    def _adding(self, month: str, usd: float) -> Item:
        item = self._item(month)
        before = float(item["settled_usd"]["N"]) if item else 0.0
        return self._put(month, item, {"settled_usd": {"N": f"{before + usd:.6f}"}})

    def _item(self, month: str) -> Item | None:
        return items.read(self._dynamodb, self._table, _pk(month))

    def _put(self, month: str, item: Item | None, change: Item) -> Item:
        version = int(item["version"]["N"]) if item else 0
        usual = {"pk": {"S": _pk(month)}, "settled_usd": {"N": "0"}}
        put: Item = {"TableName": self._table, "Item": usual | (item or {}) | change | {"version": {"N": str(version + 1)}}}
        if item is None:
            return put | {"ConditionExpression": "attribute_not_exists(pk)"}
        return put | {"ConditionExpression": "version = :loaded", "ExpressionAttributeValues": {":loaded": {"N": str(version)}}}


def _pk(month: str) -> str:
    return f"SPEND#{month}"
