"""SNS and EventBridge: neither knows a second publish from a first."""

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.simulation.aws.account import Account


class Sns:
    """A client; ``published`` holds every message in order, as a subscribed function gets it."""

    def __init__(self, account: "Account") -> None:
        self._account = account
        self.published: list[dict[str, Any]] = []

    def publish(self, *, TopicArn: str, Subject: str, Message: str, MessageAttributes: dict[str, dict[str, str]]) -> dict[str, Any]:
        def deliver() -> dict[str, Any]:
            attributes = {key: {"Type": value["DataType"], "Value": value["StringValue"]} for key, value in MessageAttributes.items()}
            message_id = f"message-{len(self.published) + 1:06d}"
            note = {"Type": "Notification", "MessageId": message_id, "Subject": Subject, "Message": Message, "MessageAttributes": attributes}
            self.published.append(note)
            self._account.emit("aws.sns", "Notification", note)
            return {"MessageId": message_id}

        answer: dict[str, Any] = self._account.call("sns.publish", Subject, deliver)
        return answer


class Events:
    """A client of the default event bus."""

    def __init__(self, account: "Account") -> None:
        self._account = account

    def put_events(self, *, Entries: list[dict[str, str]]) -> dict[str, Any]:
        def put() -> dict[str, Any]:
            for entry in Entries:
                self._account.emit(entry["Source"], entry["DetailType"], json.loads(entry["Detail"]))
            return {"FailedEntryCount": 0, "Entries": [{"EventId": "e"} for _ in Entries]}

        answer: dict[str, Any] = self._account.call("events.put_events", Entries[0]["DetailType"], put)
        return answer
