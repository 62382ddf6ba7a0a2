"""A job drawn for a terminal: its state, its progress, its attempts, its money; and, while it is followed, one live line.

Pure: everything is made of the status object, the newest heartbeat and the time.
"""

from datetime import datetime
from itertools import accumulate

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from dropforge.jobs.costs import JobCost
from dropforge.jobs.find import ENDS, Listed
from dropforge.jobs.follow import Follower
from dropforge.times import ago, told
from jobspec import stages
from jobspec.heartbeat import Heartbeat, Phase
from jobspec.stages import before_training_s
from jobspec.status import AttemptStatus, Receipt, ScheduleStatus, Status, SweepStatus
from jobspec.sweep import told as told_choice
from jobspec.units import duration_text

#: Below so many characters a reason says nothing.
_WHY_LEAST = 16
#: Between two columns.
_GAP = 2
_GOOD, _BAD, _BUSY = "green", "red", "yellow"
_COLOURS = {"SUCCEEDED": _GOOD, "RUNNING": "cyan", "REJECTED": _BAD, "FAILED": _BAD, "STOPPED_DEADLINE": _BAD, "STOPPED_BUDGET": _BAD, "CANCELLED": "magenta"}


def state_text(state: str) -> Text:
    return Text(state, style=_COLOURS.get(state, _BUSY))


def list_table(rows: list[Listed], now: datetime, width: int) -> Table:
    """A line for each job. Names and states are whole; of the other columns those that ``width`` has room for, and of the reason what is left."""
    heads = ("job", "state", "step", "attempts", "cost", "changed", "why")
    lines = [_list_line(row, now) for row in in_families(rows)]
    widths = [max(len(line[n]) for line in (heads, *lines)) for n in range(len(heads))]
    left = width - sum(one + _GAP for one in widths[:-1])
    shown = len(heads) if left >= _WHY_LEAST else max(2, sum(used <= width + _GAP for used in accumulate(one + _GAP for one in widths[:-1])))
    table = Table(box=None, pad_edge=False)
    for n, head in enumerate(heads[:shown]):
        table.add_column(head, no_wrap=True, overflow="ellipsis", justify="right" if head in ("step", "attempts", "cost") else "left")
        if head == "why":
            table.columns[n].max_width = left
    for line in lines:
        table.add_row(line[0], state_text(line[1]), *map(Text, line[2:shown]))
    return table


def _list_line(row: Listed, now: datetime) -> tuple[str, ...]:
    status = row.status
    cost = status.sweep.cost_usd if status.sweep else status.receipt.cost_usd if status.receipt else None
    return (
        ("  " if status.parent else "") + status.name + (" (refused)" if row.beside else ""),
        status.state,
        f"{status.step}/{status.total_steps}" if status.total_steps else "",
        str(len(status.attempts) or ""),
        f"${cost:.2f}" if cost is not None else "",
        ago(status.updated_at, now),
        " ".join(status.reason.split()),
    )


def in_families(rows: list[Listed]) -> list[Listed]:
    """The jobs of a sweep or a schedule below it, in their order; the others where they were."""
    children: dict[str, list[Listed]] = {}
    parents = {row.status.name for row in rows if row.status.sweep is not None or row.status.schedule is not None}
    for row in rows:
        if row.status.parent in parents:
            children.setdefault(row.status.parent or "", []).append(row)

    def with_children(row: Listed) -> list[Listed]:
        below = sorted(children.pop(row.status.name, []), key=lambda child: child.status.name)
        return [row, *(each for child in below for each in with_children(child))]

    return [each for row in rows if row.status.parent not in parents for each in with_children(row)]


def schedule_lines(schedule: ScheduleStatus) -> list[RenderableType]:
    """When the next job is put, and a line for each of the newest ones."""
    upcoming = told(schedule.next_at) if schedule.next_at is not None else "never"
    until = f", until {told(schedule.until)}" if schedule.until is not None else ""
    table = Table("job", "cost", "state", "why", box=None, pad_edge=False)
    table.columns[0].no_wrap = True
    for job in schedule.jobs:
        table.add_row(job.name, f"${job.cost_usd:.4f}", state_text(job.state or "ACCEPTED"), Text(job.reason[:80]))
    return [Text(f"{schedule.cron} ({schedule.timezone}){until}; next: {upcoming}"), *([table] if schedule.jobs else [])]


def sweep_table(sweep: SweepStatus) -> Table:
    """A line for each job of a sweep; the best one stands out."""
    table = Table("job", "values", sweep.metric, "cost", "state", "why", box=None, pad_edge=False)
    table.columns[0].no_wrap = True
    table.columns[2].justify = table.columns[3].justify = "right"
    for job in sweep.jobs:
        style = "bold green" if job.name == sweep.best else None
        value = f"{job.value:.6g}" if job.value is not None else ""
        state = state_text(job.state) if job.state is not None else Text("not started", style="dim")
        table.add_row(job.name, told_choice(job.choice), value, f"${job.cost_usd:.4f}" if job.state else "", state, Text(job.reason[:80]), style=style)
    return table


def status_view(status: Status) -> RenderableType:
    """All that a person asks of one job."""
    head = Text.assemble((status.job_id, "bold"), "  ", state_text(status.state), f"  {status.reason}")
    parts: list[RenderableType] = [head, Text(f"accepted {told(status.accepted_at)}, changed {told(status.updated_at)}", style="dim")]
    for problem in status.problems:
        parts.append(Text(f"  {problem.path or 'manifest'}: {problem.message}" + (f" (line {problem.line})" if problem.line else "")))
        parts += [Text(f"    {label}: {text}", style="dim") for label, text in (("found", problem.found), ("allowed", problem.allowed)) if text]
    if status.total_steps:
        loss = f", loss {status.loss:.4f}" if status.loss is not None else ""
        parts.append(Text(f"step {status.step} of {status.total_steps}{loss}"))
    if status.attempts:
        parts.append(attempts_table(status.attempts))
        parts += [Text(line) for line in gpu_lines(status.attempts[-1])]
        parts += [Text(line) for line in start_lines(status.attempts)]
    if status.sweep is not None:
        parts.append(sweep_table(status.sweep))
        parts.append(Text(f"cost ${status.sweep.cost_usd:.4f} of ${status.sweep.budget_usd:g}, {status.sweep.concurrency} job(s) at a time"))
    if status.schedule is not None:
        parts += schedule_lines(status.schedule)
    if status.parent is not None:
        parts.append(Text(f"a job of {status.parent}"))
    if status.receipt is not None:
        parts.append(Text(receipt_line(status.receipt)))
    for what, where in (("model", status.model), ("checkpoint", status.checkpoint), ("page", status.page), ("manifest", status.manifest)):
        if where:
            parts.append(Text(f"{what}: {where}"))
    parts += [Text(line, style="dim") for line in next_steps(status)]
    return Group(*parts)


def gpu_lines(attempt: AttemptStatus) -> list[str]:
    """How the attempt used its GPUs; nothing where its driver told nothing."""
    idle = f"; {attempt.idle_gpus} of {len(attempt.gpus)} idle" if attempt.idle_gpus else ""
    return [
        f"GPU {gpu.index}: {gpu.percent:.0f} % in use over {duration_text(gpu.window_s)} of training, "
        f"{gpu.memory_mib / 1024:.1f} of {gpu.memory_total_mib / 1024:.1f} GiB at most{idle}"
        for gpu in attempt.gpus
    ]


def start_lines(attempts: tuple[AttemptStatus, ...]) -> list[str]:
    """Where the minutes before the first step went, of each attempt that took one."""
    return [f"attempt {one.number}: {stages.told(one.start_s, one.stages_s)}" for one in attempts if one.start_s is not None]


def attempts_table(attempts: tuple[AttemptStatus, ...]) -> Table:
    table = Table("", "instance", "where", "time", "steps", "cost", "end", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    # On a narrow screen the places fold; an id that is cut is of no use to anybody.
    table.columns[1].no_wrap, table.columns[1].min_width = True, 19
    for attempt in attempts:
        steps = f"{attempt.first_step or 0}-{attempt.last_step}" if attempt.last_step is not None else ""
        end = "live" if attempt.end is None else attempt.end + (f" (by {attempt.ended_by})" if attempt.ended_by else "")
        where = " ".join(filter(None, (attempt.instance_type, attempt.zone, attempt.market)))
        cost = f"${attempt.cost_usd:.4f}" + (f" + ${attempt.egress_usd:.4f} between regions" if attempt.egress_usd else "")
        table.add_row(f"{attempt.number}.", attempt.instance_id or "", where, duration_text(attempt.runtime_s), steps, cost, end)
    return table


def receipt_line(receipt: Receipt) -> str:
    percent = f" ({100 * receipt.saved_usd / receipt.on_demand_usd:.0f} %)" if receipt.on_demand_usd else ""
    saved = f"saved ${receipt.saved_usd:.4f}{percent}" if receipt.saved_usd >= 0 else f"${-receipt.saved_usd:.4f} less"
    crossed = f", ${receipt.egress_usd:.4f} of it for data between regions" if receipt.egress_usd else ""
    return f"cost ${receipt.cost_usd:.4f}{crossed}; on-demand would be ${receipt.on_demand_usd:.4f}; {saved}"


def cost_table(shares: list[JobCost]) -> Table:
    """A line for each job's share of a month."""
    table = Table("job", "state", "attempts", "time", "cost", "on-demand", box=None, pad_edge=False)
    table.columns[0].no_wrap = True
    for column in table.columns[2:]:
        column.justify = "right"
    for share in shares:
        status = share.status
        sums = (f"${share.cost_usd:.2f}", f"${share.on_demand_usd:.2f}")
        table.add_row(status.job_id, state_text(status.state), str(len(status.attempts)), duration_text(share.runtime_s), *sums)
    return table


def next_steps(status: Status) -> list[str]:
    """The commands that a person wants next, by state."""
    if status.parent is not None and status.state not in ("SUCCEEDED", "FAILED"):
        return [f"next: dropforge status {status.parent}"]
    match status.state:
        case "SUCCEEDED" if status.sweep is not None and status.sweep.best is not None:
            return [f"next: dropforge download {status.sweep.best}"]
        case "SUCCEEDED":
            return [f"next: dropforge download {status.name}"]
        case "REJECTED":
            return ["next: mend the manifest, then dropforge submit FILE; nothing was started and nothing was billed"]
        case "FAILED" | "STOPPED_DEADLINE" | "STOPPED_BUDGET" | "CANCELLED":
            logs = [f"dropforge logs {status.name}"] if status.attempts else []
            return [f"next: {', or '.join([*logs, f'dropforge retry {status.name}'])}"]
        case _:
            return [f"next: dropforge status {status.name} --watch"]


def live_line(follower: Follower, now: datetime) -> RenderableType:
    """One line that always says what is waited for: a bar with step, loss, rate, time left and dollars while there are steps."""
    status = follower.status
    if status is None:
        return Text("waiting for the control plane to take the manifest", style="dim")
    beat = follower.heartbeats.get(status.attempts[-1].number) if status.attempts else None
    cost = f"  ${cost_now(status, now):.4f}" if status.attempts else ""
    if beat is None or not beat.total_steps or beat.phase not in (Phase.TRAINING, Phase.SAVING):
        return Text.assemble(state_text(status.state), f"  {_waited_for(status, beat)}, changed {ago(beat.at if beat else status.updated_at, now)}{cost}")
    grid = Table.grid(padding=(0, 1))
    parts = [f"{beat.step}/{beat.total_steps}"]
    parts += [f"loss {beat.loss:.3f}"] if beat.loss is not None else []
    parts += [f"{beat.tokens_per_s:,.0f} tokens/s"] if beat.tokens_per_s else []
    left = time_left_s(beat, status.attempts[-1], now)
    parts += [f"{duration_text(left)} left"] if left is not None else []
    grid.add_row(ProgressBar(total=beat.total_steps, completed=beat.step, width=30), Text("  ".join(parts) + cost))
    return grid


def _waited_for(status: Status, beat: Heartbeat | None) -> str:
    if status.state in ENDS:
        return status.reason
    if status.attempts and beat is None:
        return f"attempt {status.attempts[-1].number}: waiting for the instance to start"
    return f"attempt {beat.attempt}: {beat.phase.value}" if beat is not None else status.reason


def cost_now(status: Status, now: datetime) -> float:
    """Dollars so far: what the status says, and what live instances have cost since it was written."""
    since = max(0.0, (now - status.updated_at).total_seconds())
    burn = sum(attempt.usd_per_h for attempt in status.attempts if attempt.ended_at is None and attempt.end is None)
    return (status.receipt.cost_usd if status.receipt else 0.0) + (burn * since / 3600 if status.state not in ENDS else 0.0)


def time_left_s(beat: Heartbeat, attempt: AttemptStatus, now: datetime) -> float | None:
    """Seconds by this attempt's own rate since training began; None until it has taken a step."""
    done = beat.step - (beat.first_step or 0)
    if done <= 0 or attempt.launched_at is None or beat.total_steps is None:
        return None
    busy = (beat.at - attempt.launched_at).total_seconds() - before_training_s(beat.stages_s)
    rate_s = max(0.0, busy) / done
    return max(0.0, rate_s * (beat.total_steps - beat.step) - (now - beat.at).total_seconds())
