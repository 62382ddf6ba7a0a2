"""What to do, in the imperative. Each is safe to repeat: a crash between save and call is mended by doing it again."""

from dataclasses import dataclass
from datetime import datetime

from control_plane.core.records import LaunchPlan
from control_plane.core.state import Job


@dataclass(frozen=True, slots=True)
class CallLaunch:
    """Make the saved plan's call, with its client token."""

    plan: LaunchPlan


@dataclass(frozen=True, slots=True)
class WriteTicket:
    instance_id: str


@dataclass(frozen=True, slots=True)
class WriteStop:
    """Ask the instance for a last save and its end before ``terminate_at``."""

    instance_id: str
    reason: str
    terminate_at: datetime
    #: The job goes on on another instance.
    hand_over: bool = False


@dataclass(frozen=True, slots=True)
class Terminate:
    instance_id: str
    reason: str
    #: Where it lives: an instance id means something in its region only.
    zone: str


@dataclass(frozen=True, slots=True)
class Publish:
    """Publish the e-mail that this very save claimed."""

    notice_id: str


@dataclass(frozen=True, slots=True)
class WriteStatus:
    """Rewrite the status object; ``last`` when nothing else is left to do for the job."""

    last: bool = False


@dataclass(frozen=True, slots=True)
class DriveChild:
    """Look at a job of the parent's now, rather than at the next tick. ``cancel``: its manifest was deleted."""

    job_id: str
    cancel: bool = False


@dataclass(frozen=True, slots=True)
class LookAgain:
    """What was just learnt may allow the next step at once; the tick would find it too."""


Action = CallLaunch | WriteTicket | WriteStop | Terminate | Publish | WriteStatus | DriveChild | LookAgain


@dataclass(frozen=True, slots=True)
class Decision:
    """The job as it shall be saved, what to do once it is, and why. ``births``: jobs to create in the same write, or not at all."""

    job: Job
    actions: tuple[Action, ...]
    reason: str
    births: tuple[Job, ...] = ()
