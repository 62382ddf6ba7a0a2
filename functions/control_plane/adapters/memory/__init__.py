"""The world in memory, for unit tests and the simulator: real classes held to the AWS side by ``tests/contract``.

Nothing here is random, sleeps or reads a clock; time and faults come from the caller, so a run can be repeated exactly.
"""

from control_plane.adapters.memory.fleet import Fault, LostAnswer, MemoryFleet, ThrottledCall
from control_plane.adapters.memory.jobs import MemoryHolds, MemoryStore
from control_plane.adapters.memory.objects import MemoryObjects
from control_plane.adapters.memory.outbox import BusEvent, MemoryBus, MemoryPost

__all__ = ["BusEvent", "Fault", "LostAnswer", "MemoryBus", "MemoryFleet", "MemoryHolds", "MemoryObjects", "MemoryPost", "MemoryStore", "ThrottledCall"]
