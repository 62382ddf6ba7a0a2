"""The project-wide hold in the job table."""

from typing import Any

from control_plane.adapters import items
from jobspec.operator import HOLD_ATTRIBUTE, HOLD_KEY, Hold


class DynamoHolds:
    """A HoldStore over a boto3 DynamoDB client and a table's name."""

    def __init__(self, dynamodb: Any, table_name: str) -> None:
        self._dynamodb = dynamodb
        self._table = table_name

    def current(self) -> Hold | None:
        item = items.read(self._dynamodb, self._table, HOLD_KEY["pk"]["S"])
        return None if item is None else Hold.model_validate_json(item[HOLD_ATTRIBUTE]["S"])

    def put(self, hold: Hold) -> None:
        """Unconditional: the last word counts, whoever speaks it."""
        self._dynamodb.put_item(TableName=self._table, Item=HOLD_KEY | {HOLD_ATTRIBUTE: {"S": hold.model_dump_json()}})
