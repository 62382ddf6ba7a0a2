"""The publish ledger in the job table: an item a notice, with the ids of the messages that were seen of it."""

from datetime import datetime, timedelta
from typing import Any

from control_plane.adapters import items

#: An item goes by itself after this (the table's TTL), long after its job has settled.
LEDGER_KEEPS = timedelta(days=400)


class DynamoLedger:
    """A PublishLedger over a boto3 DynamoDB client and a table's name."""

    def __init__(self, dynamodb: Any, table_name: str) -> None:
        self._dynamodb = dynamodb
        self._table = table_name

    def note(self, notice_id: str, message_id: str, at: datetime) -> int:
        answer = self._dynamodb.update_item(
            TableName=self._table,
            Key={"pk": {"S": f"NOTICE#{notice_id}"}},
            UpdateExpression="ADD messages :message SET expires_at = :expiry",
            ExpressionAttributeValues={":message": {"SS": [message_id]}, ":expiry": {"N": str(int((at + LEDGER_KEEPS).timestamp()))}},
            ReturnValues="ALL_NEW",
        )
        return len(answer["Attributes"]["messages"]["SS"])

    def knows(self, notice_id: str) -> bool:
        return items.read(self._dynamodb, self._table, f"NOTICE#{notice_id}", only="pk") is not None
