"""What a manifest that is about to be sent would need, in lines; it is not sent where the stack would refuse it."""

from collections.abc import Iterator
from datetime import datetime

import click

from dropforge.plan.sources import Facts, facts_of, plan_from
from dropforge.stack import Stack
from jobspec.manifest import Manifest
from jobspec.problems import render_problems
from jobspec.status import ProblemLine
from planning.refusals import refusals, warnings
from planning.subject import out_of_reach
from planning.words import expectation

#: Below the problems of a plan: the command that shows what they follow from.
_MORE = "\nThe whole of it: dropforge plan FILE"


def expected(manifest: Manifest, stack: Stack, now: datetime) -> Iterator[str]:
    """What a manifest about to be sent would need, in lines. Raises click.ClickException where the stack would refuse it."""
    if outside := tuple(out_of_reach(manifest, (stack.data_bucket, stack.outputs_bucket), stack.read_buckets)):
        raise _not_sent(outside)
    facts = facts_of(manifest, lambda: stack)
    if manifest.sweep is not None:
        yield from _expected_of_sweep(manifest, facts, now)
        return
    plan = plan_from(manifest, facts)
    if plan is None:
        yield from facts.unknown
        return
    if problems := refusals(plan, manifest, now):
        raise _not_sent(problems, _MORE)
    yield expectation(plan, manifest)
    yield from warnings(plan, manifest, now)


def _expected_of_sweep(manifest: Manifest, facts: Facts, now: datetime) -> Iterator[str]:
    # Imported here: its tables take a moment to load, and most manifests are no sweep's.
    from dropforge.plan import sweeps

    jobs = sweeps.planned_jobs(manifest, facts, now)
    if problems := sweeps.wrong(jobs):
        raise _not_sent(problems, _MORE)
    yield sweeps.expectation(manifest, jobs)
    yield from (*sweeps.warnings(manifest, jobs), *facts.unknown)


def _not_sent(problems: tuple[ProblemLine, ...], more: str = "") -> click.ClickException:
    return click.ClickException(f"Not sent, for it would be refused:\n\n{render_problems(problems)}{more}")
