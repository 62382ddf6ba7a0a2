"""Runs every check on a stack; whatever a check raises becomes a finding, so that one missing right hides nothing else."""

from collections.abc import Iterator
from dataclasses import replace

import click
from botocore.exceptions import BotoCoreError, ClientError

from dropforge.operate import checks_events, checks_launching, checks_network, checks_people, checks_regions
from dropforge.operate.findings import Check, Finding, Verdict, broken, ok, unknown, warning
from dropforge.stack import Deployment

POLICY_PAGE = "docs/operations.md, Rights"

#: How services say that the caller lacks the right (each service's API reference, "Common errors").
NO_RIGHT = frozenset(
    {"AccessDenied", "AccessDeniedException", "AuthorizationError", "AuthorizationErrorException", "UnauthorizedOperation", "UnauthorizedException", "403"}
)
#: How services say that a thing of the stack is not there (any more).
NOT_THERE = frozenset(
    {
        "404",
        "AWS.SimpleQueueService.NonExistentQueue",
        "InvalidLaunchTemplateId.NotFound",
        "InvalidLaunchTemplateId.VersionNotFound",
        "InvalidSubnetID.NotFound",
        "NoSuchBucket",
        "NotFound",
        "NotFoundException",
        "QueueDoesNotExist",
        "RepositoryNotFoundException",
        "ResourceNotFound",
        "ResourceNotFoundException",
    }
)

_SETTLED = frozenset({"CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE"})
_UNDER_WAY = frozenset({"CREATE_IN_PROGRESS", "UPDATE_IN_PROGRESS", "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", "UPDATE_ROLLBACK_IN_PROGRESS", "IMPORT_IN_PROGRESS"})
#: The update failed, the stack is what it was before.
_BACK_TO_BEFORE = frozenset({"UPDATE_ROLLBACK_COMPLETE", "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS", "IMPORT_ROLLBACK_COMPLETE"})


def _stack(stack: Deployment) -> Iterator[Finding]:
    events = f"aws cloudformation describe-stack-events --stack-name {stack.name}"
    if stack.status in _SETTLED:
        yield ok("stack", f"{stack.name} is {stack.status} in {stack.region}, account {stack.account_id}.")
    elif stack.status in _UNDER_WAY:
        yield warning("stack", f"{stack.name} is {stack.status}: look again when it is done.")
    elif stack.status in _BACK_TO_BEFORE:
        yield warning("stack", f"{stack.name} is {stack.status}: its last update failed, the version before it runs. {stack.status_reason}".strip(), events)
    else:
        yield broken("stack", f"{stack.name} is {stack.status}. {stack.status_reason}".strip(), events)


CHECKS: tuple[Check, ...] = (Check("stack", _stack), *checks_people.CHECKS, *checks_launching.CHECKS, *checks_network.CHECKS, *checks_events.CHECKS)


def examine(stack: Deployment, checks: tuple[Check, ...] = CHECKS) -> Iterator[Finding]:
    """Every check's findings, in order, as they come; then those of the stack's other regions."""
    for check in checks:
        yield from _looked(check, stack)
    for region in stack.peers:
        first, *others = checks_regions.checks_in(region)
        found = list(_looked(first, stack, f"{region}: "))
        yield from found
        if not any(finding.verdict in (Verdict.BROKEN, Verdict.UNKNOWN) for finding in found):
            for check in others:
                yield from _looked(check, stack, f"{region}: ")


def _looked(check: Check, stack: Deployment, where: str = "") -> Iterator[Finding]:
    """The check's findings, or what its raising means. ``where``: before the latter."""
    try:
        yield from check.look(stack)
    except ClientError as error:
        finding = _refused(check.name, stack, error)
        yield replace(finding, means=where + finding.means)
    except BotoCoreError as error:
        yield unknown(check.name, f"{where}AWS could not be asked: {error}")
    except click.ClickException as error:
        yield broken(check.name, where + error.message, "sam deploy --guided")


def _refused(check: str, stack: Deployment, error: ClientError) -> Finding:
    code = str(error.response.get("Error", {}).get("Code", ""))
    message = str(error.response.get("Error", {}).get("Message", ""))[:300]
    if code in NO_RIGHT:
        return unknown(check, f"Not looked at: you may not call {error.operation_name} ({code}). The rights that this needs: {POLICY_PAGE}.")
    if code in NOT_THERE:
        drift = f"aws cloudformation detect-stack-drift --stack-name {stack.name}"
        return broken(check, f"{error.operation_name} finds it no more ({code}): {message.rstrip('.')}. Somebody removed a part of the stack by hand.", drift)
    return unknown(check, f"Not looked at: {error.operation_name} answered {code}: {message}")


def is_well(findings: list[Finding]) -> bool:
    """Nothing is broken; what is unknown or a warning is for a person to read."""
    return all(finding.verdict is not Verdict.BROKEN for finding in findings)
