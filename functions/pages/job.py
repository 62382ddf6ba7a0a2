"""The page of one job: ``job_page(story, now)``."""

from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from jobspec import stages
from jobspec.runfile import ProgressKind
from jobspec.status import Status, SweepStatus
from jobspec.sweep import told
from jobspec.units import duration_text
from pages import charts
from pages.story import Point, Story

ENDS = frozenset({"SUCCEEDED", "REJECTED", "FAILED", "CANCELLED", "STOPPED_DEADLINE", "STOPPED_BUDGET"})
_MOODS = {"SUCCEEDED": "good", "RUNNING": "busy", "REJECTED": "bad", "FAILED": "bad", "STOPPED_DEADLINE": "bad", "STOPPED_BUDGET": "bad", "CANCELLED": "quiet"}
_TEMPLATES = Path(__file__).parent


@cache
def environment() -> Environment:
    """Every value is escaped, and a name that does not exist is an error and no blank. One for all pages: it keeps the templates that it has compiled."""
    made = Environment(loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    made.filters["duration"] = duration_text
    made.filters["utc"] = lambda moment: f"{moment:%Y-%m-%d %H:%M:%S} UTC" if moment is not None else ""
    made.filters["usd"] = lambda dollars: f"${dollars:.4f}" if abs(dollars) < 1 else f"${dollars:,.2f}"
    made.globals["mood"] = mood
    made.filters["choice"] = told
    made.globals["start_told"] = stages.told
    return made


def mood(state: str) -> str:
    """The colour class of a state."""
    return _MOODS.get(state, "waiting")


def job_page(story: Story, now: datetime) -> str:
    """The whole page as HTML. ``now``: where bars of live attempts end, and when the page was made."""
    status = story.status
    return (
        environment()
        .get_template("job.html")
        .render(
            status=status,
            now=now,
            over=status.state in ENDS,
            time_line=_time_line(story, now) if status.attempts else None,
            charts=[drawn for drawn in _charts(story) if drawn is not None],
            sweep=status.sweep,
            sweep_chart=_sweep_chart(status.sweep) if status.sweep is not None else None,
            money=_money(status),
            samples=story.of_kind(ProgressKind.SAMPLE),
            notes=story.of_kind(ProgressKind.DATA, ProgressKind.RESUMED, ProgressKind.WARNING, ProgressKind.FAILED),
            manifest=story.manifest,
        )
    )


def _charts(story: Story) -> list[charts.Chart | None]:
    step = ProgressKind.STEP
    return [
        charts.chart("Loss", "nats a token", {"train": story.points(step, "loss"), "eval": story.points(ProgressKind.EVAL, "loss")}),
        charts.chart("Learning rate", "of AdamW", {"train": story.points(step, "learning_rate")}),
        charts.chart("Throughput", "tokens a second", {"train": story.points(step, "tokens_per_s")}),
    ]


def _sweep_chart(sweep: SweepStatus) -> charts.Chart | None:
    """A dot for each job that was measured; the best one in the other colour."""
    points = [(job, Point(job.number, job.number, job.value)) for job in sweep.jobs if job.value is not None]
    series = {"train": [point for job, point in points if job.name != sweep.best], "eval": [point for job, point in points if job.name == sweep.best]}
    return charts.chart(sweep.metric, "by the job's number", series, along="job")


def _time_line(story: Story, now: datetime) -> charts.TimeLine:
    status = story.status
    spans = [
        charts.Span(
            label=f"{attempt.number}",
            begin=attempt.launched_at,
            until=attempt.ended_at,
            style="spot" if attempt.market == "spot" else "on-demand",
            lost_s=attempt.lost_s,
            warned_at=attempt.warned_at,
            saves=tuple(line.at for line in story.lines.get(attempt.number, ()) if line.kind is ProgressKind.CHECKPOINT),
        )
        for attempt in status.attempts
        if attempt.launched_at is not None
    ]
    ended = [attempt.ended_at for attempt in status.attempts if attempt.ended_at is not None]
    end = max([status.updated_at, *ended]) if status.state in ENDS else now
    return charts.time_line(status.accepted_at, end, spans)


def _money(status: Status) -> list[dict[str, Any]]:
    """Bars of dollars against each other: what it cost, and what on-demand would have."""
    if status.receipt is None:
        return []
    rows = [("this job", status.receipt.cost_usd, "spot"), ("the same on-demand", status.receipt.on_demand_usd, "on-demand")]
    rows += [("its budget", status.budget_usd, "cap")] if status.budget_usd is not None else []
    most = max(dollars for _, dollars, _ in rows) or 1.0
    return [{"label": label, "usd": dollars, "percent": 100 * dollars / most, "style": style} for label, dollars, style in rows]
