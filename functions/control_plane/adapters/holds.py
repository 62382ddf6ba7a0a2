"""The project-wide hold in the job table."""

from typing import Any

from control_plane.adapters import items
from control_plane.adapters.recent import Recent
from control_plane.ports import Clock
from jobspec.operator import HOLD_ATTRIBUTE, HOLD_KEY, Hold


class DynamoHolds:
    """A HoldStore over a boto3 DynamoDB client and a table's name."""

    def __init__(self, dynamodb: Any, table_name: str, now: Clock) -> None:
        self._dynamodb = dynamodb
        self._table = table_name
        self._hold = Recent(self._read, now)

    def current(self) -> Hold | None:
        return self._hold.anew()[0]

    def lately(self) -> Hold | None:
        return (self._hold.kept() or self._hold.anew())[0]

    def _read(self) -> tuple[Hold | None]:
        """In a tuple, for that there is none is an answer, too."""
        item = items.read(self._dynamodb, self._table, HOLD_KEY["pk"]["S"])
        return (None if item is None else Hold.model_validate_json(item[HOLD_ATTRIBUTE]["S"]),)

    def put(self, hold: Hold) -> None:
        """Unconditional: the last word counts, whoever speaks it."""
        self._dynamodb.put_item(TableName=self._table, Item=HOLD_KEY | {HOLD_ATTRIBUTE: {"S": hold.model_dump_json()}})
        self._hold.forget()
