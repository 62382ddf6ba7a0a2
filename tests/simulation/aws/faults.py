"""The two ways in which a call does not answer: AWS says no, or says nothing."""

from typing import Any

from botocore.exceptions import ClientError, ReadTimeoutError

#: Codes that AWS sends with a status that is not 400.
_STATUS = {
    "RequestLimitExceeded": 503,
    "ThrottlingException": 400,
    "SlowDown": 503,
    "InternalError": 500,
    "404": 404,
    "NoSuchKey": 404,
    "AccessDenied": 403,
    "PreconditionFailed": 412,
}


def aws_error(code: str, message: str, operation: str, **more: Any) -> ClientError:
    response: Any = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": _STATUS.get(code, 400)}, **more}
    return ClientError(response, operation)


def lost_answer(operation: str) -> ReadTimeoutError:
    """The caller's connection gave up; whether the call had its effect is another matter."""
    return ReadTimeoutError(endpoint_url=f"https://in-memory/{operation}")
