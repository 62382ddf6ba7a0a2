"""Where a stack is: its buckets, found through the usual AWS settings or the running local cloud."""

from dataclasses import dataclass
from typing import Any

import boto3
import click
from botocore.exceptions import BotoCoreError, ClientError


@dataclass(frozen=True, slots=True)
class Stack:
    """A deployed stack's buckets, and the client that reaches them."""

    name: str
    data_bucket: str
    outputs_bucket: str
    s3: Any


def find_stack(name: str) -> Stack:
    """The stack of that name in the account and region that the AWS settings name. Raises ClickException with the next command."""
    try:
        answer = boto3.client("cloudformation").describe_stacks(StackName=name)
        outputs = {item["OutputKey"]: item["OutputValue"] for item in answer["Stacks"][0].get("Outputs", [])}
        return Stack(name, outputs["DataBucketName"], outputs["OutputsBucketName"], boto3.client("s3"))
    except KeyError as error:
        raise click.ClickException(f"Stack {name!r} has no output {error}: it is not a Dropforge stack. Name yours with --stack.") from None
    except ClientError as error:
        message = error.response["Error"].get("Message", str(error))
        raise click.ClickException(f"Stack {name!r}: {message}. Deploy it with `sam deploy --guided`, or name yours with --stack.") from None
    except BotoCoreError as error:
        hint = 'For an account: `aws configure`. For the local cloud: eval "$(dropforge local env)".'
        raise click.ClickException(f"AWS cannot be reached: {error}. {hint}") from None
