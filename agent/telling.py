"""Into the heartbeat: what bootstrap.sh and the trainer tell of this attempt. Decides nothing."""

from datetime import datetime
from pathlib import Path

from agent.heart import Heart
from agent.progress import ProgressReader, Told
from agent.starting import before_agent, in_trainer
from jobspec.heartbeat import Saving


class Telling:
    def __init__(self, heart: Heart, progress: ProgressReader) -> None:
        self._heart, self._progress = heart, progress

    @property
    def told(self) -> Told:
        """What the trainer had told at the last look."""
        return self._progress.told

    def boot(self, stages: Path, now: datetime, uptime: Path | None) -> None:
        """Note the seconds before the agent; see ``starting.before_agent``."""
        for name, seconds in before_agent(stages, now, uptime).items():
            self._heart.note_stage(name, seconds)

    def look(self, asked_at: datetime | None, upload_s: float) -> Told:
        """Read the trainer's new lines and note them. ``asked_at``: when the trainer that runs was asked for; ``upload_s``: the last upload's."""
        told = self._progress.read()
        if told.load_s is not None and "load" not in self._heart.state.stages_s:
            self._heart.note_stage("load", told.load_s)
        if told.stages_s and self._heart.state.first_step_at is None:
            self._note_first_step(told, asked_at)
        if told.first_step is not None:
            self._heart.note(
                step=told.step,
                total_steps=told.total_steps,
                first_step=told.first_step,
                loss=told.loss,
                tokens_per_s=told.tokens_per_s,
                saving=_saving(told, upload_s),
            )
        return told

    def _note_first_step(self, told: Told, asked_at: datetime | None) -> None:
        if (found := in_trainer(told, asked_at)) is None:
            return
        stages_s, at = found
        for name in stages_s.keys() - self._heart.state.stages_s.keys():
            self._heart.note_stage(name, stages_s[name])
        self._heart.note(first_step_at=at)


def _saving(told: Told, upload_s: float) -> Saving | None:
    if told.stall_s is None:
        return None
    return Saving(stall_s=told.stall_s, write_s=told.write_s, upload_s=upload_s, interval_s=told.next_save_s)
