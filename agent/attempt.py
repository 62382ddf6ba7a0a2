"""One attempt from ticket to last word: stage, wait for the predecessor, train, and end in one of four ways.

completed (marker), failed (marker), stopped (stop order or deadline: last save, marker), handed over (interrupted: last
save, no marker, the job goes on elsewhere). The agent may be ended at any line and started again: every part looks first
at what is already done.
"""

import logging

from agent.alarms import Alarms, Ending, Routine, Summoned
from agent.control import TrainerDesk
from agent.endings import Endings
from agent.gang import GangView
from agent.gpus import GpuWatch
from agent.heart import Heart, read_heartbeat
from agent.image import OtherBuild
from agent.imds import NOTICE
from agent.outcome import LastWords
from agent.prepared import PreparedRows
from agent.preparing import Preparation
from agent.progress import ProgressReader, Told
from agent.staging import StagingFailed
from agent.starting import UPTIME
from agent.store import S3_ERRORS, Denied
from agent.telling import Telling
from agent.tracking import Reporter
from agent.uploader import Uploader
from agent.world import AgentExit, World
from jobspec.heartbeat import Phase, PublishedCheckpoint
from jobspec.marker import Failure, FailureCode
from jobspec.runfile import ExitCode
from jobspec.ticket import Ticket

#: Starts of the trainer in place without a step forward; then another instance may do better.
MAX_RESTARTS = 3
#: Begins a heartbeat's message while checkpoints cannot be published: training goes on, but an end would lose it.
NOT_PUBLISHED = "the newest checkpoint is not published"
log = logging.getLogger(__name__)


class Attempt:
    def __init__(self, world: World, ticket: Ticket) -> None:
        self._world = world
        self._ticket = ticket
        self._pace = world.settings.pace
        store, folders, now = world.store, world.folders, world.now
        self._earlier = read_heartbeat(store, ticket.outputs_bucket, ticket.job_id, ticket.writer)
        self._heart = Heart(store, ticket, now, self._earlier)
        self._desk = TrainerDesk(folders)
        self._telling = Telling(self._heart, ProgressReader(folders.run / "progress.jsonl"))
        self._uploader = Uploader(store, ticket, folders, now, self._after_publish)
        self._alarms = Alarms(ticket, world.imds, store, now, self._margin_s)
        self._gang = GangView(store, ticket)
        self._words = LastWords(store, ticket, folders, now)
        self._gpus = GpuWatch(folders.gpus, ticket.manifest.limits.idle_gpu.window)
        self._prepared = PreparedRows(store, ticket, folders, self._alarms.check)
        self._reporter = Reporter(ticket, folders.run / "progress.jsonl", world.parameters, now)
        self._preparation = Preparation(world, ticket, self._heart, self._alarms, self._desk, self._gang, self._prepared)
        self._end = Endings(world, self._heart, self._desk, self._gang, self._words, self._uploader, self._reporter, self._look)

    def run(self) -> AgentExit:
        """Raises what S3 raises for good: the agent then ends, is started again, and goes on from here. Its heartbeat says why."""
        try:
            return self._run()
        except Denied as denied:
            return self._end.refused(denied)
        except Exception as error:
            self._end.stumble(f"the agent died and starts again: {type(error).__name__}: {error}")
            raise

    def _run(self) -> AgentExit:
        if self._words.said():
            return self._end.finish("the marker was written before")
        if self._earlier is not None and self._earlier.phase is Phase.HANDED_OVER:
            return AgentExit.HANDED_OVER
        self._watch_notices()
        self._alarms.look_for_order()
        routines = [
            Routine("notices", self._pace.imds_s, self._watch_notices),
            Routine("heartbeat", self._ticket.heartbeat_s, self._beat),
            Routine("logs", self._pace.logs_s, self._words.upload_logs),
            Routine("gpus", self._pace.gpus_s, self._measure_gpus),
        ]
        if self._gang.leads:  # of a gang, only the leader publishes
            routines += [
                Routine("uploads", self._pace.upload_s, self._upload),
                Routine("prepared", self._pace.upload_s, self._prepared.publish),
                Routine("tracking", self._pace.report_s, self._reporter.turn),
                Routine("gang", self._ticket.heartbeat_s, self._gang.look),
            ]
        for routine in routines:
            routine.start()
        try:
            return self._story()
        finally:
            for routine in routines:
                routine.end()

    def _story(self) -> AgentExit:
        try:
            if not self._desk.asked():
                self._tell_of_boot()
                self._preparation.do()
                self._desk.start()
            self._heart.enter(Phase.TRAINING)
            return self._train()
        except StagingFailed as failed:
            return self._end.fail(failed.failure)
        except OtherBuild as other:
            log.error("%s", other)
            self._end.stumble(str(other))
            return AgentExit.OTHER_BUILD
        except Summoned as summoned:
            return self._end.leave(summoned.ending)

    def _tell_of_boot(self) -> None:
        if self._earlier is None:
            # In the local cloud the kernel is the laptop's.
            self._telling.boot(self._world.folders.stages, self._world.now(), UPTIME if self._world.settings.endpoint_url is None else None)

    def _train(self) -> AgentExit:
        """Raises Summoned."""
        while True:
            # The answer first, the lines then: so the last lines of a trainer that ended are always seen.
            over = self._desk.over()
            told = self._look()
            if over is not None:
                said = self._after_exit(over.status, told)
                if said is not None:
                    return said
            self._alarms.check()
            if (failure := self._gang.failure()) is not None:
                return self._end.fail(failure)
            self._world.sleep(self._pace.watch_s)

    def _after_exit(self, status: int, told: Told) -> AgentExit | None:
        """The attempt's end, or None where the trainer was started again in place. Raises Summoned."""
        if not self._gang.leads and (status in (ExitCode.COMPLETED, ExitCode.FAILED, ExitCode.INTERRUPTED) or self._gang.last_word()):
            return self._await_leader()
        if status == ExitCode.COMPLETED:
            return self._end.complete()
        if status == ExitCode.FAILED:
            return self._end.fail(told.failure or Failure(code=FailureCode.TRAINER_ERROR, message="the trainer ended without a reason; see logs/trainer.log"))
        self._alarms.look_for_order()
        self._alarms.check()
        if status == ExitCode.INTERRUPTED and self._gang.is_one:
            # All stopped for what another was told; this instance may hear of it only later.
            raise Summoned(Ending("another instance of the gang was asked to stop", self._world.now() + NOTICE, interrupted=True))
        before = self._desk.restarts()
        moved = told.step > before.step
        count = 1 if moved else before.count + 1
        if count > MAX_RESTARTS:
            return self._end.fail(
                Failure(
                    code=FailureCode.TRAINER_KILLED,
                    message=f"the trainer was ended from outside (exit status {status}) {count} times without a step forward from step {told.step}; "
                    "status 137 (or 74, of several GPUs' processes) is most often too little memory: lower training.micro_batch_size or "
                    "training.max_length",
                )
            )
        log.warning("the trainer ended with exit status %d at step %d; started again in place (%d of %d)", status, told.step, count, MAX_RESTARTS)
        self._desk.remember_restarts(before.model_copy(update={"count": count, "step": max(told.step, before.step)}))
        self._desk.start()
        return None

    def _await_leader(self) -> AgentExit:
        """The end of a member whose trainer is over: the leader's. Raises Summoned."""
        self._heart.enter(Phase.WAITING, "for the leader's last word")
        while (word := self._gang.last_word()) is None:
            self._alarms.check()
            self._world.sleep(self._pace.handover_s)
        return self._end.as_the_leader(word)

    def _look(self) -> Told:
        return self._telling.look(self._desk.asked_at(), self._uploader.upload_s)

    def _beat(self) -> None:
        self._alarms.look_for_order()
        self._heart.beat()

    def _watch_notices(self) -> None:
        if self._alarms.look_at_imds():
            self._heart.note(notice=self._alarms.notice)
            self._heart.beat()

    def _measure_gpus(self) -> None:
        # After the training its last figures stay in the heartbeat.
        if self._heart.state.phase is Phase.TRAINING:
            self._heart.note(gpus=self._gpus.take())

    def _upload(self) -> None:
        try:
            self._uploader.turn()
        except (Denied, *S3_ERRORS) as error:
            self._heart.note(message=f"{NOT_PUBLISHED}: {error}"[:2000])
            raise

    def _after_publish(self, checkpoint: PublishedCheckpoint) -> None:
        late = self._heart.state.message.startswith(NOT_PUBLISHED)
        self._heart.note(checkpoint=checkpoint, **({"message": ""} if late else {}))
        self._heart.beat()

    def _margin_s(self) -> float:
        """Seconds before the deadline at which a last save must begin: twice what was measured, and a floor."""
        return self._pace.save_s + 2 * (self._telling.told.save_s + self._uploader.upload_s)
