"""Three jobs to draw: a clean one, one that was interrupted twice, one that was stopped at its budget; and one that is hostile."""

import math
from collections.abc import Callable

from control_plane.core.accept import accepted
from control_plane.core.kin import Child
from control_plane.core.report import status_of
from control_plane.core.state import Job, JobState, ManifestRef, moved
from jobspec.runfile import Progress, ProgressKind
from jobspec.status import ProblemLine, Status
from pages.story import Story
from tests.core.test_letters import clean, interrupted_twice, stopped_by_budget
from tests.core.worlds import STACK, START, at, manifest

MANIFEST = "name: tale\nmodel: {s3: models/m/}\ndata: {train: data/train.jsonl}\ncompute: {instance_types: [g5.xlarge]}\n"
REF = ManifestRef(bucket="data", key="jobs/rates.yaml", version_id="v1")
HOSTILE = "</title><script>alert(1)</script><img src=x onerror=alert(2)>\"'&"


def lines_of(first_step: int, last_step: int, begin_s: float, end_s: float) -> tuple[Progress, ...]:
    """What a trainer writes between two steps: losses that fall, saves, an evaluation."""
    lines = []
    for step in range(first_step + 1, last_step + 1):
        moment = at(begin_s + (end_s - begin_s) * (step - first_step) / max(1, last_step - first_step))
        loss = 1.2 + 2.3 * math.exp(-step / 30) + 0.08 * math.sin(step * 1.7)
        lines.append(
            Progress(kind=ProgressKind.STEP, at=moment, step=step, loss=loss, learning_rate=2e-4 * (1 - step / 110), tokens_per_s=3000 + 90 * math.sin(step))
        )
        if step % 20 == 0:
            lines.append(Progress(kind=ProgressKind.CHECKPOINT, at=moment, step=step, message=f"step-{step:08d}"))
            lines.append(Progress(kind=ProgressKind.EVAL, at=moment, step=step, loss=loss + 0.15))
    return tuple(lines)


def told(job: Job, runs: dict[int, tuple[int, int, float, float]], seconds: float) -> Story:
    return Story(status_of(job, STACK, at(seconds)), MANIFEST, {number: lines_of(*run) for number, run in runs.items()})


def sweep() -> Story:
    """Four jobs of eight are over, two are at work; the second is the best so far."""
    rates, losses = (5e-5, 1e-4, 2e-4, 4e-4), (1.93, 1.61, 1.74, 2.4)
    parent = accepted(manifest(name="rates", sweep={"grid": {"training.learning_rate": [*rates, 8e-4, 1e-3, 2e-3, 4e-3]}}), REF, START)
    for number, rate in enumerate((*rates, 8e-4, 1e-3), start=1):
        over = number <= len(losses)
        child = Child(
            number=number, name=f"rates-{number:03d}", job_id=f"rates-{number:03d}-0123456789", choice={"training.learning_rate": rate}, limit_usd=25.0
        )
        facts = {"state": "SUCCEEDED", "value": losses[number - 1], "is_final": True} if over else {"state": "RUNNING"}
        line = child.model_copy(update={**facts, "reason": "attempt 1 finished" if over else "attempt 1: training", "cost_usd": 0.41 + 0.01 * number})
        parent = parent.model_copy(update={"children": (*parent.children, line)})
    parent = moved(parent, JobState.RUNNING, "4 of 8 jobs are over, 2 are at work", at(60))
    return Story(status_of(parent, STACK, at(5000)), MANIFEST, {})


STORIES: dict[str, Callable[[], Story]] = {
    "clean": lambda: told(clean(), {1: (0, 100, 200, 5300)}, 5500),
    "interrupted-twice": lambda: told(interrupted_twice(), {1: (0, 40, 200, 4000), 2: (40, 60, 4400, 6400), 3: (50, 100, 6900, 9000)}, 9200),
    "stopped-by-budget": lambda: told(stopped_by_budget(), {1: (0, 70, 200, 4400)}, 4600),
}


def hostile() -> Story:
    """Markup wherever a stranger may put a text."""
    story = STORIES["interrupted-twice"]()
    status: Status = story.status.model_copy(
        update={
            "name": HOSTILE[:60],
            "reason": HOSTILE,
            "manifest": f"s3://data/{HOSTILE}",
            "model": f"s3://outputs/{HOSTILE}",
            "problems": (ProblemLine.model_construct(path=HOSTILE, line=1, message=HOSTILE, found=HOSTILE, allowed=HOSTILE),),
        }
    )
    said = Progress(kind=ProgressKind.SAMPLE, at=at(1), step=1, message=HOSTILE)
    note = Progress(kind=ProgressKind.DATA, at=at(1), message=HOSTILE)
    return Story(status, f"name: {HOSTILE}\n", {1: (said, note, *story.lines[1])})
