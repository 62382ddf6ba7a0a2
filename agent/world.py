"""What an attempt needs from outside, and what its agent's exit status tells ``bootstrap.sh``."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from pathlib import Path

from agent.imds import Imds
from agent.parameters import Parameters
from agent.settings import Folders, Settings
from agent.staging import free_bytes
from agent.store import Store


class AgentExit(IntEnum):
    """Any other status is a crash, and the agent is started again."""

    FINISHED = 0
    HANDED_OVER = 3
    NO_TICKET = 4
    #: S3 refuses the role what the attempt cannot do without. Another start here would meet the same.
    DENIED = 5
    #: It is of another build than the training image: started again, from that.
    OTHER_BUILD = 6


@dataclass(frozen=True, slots=True)
class World:
    """``now`` gives aware times, ``sleep`` takes seconds, ``free`` tells a disk's free bytes."""

    settings: Settings
    store: Store
    imds: Imds
    parameters: Parameters
    folders: Folders
    now: Callable[[], datetime]
    sleep: Callable[[float], None]
    free: Callable[[Path], int] = free_bytes
