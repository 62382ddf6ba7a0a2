"""GPUs that are paid for and do next to nothing: which, and what the manifest wants done about it.

Only a training is judged, and only once a whole window of it was measured. A machine whose driver tells nothing is never idle.
"""

from datetime import datetime

from control_plane.core.closing import owe
from control_plane.core.records import Attempt
from control_plane.core.state import Ending, Job, JobState, NoticeKind
from jobspec.heartbeat import GpuUse, Phase
from jobspec.marker import FailureCode
from jobspec.units import duration_text


def in_use(attempt: Attempt) -> tuple[GpuUse, ...]:
    """What was last heard of the GPUs of its instances that train; empty for every other."""
    beats = [one.heartbeat for one in attempt.instances if one.heartbeat is not None and one.heartbeat.phase is Phase.TRAINING]
    return tuple(gpu for beat in beats for gpu in beat.gpus) if attempt.serves else ()


def idle(job: Job, attempt: Attempt) -> tuple[GpuUse, ...]:
    """The attempt's GPUs whose mean use over the manifest's window is below its bound."""
    if job.manifest is None:
        return ()
    bound = job.manifest.limits.idle_gpu
    return tuple(gpu for gpu in in_use(attempt) if gpu.window_s >= bound.window and gpu.percent < bound.percent)


def held_to_use(job: Job, now: datetime, terminate_at: datetime) -> Job:
    """Owes the word of an idle GPU, or orders the stop that the manifest asks for: only where *every* GPU of the instance is idle.

    A job that uses one GPU of four works; its three others are told of, and what it has learnt is not thrown away. The end is
    FAILED and no stop of its own: unlike time and money, an idle GPU is a fault with a remedy, and the same job put again unmended
    ends the same way.
    """
    if job.ending is not None:
        return job
    for attempt in job.attempts:
        found = idle(job, attempt)
        if not found:
            continue
        assert job.manifest is not None
        if job.manifest.limits.idle_gpu.action == "stop" and len(found) == len(in_use(attempt)):
            ending = Ending(state=JobState.FAILED, reason=words(job, attempt), since=now, terminate_at=terminate_at, failure=FailureCode.GPU_IDLE)
            return job.model_copy(update={"ending": ending, "reason": f"stopping: {ending.reason}"})
        job = owe(job, NoticeKind.IDLE, now, attempt=attempt.number)
    return job


def words(job: Job, attempt: Attempt) -> str:
    """What is idle, as a sentence without its full stop."""
    assert job.manifest is not None
    bound, found, all_of_them = job.manifest.limits.idle_gpu, idle(job, attempt), in_use(attempt)
    busiest = max((gpu.percent for gpu in found), default=0.0)
    return (
        f"{FailureCode.GPU_IDLE}: {len(found)} of {len(all_of_them)} GPU(s) of attempt {attempt.number} were in use for {busiest:.1f} % of the last "
        f"{duration_text(bound.window)} of training at most (limits.idle_gpu.percent is {bound.percent:g})"
    )
