"""What a sweep would need: each of its jobs planned, and the dollars of the whole."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from dropforge.plan.sources import Facts, plan_from
from jobspec.children import Child, children_of, limit_usd
from jobspec.manifest import Manifest
from jobspec.problems import render_problems
from jobspec.status import ProblemLine
from jobspec.sweep import told
from planning.estimate import JobPlan
from planning.refusals import refusals
from planning.words import hours, preferred


@dataclass(frozen=True, slots=True)
class PlannedJob:
    """``plan``: None where it cannot be told. ``problems``: why the stack would refuse the sweep."""

    child: Child
    plan: JobPlan | None
    problems: tuple[ProblemLine, ...]

    @property
    def usd(self) -> float | None:
        """On the market that is asked for, on the type that a person would take, by guess."""
        if self.plan is None:
            return None
        best = preferred(self.plan, self.child.manifest)
        guess = best.usd_on_demand if self.child.manifest.compute.market == "on-demand" else best.usd_spot
        return guess.typical if guess is not None else None


def planned_jobs(manifest: Manifest, facts: Facts, now: datetime) -> tuple[PlannedJob, ...]:
    found = []
    for child in children_of(manifest):
        plan = plan_from(child.manifest, facts)
        found.append(PlannedJob(child, plan, refusals(plan, child.manifest, now) if plan is not None else ()))
    return tuple(found)


def whole_usd(jobs: tuple[PlannedJob, ...]) -> float | None:
    """All jobs together, or None where one of them is not known."""
    sums = [job.usd for job in jobs]
    return sum(one for one in sums if one is not None) if None not in sums else None


def expectation(manifest: Manifest, jobs: tuple[PlannedJob, ...]) -> str:
    """The whole in a sentence."""
    assert manifest.sweep is not None
    usd = whole_usd(jobs)
    return f"{len(jobs)} jobs: about ${usd:.2f} in all, by guess." if usd is not None else f"{len(jobs)} jobs; what they cost cannot be told."


def warnings(manifest: Manifest, jobs: tuple[PlannedJob, ...]) -> list[str]:
    """What a person should know before the money is spent."""
    assert manifest.sweep is not None
    usd, budget = whole_usd(jobs), manifest.sweep.budget_usd
    told_of = [f"sweep.budget_usd (${budget:g}) is less than all jobs may cost (${usd:.2f}): the last ones may not be started"] if usd and usd > budget else []
    dearest = max((job.usd for job in jobs if job.usd is not None), default=0.0)
    if dearest > limit_usd(manifest):
        told_of.append(f"a job may cost ${dearest:.2f}, and each is stopped at ${limit_usd(manifest):.2f}: raise sweep.budget_usd, or lower sweep.concurrency")
    return told_of


def sweep_view(manifest: Manifest, jobs: tuple[PlannedJob, ...], unknown: tuple[str, ...]) -> RenderableType:
    """The whole page."""
    assert manifest.sweep is not None
    table = Table("job", "values", "type", "memory", "time", "cost", box=None, pad_edge=False)
    table.columns[4].justify = table.columns[5].justify = "right"
    for job in jobs:
        table.add_row(job.child.name, told(job.child.choice), *_cells(job))
    parts: list[RenderableType] = [
        Text(f"{manifest.name}: a sweep, {manifest.sweep.concurrency} job(s) at a time, ${manifest.sweep.budget_usd:g} at most", "bold")
    ]
    parts += [table, Text(expectation(manifest, jobs))]
    parts += [Text(f"! {line}", style="yellow") for line in (*warnings(manifest, jobs), *unknown)]
    if problems := wrong(jobs):
        parts += [Text("It would be refused:", style="bold red"), Text(render_problems(problems).rstrip())]
    return Group(*parts)


def _cells(job: PlannedJob) -> tuple[str, str, str, str]:
    if job.plan is None:
        return ("", "not known", "", "")
    best = preferred(job.plan, job.child.manifest)
    return (best.instance.name, best.verdict, hours(best.hours) if best.hours is not None else "", f"${job.usd:.2f}" if job.usd is not None else "")


def wrong(jobs: tuple[PlannedJob, ...]) -> tuple[ProblemLine, ...]:
    """Every job's problems, each with the job's name."""
    return tuple(problem.model_copy(update={"message": f"{problem.message} ({job.child.name})"}) for job in jobs for problem in job.problems)


def sweep_json(manifest: Manifest, jobs: tuple[PlannedJob, ...], unknown: tuple[str, ...]) -> dict[str, Any]:
    assert manifest.sweep is not None
    usd = whole_usd(jobs)
    return {
        "name": manifest.name,
        "jobs": [{"name": job.child.name, "values": job.child.choice, "usd": round(job.usd, 4) if job.usd is not None else None} for job in jobs],
        "usd": round(usd, 4) if usd is not None else None,
        "budget_usd": manifest.sweep.budget_usd,
        "limit_usd": limit_usd(manifest),
        "warnings": [*warnings(manifest, jobs), *unknown],
        "problems": [problem.model_dump(mode="json") for problem in wrong(jobs)],
    }
