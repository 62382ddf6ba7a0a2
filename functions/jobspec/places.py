"""Where models and data lie: a location in S3, or a repository of the Hugging Face hub at one commit."""

from typing import Annotated, Any

from pydantic import ConfigDict, StringConstraints

#: Either ``s3://bucket/key`` or a key in the bucket that the manifest lies in.
LOCATION_PATTERN = r"^(s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/)?[A-Za-z0-9_=-][A-Za-z0-9._=-]*(/[A-Za-z0-9_=-][A-Za-z0-9._=-]*)*/?$"
HUB_ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,95}(\.[A-Za-z0-9_-]+)*/[A-Za-z0-9][A-Za-z0-9._-]{0,95}$"
COMMIT_PATTERN = r"^[0-9a-f]{40}$"
#: A file of a hub repository; ``*`` stands for any characters of one part of the path.
HUB_FILE_PATTERN = r"^[A-Za-z0-9_*-][A-Za-z0-9._*=-]*(/[A-Za-z0-9_*-][A-Za-z0-9._*=-]*)*$"

Location = Annotated[str, StringConstraints(strict=True, pattern=LOCATION_PATTERN, max_length=1024)]
HubId = Annotated[str, StringConstraints(strict=True, pattern=HUB_ID_PATTERN)]
Commit = Annotated[str, StringConstraints(strict=True, pattern=COMMIT_PATTERN)]
HubFile = Annotated[str, StringConstraints(strict=True, pattern=HUB_FILE_PATTERN, max_length=512)]


def one_of(*groups: tuple[str, ...]) -> ConfigDict:
    """JSON Schema for "exactly one of these groups of keys", so that an editor says what the model's validator would."""
    keys = [key for group in groups for key in group]
    branches: list[Any] = [
        {"required": list(group), "properties": {key: {"not": {"type": "null"}} if key in group else {"type": "null"} for key in keys}} for group in groups
    ]
    return ConfigDict(json_schema_extra={"oneOf": branches})
