"""A job as a run of Weights & Biases, by their library, where the image has it: their wire format is not documented.

One run a job, however many attempts: its id is the job's. The library's own look at the machine, the code and the console is off.
"""

import tempfile
from collections.abc import Sequence
from typing import Any

from agent.tracking import Job, Point, TrackingFailed


class WandbRun:
    """``value``: the API key, or ``KEY https://HOST`` of a server of one's own, as the parameter holds it. Raises TrackingFailed."""

    def __init__(self, value: str, project: str, job: Job) -> None:
        try:
            import wandb  # type: ignore[import-not-found]  # only in images that were built with it
        except ImportError:
            raise TrackingFailed("this image has no library wandb: build it with --build-arg TRACKING=wandb (docs/tracking.md)") from None
        key, _, host = value.strip().partition(" ")
        entity, _, name = project.rpartition("/")
        host_given = {"base_url": host.strip()} if host.strip() else {}
        settings = wandb.Settings(
            api_key=key,
            silent=True,
            console="off",
            disable_git=True,
            save_code=False,
            disable_code=True,
            x_disable_meta=True,
            x_disable_stats=True,
            **host_given,
        )
        try:
            self._run: Any = wandb.init(
                entity=entity or None,
                project=name,
                id=job.job_id,
                name=job.name,
                resume="allow",
                config=job.settings,
                dir=tempfile.mkdtemp(prefix="wandb-"),
                settings=settings,
            )
        except Exception as error:
            # Its errors are many, and of classes of its own. Their words may hold what it was given.
            raise TrackingFailed(f"wandb: {type(error).__name__}: {str(error).replace(key, '...')[:300]}") from None

    def log(self, points: Sequence[Point]) -> None:
        """Steps that were reported before, by an attempt that was lost, are passed over by the service: its steps only grow."""
        for point in points:
            self._run.log(point.values, step=point.step)

    def end(self, outcome: str, at_ms: int) -> None:
        self._run.finish(exit_code=0 if outcome == "completed" else 1)
