"""From the ticket to the request for a trainer: data, model, training image, hand-over, checkpoint, orders.

The image is pulled by bootstrap.sh meanwhile. It is waited for before the predecessor is: a replacement whose heartbeat says more than
STAGING counts as ready, and the instance that still works is told to leave.
"""

import logging
import time
from collections.abc import Callable

from agent.alarms import Alarms
from agent.control import TrainerDesk
from agent.gang import GangView
from agent.heart import Heart, read_heartbeat
from agent.image import TrainingImage
from agent.orders import gpus_of, run_file
from agent.prepared import PreparedRows
from agent.resume import Resumer
from agent.staging import Stager
from agent.world import World
from jobspec.heartbeat import Phase
from jobspec.ticket import Handover, Ticket

log = logging.getLogger(__name__)


class Preparation:
    def __init__(self, world: World, ticket: Ticket, heart: Heart, alarms: Alarms, desk: TrainerDesk, gang: GangView, prepared: PreparedRows) -> None:
        self._world, self._ticket, self._heart, self._desk, self._gang, self._prepared = world, ticket, heart, desk, gang, prepared
        self._pace = world.settings.pace
        self._check = alarms.check
        self._image = TrainingImage(world.folders, alarms.check, world.sleep)

    def do(self) -> None:
        """Raises StagingFailed, OtherBuild, Summoned."""
        self._heart.enter(Phase.STAGING)
        world = self._world
        stager = Stager(world.store, self._ticket, world.folders, self._check, world.sleep, world.free)
        self._timed("stage_data", stager.stage_data)
        self._timed("stage_model", stager.stage_model)
        self._timed("pull", self._await_image)
        self._timed("handover", self._await_predecessors)
        self._timed("stage_prepared", self._prepared.fetch)
        if self._gang.leads:  # its trainer sends it to the others
            self._timed("stage_checkpoint", self._stage_checkpoint)
        self._gang.name_addresses(world.folders)
        self._check()
        self._desk.write_run_file(run_file(self._ticket, world.folders.run, gpus_of(world.imds.instance_type(), self._ticket.manifest)))

    def _timed(self, name: str, work: Callable[[], object]) -> None:
        started = time.monotonic()
        work()
        self._heart.note_stage(name, time.monotonic() - started)

    def _await_image(self) -> None:
        if self._image.is_coming:
            self._heart.enter(Phase.STAGING, "all else is there; the training image is still being pulled")
        self._image.wait(self._pace.image_wait_s, self._pace.watch_s)

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
            self._check()
            self._world.sleep(self._pace.handover_s)
        log.warning("%s did not hand over in time; the newest whole checkpoint is taken", handover.writer)

    def _stage_checkpoint(self) -> None:
        step = Resumer(self._world.store, self._ticket, self._world.folders, self._check).fetch()
        self._heart.note(step=step or 0)
