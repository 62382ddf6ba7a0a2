"""The command line. Commands parse and print; what they do lies in the modules beside.

Rules of this file: it imports click and nothing that takes longer; each command imports what it needs when it runs.
"""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dropforge.lazy import Later, LazyGroup
from dropforge.operate.commands import doctor, pause, redrive, resume, stop_all
from dropforge.options import stack_option
from jobspec import keys

if TYPE_CHECKING:
    from jobspec.manifest import Manifest

LOOK_EVERY_S = 1.0

manifest_argument = click.argument("manifest", type=click.Path(exists=True, dir_okay=False, path_type=Path))


@click.group(
    cls=LazyGroup,
    later={"local": Later("dropforge.local.commands:local", "A cloud on this machine: the same template and handlers, no account, nothing billed.")},
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="dropforge")
def main() -> None:
    """Fine-tune language models on spot GPUs: drop a manifest into S3, get a model, an e-mail and a receipt."""


for command in (doctor, pause, resume, stop_all, redrive):
    main.add_command(command)


def _read(path: Path) -> "Manifest":
    """The manifest in the file. Raises ClickException with every problem."""
    from jobspec.problems import render_problems
    from jobspec.reading import Refusal, read_manifest

    answer = read_manifest(path.read_bytes(), key=f"{keys.MANIFEST_PREFIX}{path.name}")
    if isinstance(answer, Refusal):
        raise click.ClickException(f"{path} is not a valid manifest:\n\n{render_problems(answer.problems)}")
    return answer


def _summary(manifest: "Manifest") -> str:
    """What would be run, and the most it may cost, in two lines."""
    from jobspec.instances import GPU_INSTANCES
    from jobspec.units import duration_text

    types = manifest.compute.candidate_types()
    cheapest = GPU_INSTANCES[types[0]].on_demand_usd_per_h
    limits = manifest.limits
    return (
        f"{manifest.name}: {manifest.model.reference()} on {manifest.data.train}, {manifest.compute.market}, {', '.join(types)}\n"
        f"At most {duration_text(limits.max_runtime)} of instance time and ${limits.budget_usd:g}; "
        f"on-demand would be ${cheapest:.2f} an hour ({types[0]}), spot is usually well under half of that."
    )


@main.command()
@manifest_argument
def validate(manifest: Path) -> None:
    """Check a manifest without sending it anywhere. Exit 1 and every problem, with its line, if it is not valid."""
    click.echo(_summary(_read(manifest)))
    click.echo("The manifest is valid.")


@main.command()
@manifest_argument
@stack_option
@click.option("--dry-run", is_flag=True, help="Say what would be put where, and put nothing.")
@click.option("--wait", is_flag=True, help="Follow the job to its end; exit 1 unless it succeeds. Ctrl-C leaves it running.")
def submit(manifest: Path, stack_name: str, dry_run: bool, wait: bool) -> None:
    """Check a manifest and put it into the stack's bucket: the same as `aws s3 cp FILE s3://BUCKET/jobs/`."""
    from dropforge.stack import find_stack

    parsed = _read(manifest)
    stack = find_stack(stack_name)
    key = f"{keys.MANIFEST_PREFIX}{manifest.name}"
    if not keys.is_manifest_key(key):
        raise click.ClickException(f"{manifest.name}: rename it to NAME.yaml, .yml or .json, of letters, digits, dot, hyphen and underscore.")
    click.echo(_summary(parsed))
    if dry_run:
        click.echo(f"Would put it to s3://{stack.data_bucket}/{key}. Nothing was sent.")
        return
    stack.s3.put_object(Bucket=stack.data_bucket, Key=key, Body=manifest.read_bytes())
    click.echo(f"Put to s3://{stack.data_bucket}/{key}. Follow it: dropforge status {parsed.name} --watch")
    if wait:
        _follow(stack_name, parsed.name)


@main.command()
@click.argument("name")
@stack_option
@click.option("--watch", is_flag=True, help="Follow the job to its end; exit 1 unless it succeeds. Ctrl-C leaves it running.")
@click.option("--json", "as_json", is_flag=True, help="Print the status object as it is.")
def status(name: str, stack_name: str, watch: bool, as_json: bool) -> None:
    """Show the newest job of that name: state and reason, attempts, cost."""
    from dropforge.stack import find_stack
    from dropforge.watch import read_status
    from jobspec.units import duration_text

    if watch:
        _follow(stack_name, name)
        return
    found = read_status(find_stack(stack_name), name)
    if found is None:
        raise click.ClickException(f"No job {name!r}. `aws s3 ls s3://BUCKET/{keys.STATUS_PREFIX}` lists what there is.")
    if as_json:
        click.echo(found.model_dump_json(indent=1))
        return
    click.echo(f"{found.job_id}: {found.state}: {found.reason}")
    for problem in found.problems:
        click.echo(f"  {problem.path}: {problem.message}")
    if found.total_steps:
        click.echo(f"  step {found.step} of {found.total_steps}" + (f", loss {found.loss:.4f}" if found.loss is not None else ""))
    for attempt in found.attempts:
        click.echo(
            f"  attempt {attempt.number}: {attempt.instance_id} {attempt.instance_type} {attempt.zone} {attempt.market}, "
            f"{duration_text(attempt.runtime_s)}, ${attempt.cost_usd:.4f}, {attempt.end or 'live'}"
        )
    if found.receipt is not None:
        click.echo(f"  cost ${found.receipt.cost_usd:.4f}, on-demand would be ${found.receipt.on_demand_usd:.4f}")
    if found.model:
        click.echo(f"  model: {found.model}")


def _follow(stack_name: str, name: str) -> None:
    """Print what happens until the job ends; exit 1 unless it succeeded."""
    from dropforge.stack import find_stack
    from dropforge.watch import Follower

    follower = Follower(find_stack(stack_name), name)
    try:
        while not follower.ended:
            for line in follower.look():
                click.echo(f"{line.at.astimezone():%H:%M:%S}  {line.who:<14}{line.text}")
            time.sleep(LOOK_EVERY_S)
    except KeyboardInterrupt:
        click.echo(f"\nThe job goes on without you. Cancel it by deleting its manifest; look again with: dropforge status {name} --watch")
        sys.exit(130)
    sys.exit(0 if follower.status is not None and follower.status.state == "SUCCEEDED" else 1)
