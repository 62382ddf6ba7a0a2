"""How an attempt ends: by its one marker (completed, failed, stopped), or handed over without one."""

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from agent.alarms import Ending
from agent.control import TrainerDesk
from agent.gang import GangView
from agent.heart import Heart
from agent.outcome import LastWords, NoResult
from agent.progress import Told
from agent.store import S3_ERRORS, Denied
from agent.tracking import Reporter
from agent.uploader import Uploader
from agent.world import AgentExit, World
from jobspec.heartbeat import Phase
from jobspec.marker import Failure, FailureCode, Outcome
from jobspec.runfile import ExitCode

#: Tries of a last word that S3 refuses.
DENIED_TRIES = 6
#: Least seconds before the end of the instance that are kept for the upload of the last save, were it never so quick so far.
LEAST_UPLOAD_S = 5.0

log = logging.getLogger(__name__)


class MarkerDenied(Denied):
    """S3 refuses the completion marker: no last word but a heartbeat's is left."""


class Endings:
    """``look`` reads the trainer's new lines."""

    def __init__(
        self,
        world: World,
        heart: Heart,
        desk: TrainerDesk,
        gang: GangView,
        words: LastWords,
        uploader: Uploader,
        reporter: Reporter,
        look: Callable[[], Told],
    ) -> None:
        self._world, self._heart, self._desk, self._gang = world, heart, desk, gang
        self._words, self._uploader, self._reporter, self._look = words, uploader, reporter, look
        self._pace = world.settings.pace

    def finish(self, message: str) -> AgentExit:
        self._heart.enter(Phase.FINISHED, message)
        return AgentExit.FINISHED

    def complete(self) -> AgentExit:
        self._heart.enter(Phase.UPLOADING)
        try:
            results, files = self._words.result()
        except NoResult as error:
            return self.fail(Failure(code=FailureCode.TRAINER_ERROR, message=f"the trainer completed but left no usable result: {error}"[:2000]))
        self._words.upload_final(files)
        self._words.upload_logs()
        self._mark(Outcome.COMPLETED, files=files, results=results)
        return self.finish("completed")

    def fail(self, failure: Failure) -> AgentExit:
        log.error("failed: %s: %s", failure.code, failure.message)
        self._words.upload_logs()
        self._mark(Outcome.FAILED, failure=failure)
        return self.finish(f"failed: {failure.code}")

    def as_the_leader(self, word: Phase) -> AgentExit:
        """Of a gang's member: ``word`` is the leader's last."""
        self._words.upload_logs()
        if word is Phase.HANDED_OVER:
            self._heart.enter(Phase.HANDED_OVER, "as the leader did")
            return AgentExit.HANDED_OVER
        return self.finish("as the leader did")

    def leave(self, ending: Ending) -> AgentExit:
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
                    return self.complete()
                if status == ExitCode.FAILED and ending.interrupted and told.failure is not None:
                    return self.fail(told.failure)
                self._upload_last(ending)
        self._words.upload_logs()
        if ending.interrupted:
            self._heart.enter(Phase.HANDED_OVER, ending.reason)
            return AgentExit.HANDED_OVER
        if self._gang.leads:
            self._mark(Outcome.STOPPED)
        return self.finish(ending.reason)

    def refused(self, denied: Denied) -> AgentExit:
        """The end of an attempt whose role is refused what it cannot do without: by a marker, or if that is refused too, by a heartbeat."""
        code = FailureCode.UPLOAD_FAILED if self._desk.asked() else FailureCode.AGENT_ERROR
        failure = Failure(code=code, message=f"{denied}; the instance role's policy is not the template's")
        if not isinstance(denied, MarkerDenied):
            try:
                return self.fail(failure)
            except MarkerDenied:
                pass
        log.error("denied: %s: %s", failure.code, failure.message)
        self._words.upload_logs()
        self.stumble(f"{failure.code}: {failure.message}")
        return AgentExit.DENIED

    def stumble(self, message: str) -> None:
        """Why the agent ends without a last word of the attempt."""
        self._heart.note(message=message.encode("utf-8", "replace").decode()[:2000])
        self._heart.beat()

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
