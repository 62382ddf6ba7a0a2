"""An instance with its agent and trainer, as the control plane can know them: by what they write, and by when they fall silent."""

import hashlib
from typing import TYPE_CHECKING

from jobspec import keys, tags, wire
from jobspec.base import FileDigest
from jobspec.heartbeat import GpuUse, Heartbeat, Notice, Phase, PublishedCheckpoint
from jobspec.marker import CompletionMarker, Failure, FailureCode, Outcome, Results
from jobspec.ticket import Handover, StopOrder, Ticket
from tests.simulation.aws.ec2 import Instance
from tests.simulation.scenario import BoxPlan

if TYPE_CHECKING:
    from tests.simulation.world import World

TICKET_S, TICKET_WAIT_S = 5.0, 600.0
TURN_S = 30.0
#: A trainer that has lost another fails after this, if its box's last saves are quick ones; others hang until they are told to go.
COLLECTIVE_S, PATIENT_S = 40.0, 30.0
#: An instance that has handed over powers itself off after this, should nobody end it.
HANDED_OVER_S = 300.0
WEIGHTS = b"weights"
IDLE_WINDOW_S = 300.0


def loss_of(job_id: str) -> float:
    """What a job comes to: drawn by its id."""
    return int(hashlib.sha256(job_id.encode()).hexdigest()[:4], 16) / 1000


class Box:
    """One instance. Every method that the scheduler calls looks first whether the box still runs."""

    def __init__(self, world: "World", instance: Instance, plan: BoxPlan) -> None:
        self.world, self.instance, self.plan = world, instance, plan
        self.ticket: Ticket | None = None
        self.job_id = instance.tags.get(tags.JOB, "")
        self.writer = keys.writer_of(world.account.role_id, instance.instance_id)
        self.phase = Phase.STAGING
        self.seq = 0
        self.first_step = 0
        self.started_s: float | None = None
        self.froze_s: float | None = None
        self.silent = False
        self.warned_s: float | None = None
        self.beat_s: float | None = None
        self.saved_step = 0
        self.last_save_s = 0.0
        self.marked = False
        self.leaving = False
        #: When it first told that each of its GPUs was idle for the whole window.
        self.idle_told_s: float | None = None
        #: At the rendezvous of its gang, with its predecessors' work taken up or given up.
        self.ready = False

    # The gang.

    @property
    def gang(self) -> list["Box"]:
        """Every box that one fleet call started, this one too: in a world without gangs it is alone."""
        return [box for box in self.world.boxes.values() if box.instance.client_token == self.instance.client_token]

    @property
    def others(self) -> list["Box"]:
        """Those its ticket says it trains with; none where it trains alone."""
        members = self.ticket.gang.members if self.ticket is not None and self.ticket.gang is not None else ()
        return [self.world.boxes[keys.instance_of(member)] for member in members if member != self.writer]

    @property
    def leads(self) -> bool:
        return self.ticket is None or self.ticket.gang is None or self.ticket.gang.rank == 0

    @property
    def failing(self) -> bool:
        """It is no member to train with, whatever the control plane knows of it."""
        return not self.runs or self.silent or self.leaving or self.warned_s is not None or self.plan.fault in ("dead on arrival", "user data fails")

    def lost(self) -> None:
        """Its part in the training ends here, without having been done: the others' trainers stand, and fail sooner or later."""
        for other in self.others if self.phase not in (Phase.FINISHED, Phase.HANDED_OVER) else ():
            if other.started_s is None or other.froze_s is not None:
                continue
            other.froze_s = self.world.scheduler.now
            if other.plan.save_s < PATIENT_S:
                self.world.scheduler.later(COLLECTIVE_S, other._give_up)

    def _give_up(self) -> None:
        """The trainer has failed for the loss of another: the agent's last word, with no save."""
        if self.runs and not (self.leaving or self.marked or self.silent):
            self.leaving = True
            self._hand_over()

    def _leave_together(self) -> None:
        """A member's notice reaches every rank at the next step."""
        if self.runs and self.started_s is not None and not (self.leaving or self.marked or self.silent):
            self.leaving = True
            self._beat(Phase.SAVING)
            self.world.scheduler.later(self.plan.save_s, self._hand_over)

    def _meet(self) -> None:
        """Every member waits at the rendezvous until all are there; the leader's look begins the training."""
        if not self.runs or self.leaving or self.silent or self.started_s is not None:
            return
        self.ready = True
        if self.leads and all(other.ready and other.runs and not other.leaving for other in self.others):
            self._train()
        elif not self._ordered_to_stop():
            self._beat(Phase.WAITING)
            self.world.scheduler.later(TICKET_S, self._meet)

    # The machine.

    def boot(self) -> None:
        later, plan = self.world.scheduler.later, self.plan
        later(plan.boot_s, self._booted)
        if plan.interrupted_s is not None and self.instance.market == "spot":
            later(plan.interrupted_s, self._notice)

    @property
    def runs(self) -> bool:
        """The operating system runs; after a termination it may go on for some seconds."""
        return self.instance.state in ("pending", "running")

    @property
    def stuck(self) -> bool:
        """It was never given a way to end by itself: no timer, and work that goes on."""
        return self.plan.fault == "no timer"

    @property
    def healthy(self) -> bool:
        """It works, with all of its gang, and has said so lately."""
        if any(box is not self and box.failing for box in self.gang):
            return False
        if not self.runs or self.silent or self.leaving or self.plan.fault in ("dead on arrival", "user data fails"):
            return False
        if self.beat_s is None:
            return self.world.scheduler.now - self.world.seconds(self.instance.launched_at) < 600.0
        return self.world.scheduler.now - self.beat_s <= 2 * TURN_S

    def _booted(self) -> None:
        if self.instance.state != "pending":
            return
        self.world.account.ec2.change(self.instance.instance_id, "running")
        deadline = tags.deadline_of(self.instance.tags)
        if deadline is not None and self.plan.fault not in ("no timer", "dead on arrival"):
            self.world.scheduler.later(max(0.0, self.world.seconds(deadline) - self.world.scheduler.now), self._power_off)
        if self.plan.fault == "user data fails":
            self._power_off()
        elif self.plan.fault != "dead on arrival":
            self._await_ticket(self.world.scheduler.now + TICKET_WAIT_S)

    def _power_off(self) -> None:
        if self.runs:
            self.world.note(self.instance.instance_id, "powers itself off")
            self.world.account.ec2.end(self.instance.instance_id, "Client.InstanceInitiatedShutdown")

    # EC2 takes it back.

    def _notice(self) -> None:
        if not self.runs:
            return
        self.warned_s = self.world.scheduler.now
        self.world.note(self.instance.instance_id, f"EC2 gives notice, {self.plan.notice_s:.0f} s")
        if self.plan.event and self.plan.notice_s:
            self.world.account.ec2.warn(self.instance.instance_id)
        if self.plan.imds and self.plan.notice_s and not self.silent:
            self.world.scheduler.later(1.0, self._told_of_notice)
        self.world.scheduler.later(self.plan.notice_s, self._taken_back)

    def _taken_back(self) -> None:
        if self.runs:
            self.world.account.ec2.end(self.instance.instance_id, "Server.SpotInstanceTermination")

    def _told_of_notice(self) -> None:
        if not self.runs or self.leaving or self.silent:
            return
        self.leaving = True
        if self.ticket is not None:
            self._beat(Phase.SAVING)
            self.world.scheduler.later(self.plan.save_s, self._hand_over)
            for other in self.others:
                other._leave_together()

    def _hand_over(self) -> None:
        if self.runs and not self.marked:
            # Who has lost another stands in the midst of a step: there is nothing whole to save.
            if self.started_s is not None and not (self.others and self.froze_s is not None):
                self._publish_checkpoint()
            self._beat(Phase.HANDED_OVER)
            self.world.scheduler.later(HANDED_OVER_S, self._power_off)

    # The agent.

    def _await_ticket(self, until_s: float) -> None:
        if not self.runs:
            return
        body = self.world.account.s3.read(self.world.data_bucket, keys.ticket_key(self.writer))
        if body is not None:
            self.ticket = wire.load(Ticket, body)
            self.world.on_ticket(self, self.ticket)
            if self.leaving:
                self._beat(Phase.HANDED_OVER)
                return
            self._beat(Phase.STAGING)
            self.world.scheduler.later(10.0, self._await_predecessors)
        elif self.world.scheduler.now >= until_s:
            self._power_off()
        else:
            self.world.scheduler.later(TICKET_S, lambda: self._await_ticket(until_s))

    def _await_predecessors(self) -> None:
        if not self.runs or self.leaving:
            return
        assert self.ticket is not None
        if all(self._has_handed_over(handover) for handover in self.ticket.handovers):
            self._meet() if self.ticket.gang is not None else self._train()
        elif not self._ordered_to_stop():
            self._beat(Phase.WAITING)
            self.world.scheduler.later(TICKET_S, self._await_predecessors)

    def _has_handed_over(self, handover: Handover) -> bool:
        """The predecessor has, or its time for it is over."""
        if self.world.scheduler.now >= self.world.seconds(handover.until):
            return True
        body = self.world.account.s3.read(self.world.outputs_bucket, keys.heartbeat_key(self.job_id, handover.writer))
        return body is not None and wire.load(Heartbeat, body).phase in (Phase.HANDED_OVER, Phase.FINISHED)

    def _train(self) -> None:
        assert self.ticket is not None
        s3, bucket = self.world.account.s3, self.world.outputs_bucket
        found = [
            step
            for writer in (self.writer, *self.ticket.earlier_writers)
            for key in s3.keys(bucket, keys.checkpoints_prefix(self.job_id, writer))
            if (step := keys.checkpoint_step(key)) is not None
        ]
        self.first_step = max(found, default=0)
        self.world.on_resumed(self)
        for member in (self, *self.others):
            member._begin(self.first_step)

    def _begin(self, step: int) -> None:
        assert self.ticket is not None
        self.first_step = self.saved_step = step
        self.started_s = self.last_save_s = self.world.scheduler.now
        if self.plan.fault:
            self.world.scheduler.later(self.plan.at_s, self._break)
        job = self.world.plan_of(self.job_id)
        if not self.stuck:
            self.world.scheduler.later(max(0.0, (job.steps - self.first_step) * job.step_s), self._finish)
        if not self.stuck:
            margin_s = self.world.seconds(self.ticket.deadline_at) - 40.0 - self.world.scheduler.now
            self.world.scheduler.later(max(0.0, margin_s), self._save_and_stop)
        self._turn()

    @property
    def step(self) -> int:
        if self.started_s is None:
            return 0
        job = self.world.plan_of(self.job_id)
        worked_s = (self.froze_s if self.froze_s is not None else self.world.scheduler.now) - self.started_s
        return min(job.steps, self.first_step + int(worked_s / job.step_s))

    def _turn(self) -> None:
        """Every half minute: a save if one is due, a heartbeat, a look for a stop order."""
        if not self.runs or self.silent or self.leaving or self.marked:
            return
        job = self.world.plan_of(self.job_id)
        if self.world.scheduler.now - self.last_save_s >= job.save_every_s and self.step > self.saved_step:
            self._publish_checkpoint()
        self._beat(Phase.TRAINING)
        if not self._ordered_to_stop():
            self.world.scheduler.later(TURN_S, self._turn)

    def _ordered_to_stop(self) -> bool:
        body = self.world.account.s3.read(self.world.data_bucket, keys.stop_key(self.writer))
        if body is None:
            return False
        order = wire.load(StopOrder, body)
        self.leaving = True
        if order.hand_over:
            self._beat(Phase.SAVING)
            self.world.scheduler.later(self.plan.save_s, self._hand_over)
        else:
            self.world.scheduler.later(min(self.plan.save_s, 20.0), self._stopped)
        return True

    def _save_and_stop(self) -> None:
        if self.runs and not self.leaving and not self.marked and not self.silent:
            self.leaving = True
            self.world.scheduler.later(min(self.plan.save_s, 20.0), self._stopped)

    def _stopped(self) -> None:
        if self.runs and not self.marked:
            if self.started_s is not None and not (self.others and self.froze_s is not None):
                self._publish_checkpoint()
            self._mark(Outcome.STOPPED)

    def _publish_checkpoint(self) -> None:
        if not self.leads:
            return
        step = self.step
        key = keys.checkpoint_prefix(self.job_id, self.writer, step) + keys.CHECKPOINT_MANIFEST_NAME
        self.world.account.s3.write(self.world.outputs_bucket, key, b"{}")
        self.saved_step, self.last_save_s = step, self.world.scheduler.now
        self.world.note(self.instance.instance_id, f"publishes a checkpoint at step {step}")

    def _finish(self) -> None:
        if not self.runs or self.silent or self.marked or self.froze_s is not None or self.plan.fault in ("host fails at its end",):
            if self.plan.fault == "host fails at its end" and self.runs:
                self.world.account.ec2.end(self.instance.instance_id, "Server.InternalError")
            return
        if self.leaving and not (self.warned_s is not None and self.phase is Phase.SAVING):
            return
        if not self.leads:
            self._end_well()
            return
        late = self.plan.fault == "marker before its files"
        if not late:
            self._upload()
        else:
            self.world.scheduler.later(25.0, self._upload)
        self._mark(Outcome.COMPLETED, stay=late)

    def _end_well(self) -> None:
        """One that does not lead has nothing to upload and no marker to write."""
        self.marked = True
        self._beat(Phase.FINISHED)
        self.world.scheduler.later(3.0, self._power_off)

    def _upload(self) -> None:
        if self.runs:
            self.world.account.s3.write(self.world.outputs_bucket, keys.final_prefix(self.job_id, self.writer) + "adapter_model.safetensors", WEIGHTS)

    def _mark(self, outcome: Outcome, *, failure: Failure | None = None, stay: bool = False) -> None:
        assert self.ticket is not None
        if not self.leads:
            self._end_well()
            return
        self.marked = True
        body = WEIGHTS if self.plan.fault != "marker with a wrong hash" else b"other"
        job_id = self.job_id if self.plan.fault != "marker of another job" else "somebody-else"
        done = outcome is Outcome.COMPLETED
        marker = CompletionMarker(
            job_id=job_id,
            attempt=self.ticket.attempt,
            instance_id=self.instance.instance_id,
            outcome=outcome,
            at=self.world.clock(),
            files=(FileDigest(path="final/adapter_model.safetensors", size=len(body), sha256=hashlib.sha256(body).hexdigest()),) if done else (),
            results=Results(steps=self.step, first_step=self.first_step, eval_loss_after=loss_of(self.job_id)) if done else None,
            failure=failure,
        )
        text = wire.dump(marker) if self.plan.fault != "marker malformed" else b"{"
        self.world.note(self.instance.instance_id, f"writes its marker: {outcome}{' (' + self.plan.fault + ')' if self.plan.fault else ''}")
        self.world.account.s3.write_once(self.world.outputs_bucket, keys.marker_key(self.job_id, self.writer), text)
        if done and not self.plan.fault.startswith("marker"):
            self.world.checks.on_finished(self.instance.instance_id)
        if self.plan.fault in ("marker malformed", "marker of another job"):
            self.world.checks.on_garbled(self.instance.instance_id)
        self._beat(Phase.FINISHED)
        self.world.scheduler.later(60.0 if stay else 3.0, self._power_off)

    def _break(self) -> None:
        """The box's own fault."""
        if not self.runs or self.marked or self.leaving:
            return
        instance_id, ec2 = self.instance.instance_id, self.world.account.ec2
        self.world.note(instance_id, f"fault: {self.plan.fault}")
        match self.plan.fault:
            case "hangs":
                self.lost()
                self.silent, self.froze_s = True, self.world.scheduler.now
            case "stands still":
                self.lost()
                self.froze_s = self.world.scheduler.now
            case "fails for good" | "fails, may do better elsewhere" if not self.leads:
                self._power_off()
            case "fails for good":
                self.lost()
                self._mark(Outcome.FAILED, failure=Failure(code=FailureCode.OUT_OF_MEMORY, message="out of memory"))
            case "fails, may do better elsewhere":
                self.lost()
                self._mark(Outcome.FAILED, failure=Failure(code=FailureCode.DISK_FULL, message="disk full"))
            case "dies":
                ec2.change(instance_id, "terminated", "Server.InternalError")
            case "is terminated by a person":
                ec2.end(instance_id, "Client.UserInitiatedShutdown")
            case "is stopped":
                self.lost()
                self.silent = True
                ec2.change(instance_id, "stopping")
                self.world.scheduler.later(20.0, lambda: ec2.change(instance_id, "stopped") if self.instance.state == "stopping" else None)

    def _gpus(self) -> tuple[GpuUse, ...]:
        """The mean use over the window: 90 % while a GPU works, nothing once it is idle."""
        if self.started_s is None:
            return ()
        now, plan = self.world.scheduler.now, self.plan
        window_s = min(IDLE_WINDOW_S, now - self.started_s)
        idle_s = min(window_s, max(0.0, now - self.started_s - plan.idle_s))
        low = 90.0 * (1.0 - idle_s / window_s) if window_s else 90.0
        use = [low if index < plan.idle_gpus else 90.0 for index in range(plan.gpus)]
        if use and max(use) < 5.0 and window_s >= IDLE_WINDOW_S and self.idle_told_s is None and self.phase is Phase.TRAINING:
            self.idle_told_s = now
        return tuple(GpuUse(index=index, percent=percent, memory_mib=1.0, memory_total_mib=2.0, window_s=window_s) for index, percent in enumerate(use))

    def _beat(self, phase: Phase) -> None:
        if self.ticket is None:
            return
        self.phase = phase
        self.seq += 1
        now = self.world.clock()
        saved = None
        if self.saved_step > self.first_step:
            key = keys.checkpoint_prefix(self.job_id, self.writer, self.saved_step) + keys.CHECKPOINT_MANIFEST_NAME
            saved = PublishedCheckpoint(key=key, step=self.saved_step, at=now)
        beat = Heartbeat(
            job_id=self.job_id,
            attempt=self.ticket.attempt,
            instance_id=self.instance.instance_id,
            seq=self.seq,
            at=now,
            phase=phase,
            step=self.step,
            total_steps=self.world.plan_of(self.job_id).steps,
            first_step=self.first_step,
            gpus=self._gpus(),
            checkpoint=saved,
            notice=Notice(kind="interruption", at=now) if self.warned_s is not None and self.plan.imds and self.leaving else None,
        )
        self.beat_s = self.world.scheduler.now
        self.world.account.s3.write(self.world.outputs_bucket, keys.heartbeat_key(self.job_id, self.writer), wire.dump(beat))
