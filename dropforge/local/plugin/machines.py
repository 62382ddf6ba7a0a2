"""The life of an instance: ``pending -> running -> shutting-down -> terminated``, each step with its EventBridge event.

One thread lives each instance's life; orders from outside (terminate, interrupt, a failing host) only mark the instance
and wake it. States, codes and reasons are EC2's (API reference, InstanceState and StateReason). The user data ending by
itself counts as a power-off of the operating system, which terminates or stops the instance as its launch template says.
"""

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from dropforge.local.plugin import events, seams
from dropforge.local.plugin.market import Pool
from dropforge.local.plugin.processes import Session
from dropforge.local.plugin.settings import Settings

STATE_CODES = {"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48, "stopping": 64, "stopped": 80}
LIVE_STATES = frozenset({"pending", "running", "shutting-down", "stopping"})
#: DescribeInstances shows a terminated instance for about an hour (EC2 guide, "Terminate your instance").
TERMINATED_VISIBLE_S = 3600.0

USER_SHUTDOWN = ("Client.UserInitiatedShutdown", "Client.UserInitiatedShutdown: User initiated shutdown")
INSTANCE_SHUTDOWN = ("Client.InstanceInitiatedShutdown", "Client.InstanceInitiatedShutdown: Instance initiated shutdown")
SPOT_TERMINATION = ("Server.SpotInstanceTermination", "Server.SpotInstanceTermination: Spot instance termination")
HOST_FAILURE = ("Server.InternalError", "Server.InternalError: Internal error on launch or host failure")


@dataclass(frozen=True, slots=True)
class Launch:
    """What one instance was launched with. ``role`` is the instance profile's role, or None."""

    pool: Pool
    market: str
    subnet_id: str
    image_id: str
    user_data: bytes
    profile_arn: str
    role: str | None
    client_token: str
    shutdown_behavior: str
    metadata: dict[str, str]


@dataclass(slots=True)
class Machine:
    """``record`` is the emulator's own; ``notice_at`` is when EC2 will end the instance, ``rebalance_at`` when it advised to leave."""

    instance_id: str
    launch: Launch
    record: Any
    scope: tuple[str, str]
    launched_at: datetime
    reason: tuple[str, str] | None = None
    notice_at: datetime | None = None
    rebalance_at: datetime | None = None
    ended_at: float | None = None
    ending: threading.Event = field(default_factory=threading.Event)
    timer: threading.Timer | None = None
    session: Session | None = None
    metadata_server: Any = None

    @property
    def state(self) -> str:
        return str(self.record["State"]["Name"])

    @property
    def live(self) -> bool:
        return self.state in LIVE_STATES


class Machines:
    """Every instance of this cloud. ``lock`` guards the table and each machine's marks."""

    def __init__(self, settings: Settings, open_metadata: Any) -> None:
        self.settings, self._open_metadata = settings, open_metadata
        self.lock = threading.RLock()
        self._table: dict[str, Machine] = {}

    def all(self) -> list[Machine]:
        """Machines that DescribeInstances would show, oldest first."""
        with self.lock:
            for machine in [m for m in self._table.values() if m.ended_at and time.monotonic() - m.ended_at > TERMINATED_VISIBLE_S]:
                del self._table[machine.instance_id]
            return list(self._table.values())

    def here(self) -> list[Machine]:
        """Those of the region that the request speaks to: EC2 knows no others there."""
        return [machine for machine in self.all() if machine.scope[1] == seams.responses.get_region()]

    def find(self, instance_id: str) -> Machine | None:
        """In whichever region it is."""
        return self._table.get(instance_id)

    def start(self, instance_id: str, launch: Launch, record: Any) -> Machine:
        """Begin the life of an instance whose record exists; returns while it is pending."""
        scope = (seams.responses.get_account_id(), seams.responses.get_region())
        machine = Machine(instance_id, launch, record, scope, datetime.now(UTC))
        with self.lock:
            self._table[instance_id] = machine
        self._enter(machine, "pending")
        threading.Thread(target=self._live, args=(machine,), name=f"instance-{instance_id}", daemon=True).start()
        return machine

    def end(self, machine: Machine, reason: tuple[str, str], *, abruptly: bool = False) -> None:
        """Order the end; a second order changes nothing. Returns while the instance shuts down."""
        with self.lock:
            if machine.ending.is_set():
                return
            machine.reason = reason
            self._cancel_timer(machine)
            # Inside the lock: the thread that lives the instance must not say "terminated" before this is said.
            self._enter(machine, "terminated" if machine.state == "stopped" else "shutting-down")
            machine.ending.set()
            if machine.session is not None:
                machine.session.order("fail" if abruptly else "stop")

    def interrupt(self, machine: Machine, notice_s: float) -> datetime:
        """EC2 takes a spot instance back: the warning now (IMDS and event), the end in ``notice_s``. Returns the end's time (UTC)."""
        with self.lock:
            machine.notice_at = datetime.now(UTC) + timedelta(seconds=notice_s)
            self._cancel_timer(machine)
            machine.timer = threading.Timer(notice_s, self.end, args=(machine, SPOT_TERMINATION))
            machine.timer.daemon = True
            machine.timer.start()
        with scoped(machine):
            events.put_interruption_warning(machine.instance_id, machine.launch.pool.zone)
        return machine.notice_at

    def recommend_rebalance(self, machine: Machine) -> None:
        machine.rebalance_at = datetime.now(UTC)
        with scoped(machine):
            events.put_rebalance_recommendation(machine.instance_id, machine.launch.pool.zone)

    def cancel_notice(self, machine: Machine) -> None:
        """The capacity is not needed after all: IMDS shows no notice any more, and no end comes."""
        with self.lock:
            self._cancel_timer(machine)
            machine.notice_at = None

    def end_all(self) -> None:
        """Every process of every instance, at once and for good: the cloud goes down."""
        for machine in self.all():
            with self.lock:
                machine.ending.set()
                self._cancel_timer(machine)
                if machine.session is not None:
                    machine.session.order("fail")
        for machine in self.all():
            if machine.session is not None:
                machine.session.close()

    def _live(self, machine: Machine) -> None:
        machine.ending.wait(self.settings.boot_s)
        session = self._boot(machine)
        if session is not None:
            session.wait()
        stops = self._powered_off(machine)
        if session is not None:
            session.close()
        if machine.metadata_server is not None:
            machine.metadata_server.close()
        self._enter(machine, "stopped" if stops else "terminated")

    def _boot(self, machine: Machine) -> Session | None:
        """Start metadata and processes unless the end was ordered before; one lock, so that no order falls between."""
        root = self.settings.home / "instances" / machine.instance_id
        (root / "tmp").mkdir(parents=True, exist_ok=True)
        with self.lock:
            if machine.ending.is_set():
                return None
            machine.metadata_server = self._open_metadata(machine)
            env = instance_environment(self.settings, machine.instance_id, machine.metadata_server.url)
            machine.session = Session(_command(machine, root), env=env, root=root, grace_s=self.settings.stop_grace_s)
            self._enter(machine, "running")
            return machine.session

    def _powered_off(self, machine: Machine) -> bool:
        """True if the operating system powered off an instance that then only stops."""
        with self.lock:
            if machine.ending.is_set():
                return False
            self._cancel_timer(machine)
            machine.reason = INSTANCE_SHUTDOWN
            stops = machine.launch.shutdown_behavior != "terminate"
            if not stops:
                machine.ending.set()
        self._enter(machine, "stopping" if stops else "shutting-down")
        return stops

    def _enter(self, machine: Machine, state: str) -> None:
        with self.lock:
            machine.record["State"] = {"Code": STATE_CODES[state], "Name": state}
            if state == "terminated":
                machine.ended_at = time.monotonic()
        with scoped(machine):
            if state == "terminated":
                _release_profile(machine.instance_id)
            events.put_state_change(machine.instance_id, state)

    @staticmethod
    def _cancel_timer(machine: Machine) -> None:
        if machine.timer is not None:
            machine.timer.cancel()
            machine.timer = None


@contextlib.contextmanager
def scoped(machine: Machine) -> Iterator[None]:
    """The account and region of the instance, for threads that no request started."""
    with seams.responses.request_scope(*machine.scope):
        yield


def instance_environment(settings: Settings, instance_id: str, metadata_url: str) -> dict[str, str]:
    """The whole environment of an instance's processes: nothing of the emulator's own, so no credentials, and as on EC2 no region."""
    root = settings.home / "instances" / instance_id
    return settings.passed_on | {
        "AWS_EC2_METADATA_SERVICE_ENDPOINT": metadata_url,
        "AWS_ENDPOINT_URL": settings.endpoint,
        "DROPFORGE_INSTANCE": instance_id,
        "DROPFORGE_PYTHON": settings.python,
        "DROPFORGE_ROOT": str(root),
        "DROPFORGE_SOURCE": str(settings.source),
        "HOME": str(root),
        "LANG": "C.UTF-8",
        "PATH": f"{settings.source}/dropforge/local/shims:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "TMPDIR": str(root / "tmp"),
    }


def _command(machine: Machine, root: Any) -> list[str]:
    """The user data as an executable script; an instance without any runs idle until it is ended, as on EC2."""
    if not machine.launch.user_data.startswith(b"#!"):
        return ["/bin/sleep", "infinity"]
    script = root / "user-data"
    script.write_bytes(machine.launch.user_data)
    os.chmod(script, 0o700)
    return [str(script)]


def _release_profile(instance_id: str) -> None:
    association = seams.ec2._find_active_iam_instance_profile_association(instance_id)
    if association:
        seams.ec2._mark_iam_instance_profile_association_disassociated(association)
