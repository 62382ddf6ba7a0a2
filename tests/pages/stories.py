"""Three jobs to draw: a clean one, one that was interrupted twice, one that was stopped at its budget; and one that is hostile."""

import math
from collections.abc import Callable

from control_plane.core.report import status_of
from control_plane.core.state import Job
from jobspec.runfile import Progress, ProgressKind
from jobspec.status import ProblemLine, Status
from pages.story import Story
from tests.core.test_letters import clean, interrupted_twice, stopped_by_budget
from tests.core.worlds import STACK, at

MANIFEST = "name: tale\nmodel: {s3: models/m/}\ndata: {train: data/train.jsonl}\ncompute: {instance_types: [g5.xlarge]}\n"
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
