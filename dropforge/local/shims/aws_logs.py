"""``aws logs create-log-stream`` and ``put-log-events`` as ``bootstrap.sh`` calls them: by boto3, with the instance's own credentials."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError


def main(arguments: list[str]) -> int:
    """The exit status that the AWS CLI would give: 254 where the service refuses, 255 where it is not reached (AWS CLI guide, "Return codes")."""
    parser = argparse.ArgumentParser(prog="aws logs")
    parser.add_argument("verb", choices=("create-log-stream", "put-log-events"))
    for option in ("--log-group-name", "--log-stream-name"):
        parser.add_argument(option, required=True)
    parser.add_argument("--log-events")
    parser.add_argument("--cli-connect-timeout", type=float, default=60)
    parser.add_argument("--cli-read-timeout", type=float, default=60)
    asked = parser.parse_args(arguments)
    make: Any = boto3.client  # its stubs name every service but this one, which comes in a package of its own
    logs = make("logs", config=Config(connect_timeout=asked.cli_connect_timeout, read_timeout=asked.cli_read_timeout))
    where = {"logGroupName": asked.log_group_name, "logStreamName": asked.log_stream_name}
    try:
        if asked.verb == "create-log-stream":
            logs.create_log_stream(**where)
        else:
            logs.put_log_events(**where, logEvents=json.loads(Path(asked.log_events.removeprefix("file://")).read_text()))
    except ClientError as refused:
        sys.stderr.write(f"{refused}\n")
        return 254
    except BotoCoreError as unreached:
        sys.stderr.write(f"{unreached}\n")
        return 255
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
