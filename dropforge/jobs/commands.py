"""``dropforge submit``, ``list``, ``status``, ``logs``, ``cancel``, ``retry``, ``download``, ``report``, ``cost``, ``interrupt``: parsing and printing only.

Rules of this file: it imports click and nothing that takes longer; each command imports what it needs when it runs.
"""

import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dropforge.options import json_option, stack_option
from dropforge.output import print_json, say

if TYPE_CHECKING:
    from jobspec.status import Status

LOOK_EVERY_S = 1.0
#: The control plane hears of a deleted manifest in seconds, and its tick within a minute or two.
CANCELLED_WITHIN_S = 30.0
EXIT_INTERRUPTED = 130

job_argument = click.argument("job", metavar="JOB")
yes_option = click.option("--yes", is_flag=True, help="Do not ask.")
dry_run_option = click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")


@click.command()
@click.argument("manifest", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@stack_option
@json_option
@dry_run_option
@click.option("--wait", is_flag=True, help="Follow the job to its end; exit 1 unless it succeeds. Ctrl-C leaves it running.")
def submit(manifest: Path, stack_name: str, as_json: bool, dry_run: bool, wait: bool) -> None:
    """Check a manifest and put it into the stack's bucket: the same as `aws s3 cp FILE s3://BUCKET/jobs/`."""
    from dropforge.jobs import order
    from dropforge.manifests.summary import summary
    from dropforge.plan.sources import expected
    from dropforge.stack import find_stack

    body, key = manifest.read_bytes(), order.key_for(manifest.name)
    parsed = order.checked(body, key, str(manifest))
    stack = find_stack(stack_name)
    say(as_json, summary(parsed))
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
    _follow(stack_name, parsed.name, as_json)


@click.command("list")
@stack_option
@json_option
@click.option("--state", "states", multiple=True, metavar="STATE", help="Only jobs in this state, such as RUNNING; may be repeated. `active`: not over yet.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=50, show_default=True, help="The newest so many.")
def list_jobs(stack_name: str, as_json: bool, states: tuple[str, ...], limit: int) -> None:
    """Every job's state, progress and cost, newest first. One row a name: its newest job."""
    from dropforge.jobs.find import ENDS, all_statuses
    from dropforge.stack import find_stack

    wanted = {word.upper() for word in states}
    _refuse_unknown_states(wanted)
    rows = all_statuses(find_stack(stack_name))
    chosen = [row for row in rows if not wanted or row.status.state in wanted or ("ACTIVE" in wanted and row.status.state not in ENDS)]
    shown = chosen[:limit]
    if as_json:
        click.echo(json.dumps([row.status.model_dump(mode="json") | {"refused_beside": row.beside} for row in shown], indent=1))
        return
    if not shown:
        click.echo(f"No job in stack {stack_name}" + (" is in that state." if rows else " yet. The first: dropforge init, then dropforge submit FILE"))
        return
    from rich.console import Console

    from dropforge.jobs.view import list_table

    Console().print(list_table(shown, datetime.now(UTC)))
    if len(chosen) > len(shown):
        click.echo(f"{len(chosen) - len(shown)} more: --limit {len(chosen)}")


def _refuse_unknown_states(wanted: set[str]) -> None:
    from typing import get_args

    from jobspec.status import State

    known = [*get_args(State), "ACTIVE"]
    unknown = sorted(wanted - set(known))
    if unknown:
        raise click.UsageError(f"--state {unknown[0]}: one of {', '.join(known)}.")


@click.command()
@job_argument
@stack_option
@click.option("--watch", is_flag=True, help="Follow the job to its end; exit 1 unless it succeeds. Ctrl-C leaves it running.")
@json_option
def status(job: str, stack_name: str, watch: bool, as_json: bool) -> None:
    """Show a job: state and reason, progress, attempts, cost, where its model is. JOB is a name, the beginning of one, or a job id."""
    from dropforge.jobs.find import the_status
    from dropforge.stack import find_stack

    if watch:
        _follow(stack_name, the_status(find_stack(stack_name), job).name, as_json)
        return
    found = the_status(find_stack(stack_name), job)
    if as_json:
        click.echo(found.model_dump_json(indent=1))
        return
    from rich.console import Console

    from dropforge.jobs.view import status_view

    Console(highlight=False, soft_wrap=True).print(status_view(found))


@click.command()
@job_argument
@stack_option
@json_option
@click.option("--attempt", "number", type=click.IntRange(min=1), help="Which attempt. Default: the newest.")
@click.option("--follow", "-f", is_flag=True, help="Go on until the attempt is over.")
def logs(job: str, stack_name: str, as_json: bool, number: int | None, follow: bool) -> None:
    """Print what an attempt's bootstrap, agent and trainer printed. With --json one object a line."""
    from dropforge.jobs import logs as logbook
    from dropforge.jobs.find import read_status, the_status
    from dropforge.stack import find_stack

    stack = find_stack(stack_name)
    found = the_status(stack, job)
    attempt = logbook.attempt_of(found, number)
    source = logbook.source_of(stack, attempt, found.job_id)
    lines = logbook.follow(source, lambda: read_status(stack, found.name), attempt.number) if follow else iter(source.fresh())
    count = 0
    for line in lines:
        count += 1
        if as_json:
            click.echo(json.dumps({"at": line.at.isoformat() if line.at else None, "who": line.who, "text": line.text}))
        else:
            click.echo(f"{line.at.astimezone():%H:%M:%S} {line.who:<9} {line.text}" if line.at else f"{line.who:<9} {line.text}")
    if not count and not as_json:
        click.echo(f"Attempt {attempt.number} ({attempt.instance_id}) has printed nothing yet: --follow waits for it.", err=True)


@click.command()
@job_argument
@stack_option
@json_option
@yes_option
@dry_run_option
def cancel(job: str, stack_name: str, as_json: bool, yes: bool, dry_run: bool) -> None:
    """Cancel a job: its manifest is deleted, its instances are ended, its checkpoints stay. `dropforge retry` puts it again."""
    from dropforge.jobs import order
    from dropforge.jobs.find import ENDS, the_status
    from dropforge.stack import find_stack

    stack = find_stack(stack_name)
    found = the_status(stack, job)
    if found.state in ENDS:
        raise click.ClickException(f"{found.name} is over already: {found.state} ({found.reason}).")
    if dry_run:
        say(as_json, f"Would delete {found.manifest}, which cancels {found.job_id} ({found.state}). Nothing was done.")
        print_json(as_json, {"job_id": found.job_id, "deleted": False})
        return
    if not yes:
        click.confirm(f"Cancel {found.job_id}, {found.state}, step {found.step}? Work since its last checkpoint is lost.", abort=True, err=as_json)
    order.delete(stack, found)
    say(as_json, f"{found.manifest} is deleted; waiting for the control plane.")
    over = order.wait_for_end(stack, found.name, found.job_id, CANCELLED_WITHIN_S)
    print_json(as_json, {"job_id": found.job_id, "deleted": True, "state": over.state if over else None})
    if over is None:
        say(as_json, f"It has not ended within {CANCELLED_WITHIN_S:.0f} s; the tick sees to it within minutes. Look again: dropforge status {found.name}")
    else:
        say(as_json, f"{over.job_id}: {over.state}: {over.reason}")


@click.command()
@job_argument
@stack_option
@json_option
@dry_run_option
def retry(job: str, stack_name: str, as_json: bool, dry_run: bool) -> None:
    """Put a finished job's manifest again, the very version that it ran: a new job of the same name."""
    from dropforge.jobs import order
    from dropforge.jobs.find import ENDS, the_status
    from dropforge.manifests.summary import summary
    from dropforge.stack import find_stack

    stack = find_stack(stack_name)
    found = the_status(stack, job)
    if found.state not in ENDS:
        raise click.ClickException(f"{found.name} is not over: {found.state} ({found.reason}). First: dropforge cancel {found.name}")
    key, body = order.manifest_of(stack, found)
    parsed = order.checked(body, key, found.manifest)
    order.refuse_past_deadline(parsed, order.now())
    say(as_json, summary(parsed))
    if dry_run:
        say(as_json, f"Would put version {found.manifest_version} of {found.manifest} again. Nothing was sent.")
    else:
        order.put(stack, key, body)
        say(as_json, f"Put again to {found.manifest}. Follow it: dropforge status {found.name} --watch")
    print_json(as_json, {"name": found.name, "manifest": found.manifest, "sent": not dry_run})


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
@click.argument("job", required=False, metavar="[JOB]")
@stack_option
@json_option
@click.option("--index", "of_all", is_flag=True, help="A page over all jobs, and one for each of them beside it.")
@click.option("--to", "target", type=click.Path(dir_okay=False, path_type=Path), help="File. Default: JOB.html, or jobs/index.html.")
@click.option("--open", "show", is_flag=True, help="Show it in the browser.")
def report(job: str | None, stack_name: str, as_json: bool, of_all: bool, target: Path | None, show: bool) -> None:
    """Write a page with a job's time line, curves, dollars and decisions: one file, no network needed to read it."""
    from dropforge.jobs import report as pages
    from dropforge.jobs.find import the_status
    from dropforge.stack import find_stack

    if (job is None) is not of_all:
        raise click.UsageError("Give a JOB, or --index for all of them.")
    stack, now = find_stack(stack_name), datetime.now(UTC)
    if job is None:
        written, count = pages.write_index(stack, target or Path("jobs/index.html"), now)
        say(as_json, f"Wrote {written}: {count} job(s), a page for each beside it.")
    else:
        found = the_status(stack, job)
        written = pages.write_job(stack, found, target or Path(f"{found.name}.html"), now)
        say(as_json, f"Wrote {written}: {found.job_id}, {found.state}.")
    print_json(as_json, {"file": str(written)})
    if show:
        click.launch(written.absolute().as_uri())


@click.command()
@stack_option
@json_option
@click.option("--month", metavar="YYYY-MM", help="Calendar month, UTC. Default: this one.")
def cost(stack_name: str, as_json: bool, month: str | None) -> None:
    """What each job cost in a month, all together, and what on-demand would have cost. Estimates, as the receipts are."""
    import re

    from dropforge.jobs.costs import of_month
    from dropforge.stack import find_stack

    now = datetime.now(UTC)
    month = month or f"{now:%Y-%m}"
    if not re.fullmatch(r"[0-9]{4}-(0[1-9]|1[0-2])", month):
        raise click.UsageError(f"--month {month}: write YYYY-MM, such as {now:%Y-%m}.")
    shares = of_month(find_stack(stack_name), month, now)
    total, on_demand = sum(share.cost_usd for share in shares), sum(share.on_demand_usd for share in shares)
    if as_json:
        rows = [
            {"job_id": s.status.job_id, "name": s.status.name, "state": s.status.state, "cost_usd": round(s.cost_usd, 4), "runtime_s": round(s.runtime_s, 1)}
            for s in shares
        ]
        click.echo(json.dumps({"month": month, "cost_usd": round(total, 4), "on_demand_usd": round(on_demand, 4), "jobs": rows}, indent=1))
        return
    if not shares:
        click.echo(f"No job of stack {stack_name} ran in {month}.")
        return
    from rich.console import Console

    from dropforge.jobs.view import cost_table

    Console().print(cost_table(shares))
    saved = f", {100 * (on_demand - total) / on_demand:.0f} % less than on-demand (${on_demand:.2f})" if on_demand else ""
    click.echo(f"{month}: ${total:.2f} for {len(shares)} job(s){saved}. Instances only, estimated; volumes, S3 and transfer come on top.")


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
        answer["experiment"] = interruption.by_fault_injection(find_deployment(stack_name), role_arn, attempt.instance_id)
        say(as_json, f"FIS experiment {answer['experiment']} takes {attempt.instance_id} back in {interruption.NOTICE_MINUTES} minutes.")
    say(as_json, f"Watch it: dropforge status {found.name} --watch")
    print_json(as_json, answer)


def _follow(stack_name: str, name: str, as_json: bool) -> None:
    """Show what happens until the job ends; exit 1 unless it succeeded."""
    from rich.console import Console

    from dropforge.jobs.follow import Follower
    from dropforge.jobs.screen import Screen
    from dropforge.jobs.view import live_line, status_view
    from dropforge.stack import find_stack

    follower, console = Follower(find_stack(stack_name), name), Console(stderr=as_json)
    try:
        with Screen(console, lambda at: f"{at.astimezone():%H:%M:%S}") as screen:
            while True:
                for line in follower.look():
                    screen.told(line)
                screen.waits(live_line(follower, datetime.now(UTC)))
                if follower.ended:
                    break
                time.sleep(LOOK_EVERY_S)
    except KeyboardInterrupt:
        click.echo(f"\nThe job goes on without you. Look again: dropforge status {name} --watch. End it: dropforge cancel {name}", err=as_json)
        sys.exit(EXIT_INTERRUPTED)
    found: Status | None = follower.status
    assert found is not None, "an ended job has a status"
    if as_json:
        click.echo(found.model_dump_json(indent=1))
    else:
        console.print(status_view(found), highlight=False, soft_wrap=True)
    sys.exit(0 if found.state == "SUCCEEDED" else 1)


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
