"""S3's EventBridge events carry the object's ``version-id`` (S3 guide, "EventBridge event message structure"); ministack drops it."""

import contextvars
import json
from typing import Any

from dropforge.local.plugin import seams

_version: contextvars.ContextVar[str | None] = contextvars.ContextVar("dropforge_version_id", default=None)


def install() -> None:
    seams.wrap("services.s3", "_fire_s3_event", _noting_version)
    seams.wrap("services.eventbridge", "_dispatch_event", _with_version)


def _noting_version(original: Any) -> Any:
    def fire(*args: Any, **kwargs: Any) -> Any:
        token = _version.set(kwargs.get("version_id"))
        try:
            return original(*args, **kwargs)
        finally:
            _version.reset(token)

    return fire


def _with_version(original: Any) -> Any:
    def dispatch(event: dict[str, Any], *rest: Any) -> Any:
        version = _version.get()
        if version and event["Source"] == "aws.s3":
            detail = json.loads(event["Detail"])
            detail["object"]["version-id"] = version
            event = event | {"Detail": json.dumps(detail)}
        return original(event, *rest)

    return dispatch
