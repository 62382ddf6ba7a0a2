"""``dropforge plan``: parsing and printing only; it imports what it needs when it runs."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dropforge.options import json_option, stack_option

if TYPE_CHECKING:
    from dropforge.plan.sources import Facts
    from jobspec.manifest import Manifest

#: The table is as wide as it is; a narrower terminal would fold it.
TABLE_COLUMNS = 140


@click.command()
@click.argument("manifest", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@stack_option
@json_option
@click.option("--model", type=click.Path(exists=True, path_type=Path), help="The model's config.json, or a folder with it, instead of a look at S3.")
@click.option("--data", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="A copy of the training rows: they are then counted, not guessed.")
@click.option("--all-types", is_flag=True, help="Every offered instance type, not only those that the manifest allows.")
def plan(manifest: Path, stack_name: str, as_json: bool, model: Path | None, data: Path | None, all_types: bool) -> None:
    """Memory, hours, dollars and the last save of a job, before a GPU is started; of a sweep the dollars of each job and of all.

    Exit 1 if it would be refused. Needs no torch.
    """
    from dropforge.manifests.checked import checked
    from dropforge.plan.show import plan_json, plan_view
    from dropforge.plan.sources import facts_of, plan_from
    from dropforge.stack import find_stack
    from jobspec import keys
    from jobspec.instances import GPU_INSTANCES
    from planning.refusals import refusals

    parsed = checked(manifest.read_bytes(), f"{keys.MANIFEST_PREFIX}{manifest.name}", str(manifest))
    facts = facts_of(parsed, lambda: find_stack(stack_name), model, data)
    if parsed.sweep is not None:
        _plan_sweep(parsed, facts, as_json)
        return
    planned = plan_from(parsed, facts, tuple(GPU_INSTANCES) if all_types else None)
    if planned is None:
        raise click.ClickException(f"{parsed.name} cannot be planned. " + " ".join(facts.unknown))
    now = datetime.now(UTC)
    if as_json:
        click.echo(json.dumps(plan_json(planned, parsed, facts.unknown, now), indent=1))
    else:
        from rich.console import Console

        console = Console()
        console.width = max(console.width, TABLE_COLUMNS)
        console.print(plan_view(planned, parsed, facts.unknown, now))
    if refusals(planned, parsed, now) and not all_types:
        raise click.exceptions.Exit(1)


def _plan_sweep(manifest: "Manifest", facts: "Facts", as_json: bool) -> None:
    from dropforge.plan.sweeps import planned_jobs, sweep_json, sweep_view, wrong

    jobs = planned_jobs(manifest, facts, datetime.now(UTC))
    if as_json:
        click.echo(json.dumps(sweep_json(manifest, jobs, facts.unknown), indent=1))
    else:
        from rich.console import Console

        console = Console()
        console.width = max(console.width, TABLE_COLUMNS)
        console.print(sweep_view(manifest, jobs, facts.unknown))
    if wrong(jobs):
        raise click.exceptions.Exit(1)
