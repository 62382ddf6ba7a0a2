"""``dropforge submit``, ``cancel``, ``retry``, ``download``, ``interrupt``: acting on jobs. Parsing and printing only.

Rules of this file: it imports click and nothing that takes longer; each command imports what it needs when it runs.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from dropforge.jobs.following import follow_to_end
from dropforge.options import dry_run_option, job_argument, json_option, stack_option, yes_option
from dropforge.output import print_json, say

#: The control plane hears of a deleted manifest in seconds, and its tick within a minute or two.
CANCELLED_WITHIN_S = 30.0


@click.command()
@click.argument("manifest", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@stack_option
@json_option
@dry_run_option
@click.option("--wait", is_flag=True, help="Follow the job to its end; exit 1 unless it succeeds. Ctrl-C leaves it running.")
def submit(manifest: Path, stack_name: str, as_json: bool, dry_run: bool, wait: bool) -> None:
    """Check a manifest and put it into the stack's bucket: the same as `aws s3 cp FILE s3://BUCKET/jobs/`."""
    from dropforge.jobs import order
    from dropforge.manifests.checked import checked
    from dropforge.manifests.summary import summary
    from dropforge.plan.expected import expected
    from dropforge.stack import find_stack

    body, key = manifest.read_bytes(), order.key_for(manifest.name)
    parsed = checked(body, key, str(manifest))
    order.refuse_past_deadline(parsed, order.now())
    stack = find_stack(stack_name)
    order.refuse_beside_active(stack, parsed, key)
    say(as_json, summary(parsed, stack.region))
    for line in expected(parsed, stack, datetime.now(UTC)):
        say(as_json, line)
    where = f"s3://{stack.data_bucket}/{key}"
    if dry_run:
        say(as_json, f"Would put it to {where}. Nothing was sent.")
        print_json(as_json, {"name": parsed.name, "manifest": where, "sent": False})
        return
    order.put(stack, key, body)
    say(as_json, f"Put to {where}. Follow it: dropforge status {parsed.name} --watch")
    if not wait:
        print_json(as_json, {"name": parsed.name, "manifest": where, "sent": True})
        return
    follow_to_end(stack_name, parsed.name, as_json)


@click.command()
@job_argument
@stack_option
@json_option
@yes_option
@dry_run_option
def cancel(job: str, stack_name: str, as_json: bool, yes: bool, dry_run: bool) -> None:
    """Cancel a job: its manifest is deleted, its instances are ended, its checkpoints stay. `dropforge retry` puts it again.

    A sweep's or a schedule's manifest cancels all of its jobs; one of these jobs is cancelled by itself,
    started or not, and the others go on.
    """
    from dropforge.jobs import cancelling
    from dropforge.stack import find_stack

    stack = find_stack(stack_name)
    found = cancelling.target(stack, job)
    if dry_run:
        say(as_json, f"Would {found.way}, which cancels {found.job_id} ({found.state}). Nothing was done.")
        print_json(as_json, {"job_id": found.job_id, "deleted": False})
        return
    if not yes:
        click.confirm(f"Cancel {found.job_id} ({found.state})? {found.at_stake}", abort=True, err=as_json)
    cancelling.cancel(stack, found)
    say(as_json, "Asked for; waiting for the control plane.")
    over = cancelling.wait_for_end(stack, found, CANCELLED_WITHIN_S, lambda line: say(as_json, line))
    print_json(as_json, {"job_id": found.job_id, "deleted": found.parent is None, "state": over.state if over else None})
    if over is None:
        look = found.parent if found.state == cancelling.NOT_STARTED else found.name
        say(as_json, f"It has not ended within {CANCELLED_WITHIN_S:.0f} s; the tick sees to it within minutes. Look again: dropforge status {look}")
    else:
        say(as_json, f"{found.job_id}: {over.state}: {over.reason}")


@click.command()
@job_argument
@stack_option
@json_option
@dry_run_option
def retry(job: str, stack_name: str, as_json: bool, dry_run: bool) -> None:
    """Put a finished job's manifest again, the very version that it ran: a new job of the same name.

    A job of a sweep or a schedule gets a manifest of its own for it, with its own values: the sweep's table and budget stay as they are.
    """
    from dropforge.jobs import order
    from dropforge.jobs.find import ENDS, the_status
    from dropforge.manifests.checked import checked
    from dropforge.manifests.summary import summary
    from dropforge.stack import find_stack

    stack = find_stack(stack_name)
    found = the_status(stack, job)
    if found.state not in ENDS:
        raise click.ClickException(f"{found.name} is not over: {found.state} ({found.reason}). First: dropforge cancel {found.name}")
    key, body = order.manifest_of(stack, found)
    parsed = checked(body, key, found.manifest)
    order.refuse_past_deadline(parsed, order.now())
    say(as_json, summary(parsed, stack.region))
    what, where = f"version {found.manifest_version} of {found.manifest}", f"s3://{stack.data_bucket}/{key}"
    if found.parent is not None:
        say(as_json, f"It is a job of its own from here on: {found.parent} knows nothing of it.")
        what = f"the job's part of {what}"
    if dry_run:
        say(as_json, f"Would put {what} to {where}. Nothing was sent.")
    else:
        order.put(stack, key, body)
        say(as_json, f"Put {what} to {where}. Follow it: dropforge status {found.name} --watch")
    print_json(as_json, {"name": found.name, "manifest": where, "sent": not dry_run})


@click.command()
@job_argument
@stack_option
@json_option
@click.option("--to", "folder", type=click.Path(file_okay=False, path_type=Path), help="Folder. Default: one named like the job, here.")
@click.option("--checkpoint", is_flag=True, help="The newest published checkpoint instead of the finished model.")
@click.option("--force", is_flag=True, help="Replace files of the same names that are others.")
@dry_run_option
def download(job: str, stack_name: str, as_json: bool, folder: Path | None, checkpoint: bool, force: bool, dry_run: bool) -> None:
    """Fetch a job's model; each file is checked against the sha256 that its instance recorded. What is there whole is not fetched again."""
    from dropforge.jobs.fetch import checkpoint_of, fetch, model_of
    from dropforge.jobs.find import the_status
    from dropforge.stack import find_stack

    stack = find_stack(stack_name)
    found = the_status(stack, job)
    parcel = checkpoint_of(stack, found) if checkpoint else model_of(stack, found)
    target = folder or Path(found.name)
    what = f"{len(parcel.files)} files, {parcel.size / 1e6:.1f} MB, from s3://{stack.outputs_bucket}/{parcel.prefix}"
    if dry_run:
        say(as_json, f"Would fetch {what} into {target}/. Nothing was fetched.")
        fetched = 0
    else:
        say(as_json, f"{what} into {target}/")
        with _transfer_bar(parcel.size, hidden=as_json) as advance:
            fetched = fetch(stack, parcel, target, force=force, progress=advance)
        say(as_json, f"All files are there and match their records; {fetched} were fetched.")
    print_json(as_json, {"job_id": found.job_id, "folder": str(target), "files": [file.path for file in parcel.files], "fetched": fetched})


@click.command()
@job_argument
@stack_option
@json_option
@click.option("--role-arn", envvar="DROPFORGE_FIS_ROLE", help="Role for AWS Fault Injection Service (docs/operations.md); the local cloud needs none.")
@yes_option
@dry_run_option
def interrupt(job: str, stack_name: str, as_json: bool, role_arn: str | None, yes: bool, dry_run: bool) -> None:
    """Take a job's spot instance away as EC2 would, to see that it goes on: by the local market, or by AWS FIS."""
    from dropforge.jobs import interrupt as interruption
    from dropforge.jobs.find import the_status
    from dropforge.stack import find_deployment, find_stack

    found = the_status(find_stack(stack_name), job)
    attempt = interruption.live_spot_attempt(found)
    answer: dict[str, Any] = {"job_id": found.job_id, "instance_id": attempt.instance_id, "warned": not dry_run}
    if dry_run:
        say(as_json, f"Would have EC2 take {attempt.instance_id} (attempt {attempt.number}) back. Nothing was done.")
        print_json(as_json, answer)
        return
    if not yes:
        click.confirm(f"Take {attempt.instance_id} (attempt {attempt.number} of {found.name}) away, two minutes from now?", abort=True, err=as_json)
    assert attempt.instance_id is not None, "a live attempt has an instance"
    if interruption.by_the_local_market(attempt.instance_id):
        say(as_json, f"{attempt.instance_id} was warned by the local market.")
    elif role_arn is None:
        raise click.UsageError(
            "In an account FIS does it, with a role of its own: --role-arn ARN, or DROPFORGE_FIS_ROLE. docs/operations.md, Interrupt on purpose."
        )
    else:
        answer["experiment"] = interruption.by_fault_injection(find_deployment(stack_name), role_arn, attempt)
        say(as_json, f"FIS experiment {answer['experiment']} takes {attempt.instance_id} back in {interruption.NOTICE_MINUTES} minutes.")
    say(as_json, f"Watch it: dropforge status {found.name} --watch")
    print_json(as_json, answer)


class _transfer_bar:
    """A bar of bytes on a terminal; nothing where there is none, or where JSON is wanted."""

    def __init__(self, total: int, *, hidden: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

        columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=Console(stderr=True), transient=True, disable=hidden)
        self._task = self._bar.add_task("", total=total)

    def __enter__(self) -> Any:
        self._bar.start()
        return lambda size: self._bar.advance(self._task, size)

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
