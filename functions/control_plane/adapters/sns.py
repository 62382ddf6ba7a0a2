"""The e-mail topic on SNS."""

from typing import Any

from botocore.exceptions import ClientError

from control_plane.adapters.letters import attributes_of, refuse_unsendable
from control_plane.core.failures import THROTTLE
from control_plane.ports import Letter, Refused, Throttled


class SnsPost:
    """The Post port over a boto3 SNS client and a topic's ARN."""

    def __init__(self, sns: Any, topic_arn: str) -> None:
        self._sns = sns
        self._topic_arn = topic_arn

    def publish(self, letter: Letter) -> None:
        """Raises ValueError for a letter that SNS would not take, and Refused where it says so itself."""
        refuse_unsendable(letter)
        try:
            self._sns.publish(
                TopicArn=self._topic_arn,
                Subject=letter.subject,
                Message=letter.body,
                MessageAttributes={key: {"DataType": "String", "StringValue": value} for key, value in attributes_of(letter).items()},
            )
        except ClientError as error:
            # A 5xx answer says nothing about the effect.
            if error.response["Error"].get("Code") in THROTTLE:
                raise Throttled(str(error)) from error
            if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500) < 500:
                raise Refused(str(error)) from error
            raise
