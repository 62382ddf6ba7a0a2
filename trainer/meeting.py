"""Where the instances of a run on several of them meet: a store that the leader's starting process holds, for what torchrun does not do.

torchrun waits for all instances without hearing a stop, and knows of the others only what breaks. So they meet here first; each says
every second that it is there, and with its last word why it ends: then no instance waits long for one that is gone, and each can say
why it ended. Imports torch at its top: import this file inside a function.
"""

import threading
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import torch.distributed as dist
from torch.distributed import DistError

from jobspec.runfile import RunFile
from jobspec.wire import dump, load
from trainer.stop import StopSignal
from trainer.words import Ended, Word, word

#: A store that does not answer in this time is gone.
ANSWER = timedelta(seconds=5)
BEAT_S = 1.0
#: An instance that says nothing for so long is gone: a machine can be slow, a lost one says nothing ever.
SILENT_S = 30.0
#: How long instances wait for each other: the last may still be downloading what the first has.
PATIENCE_S = 3600.0

Wait = Callable[[float], object]


class Lost(Exception):
    """Another instance is gone, or said that it ends."""


class Meeting:
    """Of one start of one run. ``wait`` sleeps so many seconds."""

    def __init__(self, run: RunFile, stop: StopSignal, wait: Wait) -> None:
        assert run.rendezvous is not None
        self._run, self._stop, self._wait = run, stop, wait
        self._address, _, port = run.rendezvous.partition(":")
        self._port = int(port)
        self._gone, self._told = threading.Event(), threading.Event()
        self._ended: Word | None = None
        #: Names this start on every instance, and what of the store is its own: a leader may begin several.
        self.name = ""
        self._store = self._joined()

    def _joined(self) -> Any:
        """The store, once this instance is in it. Raises StopRequested, Lost."""
        for _ in range(int(PATIENCE_S / BEAT_S)):
            self._stop.check("waiting for the other instances")
            try:
                store = self._opened()
                # A start that is over, or that this instance was in before, is none to join: the leader begins another.
                if store is not None and not store.check([self._key("over")]) and store.add(self._key(f"joined/{self._run.node_rank}"), 1) == 1:
                    return store
            except (DistError, RuntimeError):
                if self._run.leads:
                    raise
            self._wait(BEAT_S)
        raise Lost(f"instance 0 did not answer at {self._address}:{self._port} in {PATIENCE_S / 60:.0f} minutes")

    def _opened(self) -> Any:
        # torchrun opens the same port in the leader: torch serves both from one.
        make: Any = dist  # untyped there
        store = make.TCPStore(self._address, self._port, None, self._run.leads, ANSWER, wait_for_workers=False, multi_tenant=True)
        if self._run.leads:
            self.name = uuid.uuid4().hex
            store.set("name", self.name)
            return store
        if not store.check(["name"]):
            return None
        self.name = store.get("name").decode()
        return store

    def _key(self, what: str) -> str:
        return f"{self.name}/{what}"

    def assemble(self, told: str) -> str:
        """The leader's ``told``, once all instances are there. Raises StopRequested, Lost."""
        if self._run.leads:
            self._store.set(self._key("told"), told)
        for _ in range(int(PATIENCE_S / BEAT_S)):
            self._stop.check("waiting for the other instances")
            try:
                here = [self._store.add(self._key(f"joined/{node}"), 0) > 0 for node in range(self._run.nodes)]
                if all(here) and self._store.check([self._key("told")]):
                    return str(self._store.get(self._key("told")).decode())
            except (DistError, RuntimeError) as error:
                raise Lost(f"instance 0 is gone: {error}") from None
            self._wait(BEAT_S)
        raise Lost(f"of {self._run.nodes} instances {sum(here)} came in {PATIENCE_S / 60:.0f} minutes")

    def watch(self, lost: Callable[[], object]) -> None:
        """From now on ``lost`` is called, once, where another instance is gone or says that it ends badly; :meth:`ended` says which."""
        threading.Thread(target=self._watch, args=(lost,), daemon=True, name="the other instances").start()

    def _watch(self, lost: Callable[[], object]) -> None:
        heard: dict[int, tuple[int, float]] = {}
        passed_s = 0.0
        while not self._gone.wait(BEAT_S):
            passed_s += BEAT_S
            try:
                found = self._look(heard, passed_s)
            except (DistError, RuntimeError) as error:
                found = word(Ended.LOST, datetime.now(UTC), f"instance 0 is gone: {error}")
            if found is not None and not self._gone.is_set():
                self._ended = found
                self._told.set()
                lost()
                return

    def _look(self, heard: dict[int, tuple[int, float]], passed_s: float) -> Word | None:
        self._store.add(self._key(f"beat/{self._run.node_rank}"), 1)
        if self._store.check([self._key("over")]):
            return load(Word, self._store.get(self._key("over")))
        for node in range(self._run.nodes):
            beats = self._store.add(self._key(f"beat/{node}"), 0)
            if beats != heard.get(node, (-1, 0.0))[0]:
                heard[node] = beats, passed_s
            elif passed_s - heard[node][1] > SILENT_S and not self._store.check([self._key(f"done/{node}")]):
                return word(Ended.LOST, datetime.now(UTC), f"instance {node} has said nothing for {SILENT_S:.0f} s")
        return None

    def ended(self, within_s: float) -> Word | None:
        """Why another instance ended, where it says so in this time."""
        self._told.wait(within_s)
        return self._ended

    def leave(self, last: Word) -> None:
        """Say how this instance ended; what ended badly ends the others."""
        self._gone.set()
        try:
            if last.ended in (Ended.COMPLETED, Ended.INTERRUPTED):
                self._store.set(self._key(f"done/{self._run.node_rank}"), "")
            elif self._ended is None:
                told = last.model_copy(update={"message": f"instance {self._run.node_rank}: {last.message}"[:2000]})
                self._store.set(self._key("over"), dump(told).decode())
        except (DistError, RuntimeError):
            pass  # who would hear it is gone
