"""A sweep in its e-mail: the table of its jobs, readable on a telephone, and what to do with the best of them."""

from control_plane.core.kin import Child
from control_plane.core.report import StackFacts
from control_plane.core.state import Job
from control_plane.core.sweeps import best
from jobspec.children import child_name
from jobspec.sweep import told


def cost_usd(job: Job) -> float:
    """Of all its jobs."""
    return sum(child.cost_usd for child in job.children)


def end_lines(job: Job, stack: StackFacts) -> list[str]:
    """Below the first sentence of the sweep's last e-mail."""
    assert job.manifest is not None
    sweep = job.manifest.sweep
    assert sweep is not None
    winner = best(job)
    lines = [f"Cost: ${cost_usd(job):.4f} of ${sweep.budget_usd:g}, all jobs together", ""]
    if winner is not None:
        lines += [f"The best ({sweep.metric}, {'least' if sweep.goal == 'min' else 'most'}):", f"  {winner.name}: {told(winner.choice)}", ""]
        lines += ["Fetch it:", f"  dropforge download {winner.name} --stack {stack.project}", ""]
    else:
        lines += ["See what the jobs said, or put the sweep again:", *_logs(job, stack), f"  dropforge retry {job.name} --stack {stack.project}", ""]
    lines.append(f"Jobs ({sweep.metric}, dollars, end):")
    started = {child.number: child for child in job.children}
    for number, choice in enumerate(sweep.choices(), start=1):
        child = started.get(number)
        lines.append(f"  {child_name(job.name, number)} ({told(choice)}): " + (_line(child) if child is not None else "not started"))
    return [*lines, ""]


def _line(child: Child) -> str:
    value = f"{child.value:.6g}, " if child.value is not None else ""
    return f"{value}${child.cost_usd:.4f}, {child.state}" + ("" if child.state == "SUCCEEDED" else f": {child.reason[:100]}")


def _logs(job: Job, stack: StackFacts) -> list[str]:
    failed = next((child for child in job.children if child.state == "FAILED"), None)
    return [f"  dropforge logs {failed.name} --stack {stack.project}"] if failed is not None else []
