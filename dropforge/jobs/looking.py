"""``dropforge list``, ``status``, ``logs``, ``report``, ``cost``: looking at jobs. Parsing and printing only; nothing here changes a thing.

Rules of this file: it imports click and nothing that takes longer; each command imports what it needs when it runs.
"""

import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dropforge.jobs.following import follow_to_end
from dropforge.options import job_argument, json_option, stack_option
from dropforge.output import print_json, say

if TYPE_CHECKING:
    from dropforge.jobs.find import Listed

#: Wider than any line: a reason has 500 characters at most.
PIPED = 1000


@click.command("list")
@stack_option
@json_option
@click.option("--state", "states", multiple=True, metavar="STATE", help="Only jobs in this state, such as RUNNING; may be repeated. `active`: not over yet.")
@click.option("--sweep", metavar="NAME", help="Only that sweep and its jobs.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=50, show_default=True, help="The newest so many.")
def list_jobs(stack_name: str, as_json: bool, states: tuple[str, ...], sweep: str | None, limit: int) -> None:
    """Every job's state, progress and cost, newest first. One row a name: its newest job. Jobs of a sweep stand below it."""
    from dropforge.jobs.find import ENDS, newest_statuses
    from dropforge.stack import find_stack

    wanted = {word.upper() for word in states}
    _refuse_unknown_states(wanted)
    # Of all of them only the newest are read; to choose by what stands in them, all are. The names of a sweep's jobs begin with its own.
    rows, left = newest_statuses(find_stack(stack_name), None if wanted or sweep else limit, sweep or "")
    rows = [row for row in rows if sweep in (None, row.status.name, row.status.parent)]
    chosen = [row for row in rows if not wanted or row.status.state in wanted or ("ACTIVE" in wanted and row.status.state not in ENDS)]
    shown = chosen[:limit]
    if as_json:
        click.echo(json.dumps([row.status.model_dump(mode="json") | {"refused_beside": row.beside} for row in shown], indent=1))
        return
    if not shown:
        click.echo(_nothing(stack_name, sweep, any_there=bool(rows)))
        return
    _print_table(shown)
    if more := len(chosen) - len(shown) + left:
        click.echo(f"{more} more: --limit {len(shown) + more}")


def _nothing(stack_name: str, sweep: str | None, *, any_there: bool) -> str:
    """Why there is no row."""
    if sweep is not None and not any_there:
        return f"No sweep {sweep!r} in stack {stack_name}: `dropforge list` shows what there is."
    return f"No job in stack {stack_name}" + (" is in that state." if any_there else " yet. The first: dropforge init, then dropforge submit FILE")


def _print_table(shown: "list[Listed]") -> None:
    from rich.console import Console

    from dropforge.jobs.view import list_table

    if sys.stdout.isatty() or "COLUMNS" in os.environ:
        console = Console()
        console.print(list_table(shown, datetime.now(UTC), console.width))
        return
    # A pipe has no width: what reads it gets every word, and no blanks behind the last.
    console = Console(width=PIPED)
    with console.capture() as text:
        console.print(list_table(shown, datetime.now(UTC), console.width))
    click.echo("\n".join(line.rstrip() for line in text.get().splitlines()))


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
        follow_to_end(stack_name, the_status(find_stack(stack_name), job).name, as_json)
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
