"""A small world around the pure core: time in ticks of a minute, one region or two whose pools have capacity or not, instances that boot, train
and are taken back. It keeps a bill of its own, as EC2 would: from what happened, not from what the core has on record.
"""

import math
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from control_plane.core import ledger
from control_plane.core.actions import CallLaunch, Terminate, WriteStop, WriteTicket
from control_plane.core.events import LaunchRefused, Offers, StopWritten, TerminationAnswered, TicketWritten
from control_plane.core.failures import RefusalKind
from control_plane.core.ledger import GIB, IMAGE_GIB
from control_plane.core.records import Egress, LaunchPlan, Market
from control_plane.core.state import Job, JobState
from jobspec.heartbeat import Heartbeat, Phase
from jobspec.marker import Outcome
from tests.core.worlds import OFFERS, Story, at, heartbeat, marker

TICK_S = 60
#: From its launch to an instance's first word: it stages from then on.
FIRST_WORD_S = 180
TYPE, HOME, PEER = "g5.xlarge", "us-east-1", "eu-central-1"
#: What AWS bills, written out: the other region is a quarter dearer.
ON_DEMAND_USD_PER_H = {HOME: 1.006, PEER: 1.258}
#: Two prices, so that one taken for the other shows.
EGRESS = Egress(in_usd_per_gib=0.02, out_usd_per_gib=0.07)


@dataclass
class Instance:
    plan: LaunchPlan
    born_s: float
    boot_s: float
    usd_per_h: float
    first_step: int = 0
    gone_s: float | None = None
    #: EC2 took it back.
    taken: bool = False
    read_bytes: int = 0
    written_bytes: int = 0
    trains_s: float = 0.0
    pace: float = 1.0
    is_dumb: bool = False
    order_s: float | None = None
    hands_over: bool = False
    seq: int = 0


@dataclass
class RandomWorld:
    """``spot[i]``: whether spot is to be had at home in the i-th tick; a spot instance is taken back, without a word, in the first tick without.

    ``abroad``: the same of another region, where there is one. An instance reads ``read_gib`` of S3 before it trains, and writes ``save_gib`` with each save.
    ``boot_s`` is the first instance's time from its launch to training, and it grows by ``boot_growth_s`` with each that has trained. A step
    takes ``step_s`` at first, and by the last one ``slows`` more, as a share; and times one of ``paces`` on the instances that train, in turn.
    ``shortage``: the ticks in which on-demand is refused too. ``silent``: a spot instance that has spoken is not taken back but falls silent,
    and EC2 shows it running. ``deaf[i]``: in the i-th tick no new heartbeat reaches S3, where the last one stays. Lists begin again at their ends.
    """

    job: Job
    spot: list[bool]
    boot_s: int
    step_s: float
    total_steps: int
    save_every: int
    spot_usd_per_h: float = 0.5
    abroad: list[bool] = field(default_factory=list)
    abroad_usd_per_h: float = 0.5
    read_gib: float = 3.0
    save_gib: float = 0.25
    boot_growth_s: float = 0.0
    slows: float = 0.0
    paces: tuple[float, ...] = (1.0,)
    shortage: range = range(0)
    silent: bool = False
    deaf: tuple[bool, ...] = (False,)
    story: Story = field(init=False)
    live: dict[str, Instance] = field(default_factory=dict)
    past: list[Instance] = field(default_factory=list)
    heard: dict[str, Heartbeat] = field(default_factory=dict)
    newest: Instance | None = None
    durable: int = 0
    born: int = 0
    trained: int = 0

    def __post_init__(self) -> None:
        self.story = Story(self.job)

    def run(self, ticks: int) -> Job:
        """To the job's end and that of its instances, or for so many ticks."""
        for tick in range(ticks):
            self._tick(tick)
            if self.story.job.ended and not self.live:
                break
        return self.story.job

    @property
    def offers(self) -> Offers:
        """Both regions at their prices."""
        home = replace(OFFERS, spot_usd_per_h={(TYPE, zone): self.spot_usd_per_h for zone in OFFERS.subnets})
        if not self.abroad:
            return home
        peer = Offers({f"{PEER}a": "subnet-w"}, "lt-2", "1", "AROATEST", {(TYPE, f"{PEER}a"): self.abroad_usd_per_h}, EGRESS)
        return replace(home, peers=(peer,))

    def _has_capacity(self, plan: LaunchPlan, now_s: float) -> bool:
        if plan.market is Market.ON_DEMAND:
            return int(now_s / TICK_S) not in self.shortage
        spells = self.abroad if plan.region == PEER else self.spot
        return spells[int(now_s / TICK_S) % len(spells)]

    def _tick(self, tick: int) -> None:
        now_s = tick * TICK_S
        for instance_id, instance in list(self.live.items()):
            if instance.plan.market is Market.SPOT and not self._has_capacity(instance.plan, now_s):
                if self.silent and instance_id in self.heard:
                    instance.is_dumb = True
                else:
                    self._gone(instance_id, now_s, "Server.SpotInstanceTermination")
        beats, markers = {}, {}
        for instance_id, instance in self.live.items():
            beat, word = self._word(instance_id, instance, now_s)
            if beat is not None and not self.deaf[tick % len(self.deaf)]:
                self.heard[instance_id] = beat
            if instance_id in self.heard:
                beats[instance_id] = self.heard[instance_id]
            if word is not None:
                markers[instance_id] = word
        self._perform(self.story.look(now_s, heartbeats=beats, markers=markers, offers=self.offers), now_s)

    def _word(self, instance_id: str, instance: Instance, now_s: float) -> tuple[Any, Any]:
        """Its heartbeat and its marker at this moment."""
        age_s = now_s - instance.born_s
        if instance.is_dumb:
            return None, None
        if age_s < instance.boot_s:
            return self._beat(instance_id, instance, now_s, Phase.STAGING, 0) if age_s >= FIRST_WORD_S else None, None
        waits = instance is not next(iter(self.live.values())) and not self._first().hands_over
        phase = Phase.WAITING if waits else Phase.TRAINING
        if phase is Phase.TRAINING:
            if instance.trains_s == 0.0:
                instance.trains_s, instance.first_step = now_s, self.durable
                instance.pace = self.paces[self.trained % len(self.paces)]
                self.trained += 1
                instance.read_bytes += int(self.read_gib * GIB)
            step = min(self.total_steps, self._step_after(instance.first_step, (now_s - instance.trains_s) / instance.pace))
        else:
            step = self.durable
        self._save(instance, step // self.save_every * self.save_every)
        if instance.order_s is not None and now_s > instance.order_s:
            self._save(instance, step)
            phase = Phase.HANDED_OVER if instance.hands_over else Phase.FINISHED
        beat = self._beat(instance_id, instance, now_s, phase, step)
        if step >= self.total_steps:
            return beat, marker(self.story.job, instance_id)
        return beat, marker(self.story.job, instance_id, Outcome.STOPPED) if phase is Phase.FINISHED else None

    def _beat(self, instance_id: str, instance: Instance, now_s: float, phase: Phase, step: int) -> Heartbeat:
        instance.seq += 1
        beat = heartbeat(self.story.job, instance_id, seq=instance.seq, step=step, phase=phase, first_step=instance.first_step)
        moved = {"read_bytes": instance.read_bytes, "written_bytes": instance.written_bytes}
        beat = beat.model_copy(update={"at": at(now_s), "total_steps": self.total_steps, **moved})
        if beat.checkpoint is None:
            return beat
        return beat.model_copy(update={"checkpoint": beat.checkpoint.model_copy(update={"step": self.durable})})

    def _step_after(self, first_step: int, trained_s: float) -> int:
        """Where training stands that began at a step so long ago: ``trained_s`` is the integral of ``step_s * (1 + slows * n / total)`` over the steps."""
        bend = self.slows / (2 * self.total_steps)
        reached = first_step + bend * first_step**2 + trained_s / self.step_s
        return int(reached if bend == 0 else (math.sqrt(1 + 4 * bend * reached) - 1) / (2 * bend) + 1e-9)

    def train_s(self, first_step: int = 0) -> float:
        """How long all steps take from that one on, at the slowest pace."""
        left, middle = self.total_steps - first_step, (self.total_steps + first_step) / 2
        return self.step_s * max(self.paces) * left * (1 + self.slows * middle / self.total_steps)

    def late_s(self, deadline_s: float) -> float:
        """How long after its deadline a job that was stopped there would have been done: on the instance that it had, or on one started then."""
        if self.story.job.state is JobState.SUCCEEDED:
            return 0.0
        start_s = self.newest.born_s + self.newest.boot_s - deadline_s if self.newest is not None else self._boot_s()
        return max(0.0, start_s) + self.train_s(self.durable)

    def _boot_s(self) -> float:
        return self.boot_s + self.boot_growth_s * self.trained

    def _save(self, instance: Instance, step: int) -> None:
        if step > self.durable:
            self.durable = step
            instance.written_bytes += int(self.save_gib * GIB)

    def _first(self) -> Instance:
        return next(iter(self.live.values()))

    def _usd_per_h(self, plan: LaunchPlan) -> float:
        if plan.market is Market.ON_DEMAND:
            return ON_DEMAND_USD_PER_H[plan.region]
        return self.abroad_usd_per_h if plan.region == PEER else self.spot_usd_per_h

    def _perform(self, actions: tuple[Any, ...], now_s: float, depth: int = 0) -> None:
        for action in actions:
            match action:
                case CallLaunch(plan=plan):
                    if not self._has_capacity(plan, now_s):
                        answer = self.story.tell(LaunchRefused(plan, RefusalKind.CAPACITY, "none", plan.pools), now_s)
                        if depth < 3:
                            self._perform(self.story.look(now_s, heartbeats={}, offers=self.offers), now_s, depth + 1)
                    else:
                        self.born += 1
                        instance_id = f"i-{self.born:017x}"
                        usd_per_h = self._usd_per_h(plan)
                        answer = self.story.launch(now_s, instance_id, usd_per_h=usd_per_h)
                        self.live[instance_id] = self.newest = Instance(plan, now_s, self._boot_s(), usd_per_h)
                    self._perform(answer, now_s, depth)
                case WriteTicket(instance_id=instance_id):
                    self.story.tell(TicketWritten(instance_id), now_s)
                case WriteStop(instance_id=instance_id, hand_over=hand_over) if instance_id in self.live:
                    self.live[instance_id].order_s, self.live[instance_id].hands_over = now_s, hand_over
                    self.story.tell(StopWritten(instance_id), now_s)
                case Terminate(instance_id=instance_id) if instance_id in self.live:
                    self._gone(instance_id, now_s, "")
                    self.story.tell(TerminationAnswered(instance_id, "shutting-down"), now_s)

    def _gone(self, instance_id: str, now_s: float, reason: str) -> None:
        instance = self.live.pop(instance_id)
        if instance is self.newest and (reason or instance.is_dumb):
            self.newest = None
        instance.gone_s, instance.taken = now_s, bool(reason)
        self.past.append(instance)
        self.story.gone(instance_id, reason)

    @property
    def spent_usd(self) -> float:
        job = self.story.job
        return ledger.job_cost_usd(job, job.updated_at + timedelta(seconds=TICK_S))

    @property
    def hours_usd(self) -> float:
        """What EC2 bills for instances that are gone, minute by minute; nothing for a spot instance that it took back within its first hour."""
        lives = [(one, round((one.gone_s - one.born_s) / 60)) for one in self.past if one.gone_s is not None]
        return sum(one.usd_per_h / 60 * minutes for one, minutes in lives if not (one.plan.market is Market.SPOT and one.taken and minutes < 60))

    @property
    def crossed_usd(self) -> float:
        """What AWS bills for bytes that left one region for the other: the image and what was read leave home, what was written leaves the peer."""
        away = [one for one in (*self.past, *self.live.values()) if one.plan.region == PEER]
        leaves_home = len(away) * IMAGE_GIB + sum(one.read_bytes for one in away) / GIB
        return leaves_home * EGRESS.in_usd_per_gib + sum(one.written_bytes for one in away) / GIB * EGRESS.out_usd_per_gib
