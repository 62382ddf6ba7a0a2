"""A small world around the pure core: time in ticks of a minute, pools that have capacity or not, instances that boot, train and are taken back."""

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from control_plane.core import ledger
from control_plane.core.actions import CallLaunch, Terminate, WriteStop, WriteTicket
from control_plane.core.events import LaunchRefused, StopWritten, TerminationAnswered, TicketWritten
from control_plane.core.failures import RefusalKind
from control_plane.core.records import LaunchPlan, Market
from control_plane.core.state import Job
from jobspec.heartbeat import Phase
from jobspec.marker import Outcome
from tests.core.worlds import Story, at, heartbeat, marker

TICK_S = 60


@dataclass
class Instance:
    plan: LaunchPlan
    born_s: float
    first_step: int
    trains_s: float = 0.0
    order_s: float | None = None
    hands_over: bool = False
    seq: int = 0


@dataclass
class RandomWorld:
    """``spot[i]``: whether spot is to be had in the i-th tick; a spot instance is taken back, without a word, in the first tick without."""

    job: Job
    spot: list[bool]
    boot_s: int
    step_s: float
    total_steps: int
    save_every: int
    spot_usd_per_h: float = 0.5
    story: Story = field(init=False)
    live: dict[str, Instance] = field(default_factory=dict)
    durable: int = 0
    born: int = 0

    def __post_init__(self) -> None:
        self.story = Story(self.job)

    def run(self, ticks: int) -> Job:
        """To the job's end, or for so many ticks."""
        for tick in range(ticks):
            self._tick(tick)
            if self.story.job.ended:
                break
        return self.story.job

    def _tick(self, tick: int) -> None:
        now_s = tick * TICK_S
        has_spot = self.spot[tick % len(self.spot)]
        for instance_id, instance in list(self.live.items()):
            if instance.plan.market is Market.SPOT and not has_spot:
                self._gone(instance_id, "Server.SpotInstanceTermination")
        beats, markers = {}, {}
        for instance_id, instance in self.live.items():
            beat, word = self._word(instance_id, instance, now_s)
            if beat is not None:
                beats[instance_id] = beat
            if word is not None:
                markers[instance_id] = word
        self._perform(self.story.look(now_s, heartbeats=beats, markers=markers), now_s, has_spot)

    def _word(self, instance_id: str, instance: Instance, now_s: float) -> tuple[Any, Any]:
        """Its heartbeat and its marker at this moment."""
        if now_s - instance.born_s < self.boot_s:
            return None, None
        waits = instance is not next(iter(self.live.values())) and not self._first().hands_over
        phase = Phase.WAITING if waits else Phase.TRAINING
        if phase is Phase.TRAINING:
            if instance.trains_s == 0.0:
                instance.trains_s, instance.first_step = now_s, self.durable
            step = min(self.total_steps, instance.first_step + int((now_s - instance.trains_s) / self.step_s))
        else:
            step = self.durable
        self.durable = max(self.durable, step // self.save_every * self.save_every)
        if instance.order_s is not None and now_s > instance.order_s:
            self.durable = max(self.durable, step)
            phase = Phase.HANDED_OVER if instance.hands_over else Phase.FINISHED
        instance.seq += 1
        beat = heartbeat(self.story.job, instance_id, seq=instance.seq, step=step, phase=phase, first_step=instance.first_step)
        beat = beat.model_copy(update={"at": at(now_s), "total_steps": self.total_steps})
        if beat.checkpoint is not None:
            beat = beat.model_copy(update={"checkpoint": beat.checkpoint.model_copy(update={"step": self.durable})})
        if step >= self.total_steps:
            return beat, marker(self.story.job, instance_id)
        return beat, marker(self.story.job, instance_id, Outcome.STOPPED) if phase is Phase.FINISHED else None

    def _first(self) -> Instance:
        return next(iter(self.live.values()))

    def _perform(self, actions: tuple[Any, ...], now_s: float, has_spot: bool, depth: int = 0) -> None:
        for action in actions:
            match action:
                case CallLaunch(plan=plan):
                    if plan.market is Market.SPOT and not has_spot:
                        answer = self.story.tell(LaunchRefused(plan, RefusalKind.CAPACITY, "none", plan.pools), now_s)
                        if depth < 3:
                            self._perform(self.story.look(now_s, heartbeats={}), now_s, has_spot, depth + 1)
                    else:
                        self.born += 1
                        instance_id = f"i-{self.born:017x}"
                        answer = self.story.launch(now_s, instance_id, usd_per_h=self.spot_usd_per_h)
                        self.live[instance_id] = Instance(plan, now_s, 0)
                    self._perform(answer, now_s, has_spot, depth)
                case WriteTicket(instance_id=instance_id):
                    self.story.tell(TicketWritten(instance_id), now_s)
                case WriteStop(instance_id=instance_id, hand_over=hand_over) if instance_id in self.live:
                    self.live[instance_id] = replace(self.live[instance_id], order_s=now_s, hands_over=hand_over)
                    self.story.tell(StopWritten(instance_id), now_s)
                case Terminate(instance_id=instance_id) if instance_id in self.live:
                    self._gone(instance_id, "")
                    self.story.tell(TerminationAnswered(instance_id, "shutting-down"), now_s)

    def _gone(self, instance_id: str, reason: str) -> None:
        del self.live[instance_id]
        self.story.gone(instance_id, reason)

    @property
    def spent_usd(self) -> float:
        job = self.story.job
        return ledger.job_cost_usd(job, job.updated_at + timedelta(seconds=TICK_S))
