"""Following a job: what is new since the last look, as lines. The demo and ``dropforge status --watch`` share it, and ``view``.

It reads what anyone may read: the status object, and the heartbeats of the job's instances.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

from dropforge.jobs.find import ENDS, read_heartbeat, read_status
from dropforge.stack import Stack
from jobspec.heartbeat import Heartbeat, Phase
from jobspec.status import AttemptStatus, Status


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that happened: when, by whom (``control plane`` or ``attempt N``), what."""

    at: datetime
    who: str
    text: str


@dataclass
class Follower:
    """Remembers what it has told. ``status`` and ``heartbeats`` (by attempt number) are the newest ones seen."""

    stack: Stack
    name: str
    job_id: str | None = None
    status: Status | None = None
    heartbeats: dict[int, Heartbeat] = field(default_factory=dict)
    _told: int = 0
    _closed: set[int] = field(default_factory=set)

    def look(self) -> Iterator[Line]:
        """Everything new since the last call, oldest first."""
        status = read_status(self.stack, self.name)
        if status is None or (self.job_id is not None and status.job_id != self.job_id):
            return
        self.job_id, self.status = status.job_id, status
        lines = [Line(line.at, "control plane", f"{line.state}: {line.reason}") for line in status.history[self._told :]]
        self._told = len(status.history)
        for attempt in status.attempts:
            if attempt.number in self._closed:
                continue
            lines += self._news_of(attempt)
            if attempt.end is not None:
                # Read once more after its end: its last word was written before that.
                self._closed.add(attempt.number)
        yield from sorted(lines, key=lambda line: line.at)

    @property
    def ended(self) -> bool:
        return self.status is not None and self.status.state in ENDS

    def _news_of(self, attempt: AttemptStatus) -> list[Line]:
        if attempt.instance_id is None or self.job_id is None:
            return []
        beat = read_heartbeat(self.stack, self.job_id, attempt.instance_id)
        before = self.heartbeats.get(attempt.number)
        if beat is None or (before is not None and beat.seq <= before.seq):
            return []
        self.heartbeats[attempt.number] = beat
        text = told(beat)
        return [Line(beat.at, f"attempt {attempt.number}", text)] if before is None or text != told(before) else []


def told(beat: Heartbeat) -> str:
    """A heartbeat in words."""
    parts: list[str] = [beat.phase.value]
    if beat.total_steps and beat.phase in (Phase.TRAINING, Phase.SAVING):
        parts = [f"step {beat.step}/{beat.total_steps}"]
        parts += [f"loss {beat.loss:.3f}"] if beat.loss is not None else []
        parts += [f"{beat.tokens_per_s:.0f} tokens/s"] if beat.tokens_per_s else []
        parts += [f"GPU {' '.join(f'{gpu.percent:.0f}' for gpu in beat.gpus)} %"] if beat.gpus else []
        parts += [beat.phase.value] if beat.phase is Phase.SAVING else []
    if beat.checkpoint is not None:
        parts.append(f"checkpoint at step {beat.checkpoint.step} is in S3")
    if beat.notice is not None:
        parts.append(f"{beat.notice.kind} notice")
    if beat.message:
        parts.append(beat.message)
    return ", ".join(parts)
