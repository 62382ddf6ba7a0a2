"""What went wrong, in a sentence with the next step: every exception that a command lets out passes through here once."""

import errno
import re
from typing import TYPE_CHECKING

import click

from dropforge.lazy import LazyGroup
from dropforge.local.state import LocalCloudError

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

#: Error codes by which AWS says that a right is missing (docs of EC2, S3, DynamoDB, ...).
DENIED = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AuthorizationError", "NotAuthorized", "403"})
#: Error codes of credentials that are no longer, or not yet, any good.
STALE_CREDENTIALS = frozenset(
    {"ExpiredToken", "ExpiredTokenException", "RequestExpired", "InvalidClientTokenId", "UnrecognizedClientException", "InvalidAccessKeyId"}
)
SIGN_IN = 'For an account: `aws configure`, or `aws sso login`, or AWS_PROFILE. For the local cloud: eval "$(dropforge local env)".'
#: What the operating system says of a file, and what to do.
_ON_DISK = {
    errno.ENOSPC: "The disk is full: make room, then run it again.",
    errno.EDQUOT: "Your quota on this disk is used up: make room, then run it again.",
    errno.EROFS: "Nothing can be written there: name another place.",
    errno.EACCES: "You lack the right to that file or folder: name another, or change its owner or mode.",
    errno.ENOTDIR: "A file is where a folder is wanted: name another place.",
    errno.ENAMETOOLONG: "Name a shorter one.",
}
_ACTION = re.compile(r"perform: ([a-z0-9-]+:[A-Za-z0-9*]+)")


class SpeakingGroup(LazyGroup):
    """The outermost group: whatever goes wrong becomes one sentence and exit status 1; ``--debug`` shows the stack trace instead."""

    def invoke(self, context: click.Context) -> object:
        try:
            return super().invoke(context)
        except (click.exceptions.Exit, click.ClickException, click.Abort, KeyboardInterrupt):
            raise
        except Exception as error:
            if context.params.get("debug"):
                raise
            raise click.ClickException(explained(error)) from None


def explained(error: Exception) -> str:
    """A sentence for the person at the keyboard: what was wrong, where, what to do."""
    if isinstance(error, LocalCloudError):
        return str(error)
    if type(error).__module__.startswith(("botocore", "boto3", "s3transfer")):
        return _aws_said(error)
    from jobspec.wire import UnreadableDocument

    if isinstance(error, UnreadableDocument):
        return f"A document in the bucket is not one that this version understands: {error}. Is the stack newer than this command? Install the stack's version."
    if isinstance(error, OSError) and error.errno in _ON_DISK:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}. {_ON_DISK[error.errno]}"
    return f"{type(error).__name__}: {error}. This should have been a better sentence: please report it with what `dropforge --debug` says instead."


def _aws_said(error: Exception) -> str:
    from botocore.exceptions import (
        ClientError,
        CredentialRetrievalError,
        EndpointConnectionError,
        NoCredentialsError,
        NoRegionError,
        PartialCredentialsError,
        ProfileNotFound,
        SSOError,
    )

    match error:
        case ClientError():
            return _service_said(error)
        case NoCredentialsError() | PartialCredentialsError() | ProfileNotFound() | CredentialRetrievalError() | SSOError():
            return f"AWS does not know who you are: {error}. {SIGN_IN}"
        case NoRegionError():
            return f"No region is set: AWS_DEFAULT_REGION, or `aws configure set region REGION`. It is the one that the stack was deployed to. {SIGN_IN}"
        case EndpointConnectionError():
            return f"{error} Is the network there, and the local cloud up (`dropforge local status`)? {SIGN_IN}"
        case _:
            return f"AWS cannot be reached: {error}. {SIGN_IN}"


def _service_said(error: "ClientError") -> str:
    code, message = error.response["Error"].get("Code", ""), error.response["Error"].get("Message", "")
    said = f"{error.operation_name} was refused ({code}): {message}"
    if code in DENIED:
        named = _ACTION.search(message)
        action = named.group(1) if named else error.operation_name
        return f"{said}\nYou lack the right to {action}. The policies to attach: docs/jobs.md, Rights (jobs), and docs/operations.md, Rights (the stack)."
    if code in STALE_CREDENTIALS:
        return f"{said}\nThe credentials are old or wrong. {SIGN_IN}"
    return said
