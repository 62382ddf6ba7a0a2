"""One attempt from ticket to last word: stage, wait for the predecessor, train, and end in one of four ways.

completed (marker), failed (marker), stopped (stop order or deadline: last save, marker), handed over (interrupted: last
save, no marker, the job goes on elsewhere). The agent may be ended at any line and started again: every part looks first
at what is already done.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum
from pathlib import Path
from typing import Any

from agent.alarms import Alarms, Ending, Routine, Summoned
from agent.control import TrainerDesk
from agent.gang import GangView
from agent.gpus import GpuWatch
from agent.heart import Heart, read_heartbeat
from agent.imds import NOTICE, Imds
from agent.orders import gpus_of, run_file
from agent.outcome import LastWords, NoResult
from agent.parameters import Parameters
from agent.prepared import PreparedRows
from agent.progress import ProgressReader, Told
from agent.resume import Resumer
from agent.settings import Folders, Settings
from agent.staging import Stager, StagingFailed, free_bytes
from agent.starting import UPTIME
from agent.store import S3_ERRORS, Denied, Store
from agent.telling import Telling
from agent.tracking import Reporter
from agent.uploader import Uploader
from jobspec.heartbeat import Phase, PublishedCheckpoint
from jobspec.marker import Failure, FailureCode, Outcome
from jobspec.runfile import ExitCode
from jobspec.ticket import Handover, Ticket

#: Starts of the trainer in place without a step forward; then another instance may do better.
MAX_RESTARTS = 3
#: Begins a heartbeat's message while checkpoints cannot be published: training goes on, but an end would lose it.
NOT_PUBLISHED = "the newest checkpoint is not published"
#: Tries of a last word that S3 refuses.
DENIED_TRIES = 6
#: Least seconds before the end of the instance that are kept for the upload of the last save, were it never so quick so far.
LEAST_UPLOAD_S = 5.0

log = logging.getLogger(__name__)


class AgentExit(IntEnum):
    """What the agent's exit status tells ``bootstrap.sh``; any other one is a crash, and the agent is started again."""

    FINISHED = 0
    HANDED_OVER = 3
    NO_TICKET = 4
    #: S3 refuses the role what the attempt cannot do without. Another start here would meet the same.
    DENIED = 5


class MarkerDenied(Denied):
    """S3 refuses the completion marker: no last word but a heartbeat's is left."""


@dataclass(frozen=True, slots=True)
class World:
    """What an attempt needs from outside. ``now`` gives aware times, ``sleep`` takes seconds, ``free`` tells a disk's free bytes."""

    settings: Settings
    store: Store
    imds: Imds
    parameters: Parameters
    folders: Folders
    now: Callable[[], datetime]
    sleep: Callable[[float], None]
    free: Callable[[Path], int] = free_bytes


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

    def run(self) -> AgentExit:
        """Raises what S3 raises for good: the agent then ends, is started again, and goes on from here. Its heartbeat says why."""
        try:
            return self._run()
        except Denied as denied:
            return self._refused(denied)
        except Exception as error:
            self._stumble(f"the agent died and starts again: {type(error).__name__}: {error}")
            raise

    def _refused(self, denied: Denied) -> AgentExit:
        """The end of an attempt whose role is refused what it cannot do without: by a marker, or if that is refused too, by a heartbeat."""
        code = FailureCode.UPLOAD_FAILED if self._desk.asked() else FailureCode.AGENT_ERROR
        failure = Failure(code=code, message=f"{denied}; the instance role's policy is not the template's")
        if not isinstance(denied, MarkerDenied):
            try:
                return self._fail(failure)
            except MarkerDenied:
                pass
        log.error("denied: %s: %s", failure.code, failure.message)
        self._words.upload_logs()
        self._stumble(f"{failure.code}: {failure.message}")
        return AgentExit.DENIED

    def _stumble(self, message: str) -> None:
        self._heart.note(message=message.encode("utf-8", "replace").decode()[:2000])
        self._heart.beat()

    def _run(self) -> AgentExit:
        if self._words.said():
            return self._finish("the marker was written before")
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
                self._prepare()
                self._desk.start()
            self._heart.enter(Phase.TRAINING)
            return self._train()
        except StagingFailed as failed:
            return self._fail(failed.failure)
        except Summoned as summoned:
            return self._leave(summoned.ending)

    def _prepare(self) -> None:
        """Raises StagingFailed, Summoned."""
        if self._earlier is None:
            # In the local cloud the kernel is the laptop's.
            self._telling.boot(self._world.folders.stages, self._world.now(), UPTIME if self._world.settings.endpoint_url is None else None)
        self._heart.enter(Phase.STAGING)
        stager = Stager(self._world.store, self._ticket, self._world.folders, self._alarms.check, self._world.sleep, self._world.free)
        self._timed("stage_data", stager.stage_data)
        self._timed("stage_model", stager.stage_model)
        self._timed("handover", self._await_predecessors)
        self._timed("stage_prepared", self._prepared.fetch)
        if self._gang.leads:  # its trainer sends it to the others
            self._timed("stage_checkpoint", self._stage_checkpoint)
        self._gang.name_addresses(self._world.folders)
        self._alarms.check()
        self._desk.write_run_file(run_file(self._ticket, self._world.folders.run, gpus_of(self._world.imds.instance_type(), self._ticket.manifest)))

    def _timed(self, name: str, work: Callable[[], object]) -> None:
        started = time.monotonic()
        work()
        self._heart.note_stage(name, time.monotonic() - started)

    def _await_predecessors(self) -> None:
        """Wait until each predecessor has published its last save, but not past the ticket's time."""
        for handover in self._ticket.handovers:
            self._await(handover)

    def _await(self, handover: Handover) -> None:
        self._heart.enter(Phase.WAITING, f"for the last save of {handover.writer}")
        while self._world.now() < handover.until:
            last = read_heartbeat(self._world.store, self._ticket.outputs_bucket, self._ticket.job_id, handover.writer)
            if last is not None and last.phase in (Phase.HANDED_OVER, Phase.FINISHED):
                return
            self._alarms.check()
            self._world.sleep(self._pace.handover_s)
        log.warning("%s did not hand over in time; the newest whole checkpoint is taken", handover.writer)

    def _stage_checkpoint(self) -> None:
        step = Resumer(self._world.store, self._ticket, self._world.folders, self._alarms.check).fetch()
        self._heart.note(step=step or 0)

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
                return self._fail(failure)
            self._world.sleep(self._pace.watch_s)

    def _after_exit(self, status: int, told: Told) -> AgentExit | None:
        """The attempt's end, or None where the trainer was started again in place. Raises Summoned."""
        if not self._gang.leads and (status in (ExitCode.COMPLETED, ExitCode.FAILED, ExitCode.INTERRUPTED) or self._gang.last_word()):
            return self._await_leader()
        if status == ExitCode.COMPLETED:
            return self._complete()
        if status == ExitCode.FAILED:
            return self._fail(told.failure or Failure(code=FailureCode.TRAINER_ERROR, message="the trainer ended without a reason; see logs/trainer.log"))
        self._alarms.look_for_order()
        self._alarms.check()
        if status == ExitCode.INTERRUPTED and self._gang.is_one:
            # All stopped for what another was told; this instance may hear of it only later.
            raise Summoned(Ending("another instance of the gang was asked to stop", self._world.now() + NOTICE, interrupted=True))
        before = self._desk.restarts()
        moved = told.step > before.step
        count = 1 if moved else before.count + 1
        if count > MAX_RESTARTS:
            return self._fail(
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
        self._words.upload_logs()
        if word is Phase.HANDED_OVER:
            self._heart.enter(Phase.HANDED_OVER, "as the leader did")
            return AgentExit.HANDED_OVER
        return self._finish("as the leader did")

    def _complete(self) -> AgentExit:
        self._heart.enter(Phase.UPLOADING)
        try:
            results, files = self._words.result()
        except NoResult as error:
            return self._fail(Failure(code=FailureCode.TRAINER_ERROR, message=f"the trainer completed but left no usable result: {error}"[:2000]))
        self._words.upload_final(files)
        self._words.upload_logs()
        self._mark(Outcome.COMPLETED, files=files, results=results)
        return self._finish("completed")

    def _fail(self, failure: Failure) -> AgentExit:
        log.error("failed: %s: %s", failure.code, failure.message)
        self._words.upload_logs()
        self._mark(Outcome.FAILED, failure=failure)
        return self._finish(f"failed: {failure.code}")

    def _leave(self, ending: Ending) -> AgentExit:
        """A last save, its upload, and the word that the ending calls for."""
        log.info("ending: %s", ending.reason)
        if self._desk.asked():
            # The trainer first: of a notice's two minutes none is for a heartbeat that S3 is slow to take.
            self._desk.ask_to_stop()
            self._heart.enter(Phase.SAVING, ending.reason)
            status = self._stop_trainer(ending)
            told = self._look()
            if self._gang.leads:
                if status == ExitCode.COMPLETED:
                    return self._complete()
                if status == ExitCode.FAILED and ending.interrupted and told.failure is not None:
                    return self._fail(told.failure)
                self._upload_last(ending)
        self._words.upload_logs()
        if ending.interrupted:
            self._heart.enter(Phase.HANDED_OVER, ending.reason)
            return AgentExit.HANDED_OVER
        if self._gang.leads:
            self._mark(Outcome.STOPPED)
        return self._finish(ending.reason)

    def _mark(self, outcome: Outcome, **facts: Any) -> None:
        """Raises MarkerDenied, once every try was refused."""
        # Before it: whoever reads the marker ends this instance.
        self._reporter.end(outcome.value)
        left = DENIED_TRIES
        while True:
            try:
                self._words.mark(outcome, **facts)
            except Denied as denied:
                left -= 1
                if not left:
                    raise MarkerDenied(str(denied)) from None
                log.warning("the completion marker is refused; tried again: %s", denied)
                self._world.sleep(self._pace.denied_s)
            else:
                return

    def _stop_trainer(self, ending: Ending) -> int | None:
        """Wait for the save and the end as long as the upload allows; then end the trainer. Its exit status, if it has one."""
        left_s = (ending.before - self._world.now()).total_seconds()
        reserve_s = min(max(LEAST_UPLOAD_S, 2 * self._uploader.upload_s), max(left_s, 0.0) / 2)
        latest = max(ending.before - timedelta(seconds=reserve_s), self._world.now() + timedelta(seconds=self._pace.least_save_s))
        while (over := self._desk.over()) is None and self._world.now() < latest:
            self._look()
            self._world.sleep(self._pace.watch_s)
        if over is None:
            log.warning("the trainer did not stop in time; its last finished checkpoint counts")
            self._desk.end_now()
        return over.status if over else None

    def _upload_last(self, ending: Ending) -> None:
        """Try until it is published or the time is over: what S3 holds already stays the newest then."""
        while True:
            try:
                return self._uploader.last()
            except (Denied, *S3_ERRORS) as error:
                log.warning("the last checkpoint is not published yet: %s", error)
                if self._world.now() >= ending.before:
                    return None
                self._world.sleep(self._pace.watch_s)

    def _finish(self, message: str) -> AgentExit:
        self._heart.enter(Phase.FINISHED, message)
        return AgentExit.FINISHED

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
