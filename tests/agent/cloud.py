"""What the agent's tests stand on: two buckets in moto, tickets, and an instance that runs in this process.

The instance is the real agent with a short pace and the fake trainer as a real process; ``TrainerHost`` does what
``bootstrap.sh`` does with ``control/``. The tests of ``bootstrap.sh`` itself are in ``test_instance.py``.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from agent.__main__ import run
from agent.imds import Imds
from agent.parameters import Parameters, connect
from agent.settings import Folders, Pace, Settings
from agent.staging import free_bytes
from agent.store import Store
from agent.world import AgentExit, World
from jobspec.checkpoint import CheckpointManifest
from jobspec.heartbeat import Heartbeat
from jobspec.keys import checkpoints_prefix, heartbeat_key, marker_key, stop_key, ticket_key, writer_of
from jobspec.manifest import Manifest
from jobspec.marker import CompletionMarker
from jobspec.ticket import Handover, StopOrder, Ticket
from jobspec.wire import dump, load
from tests.imds import FakeImds

REPOSITORY = Path(__file__).parents[2]
#: Only a test that fails waits so long: ten times what a slow machine takes.
PATIENCE_S = 120.0
DATA, OUTPUTS, ROLE, JOB = "dropforge-data", "dropforge-outputs", "AROATESTROLE", "demo-1a2b3c"
#: As the stack of tests/iam has it.
TRACKING = "/dropforge/tracking"
FIRST, SECOND = "i-0000000000000000a", "i-0000000000000000b"
QUICK = Pace(
    imds_s=0.05,
    watch_s=0.02,
    upload_s=0.03,
    ticket_s=0.02,
    ticket_wait_s=0.2,
    handover_s=0.03,
    logs_s=0.5,
    gpus_s=0.02,
    save_s=0.5,
    least_save_s=0.2,
    denied_s=0.02,
    report_s=0.05,
)
#: A safetensors file with an empty header and no tensors.
SAFETENSORS = (2).to_bytes(8, "little") + b"{}"


def now() -> datetime:
    return datetime.now(UTC)


def writer(instance_id: str) -> str:
    return writer_of(ROLE, instance_id)


@dataclass
class Cloud:
    """Two buckets with a model and a data set; ``s3`` is a boto3 client.

    ``client_of`` gives an instance, by its id, the client that its agent works with: tests/iam listens there.
    """

    s3: Any
    client_of: Callable[[str], Any] = field(init=False)
    parameters_of: Callable[[str], Any] = field(init=False)

    def __post_init__(self) -> None:
        self.client_of = lambda instance_id: self.s3
        self.parameters_of = lambda instance_id: connect(None)
        for bucket in (DATA, OUTPUTS):
            self.s3.create_bucket(Bucket=bucket)
        for name, body in {"config.json": b"{}", "tokenizer.json": b"{}", "model.safetensors": SAFETENSORS, "modeling.py": b"raise SystemExit"}.items():
            self.put(f"models/tiny/{name}", body)
        self.orders()

    def put(self, key: str, body: bytes, bucket: str = DATA) -> None:
        self.s3.put_object(Bucket=bucket, Key=key, Body=body)

    def orders(self, **orders: Any) -> None:
        """The training rows; the first tells the fake trainer what to do."""
        self.put("data/rows.jsonl", (json.dumps({"text": json.dumps(orders)}) + "\n").encode() * 3)

    def ticket(self, instance_id: str = FIRST, *, max_steps: int = 20, **changes: Any) -> Ticket:
        """Write a ticket for the instance and return it."""
        manifest = Manifest.model_validate(
            {
                "name": "demo",
                "model": {"s3": "models/tiny"},
                "data": {"train": "data/rows.jsonl"},
                "training": {"max_steps": max_steps},
                "compute": {"instance_types": ["g5.xlarge"]},
                **changes.pop("manifest", {}),
            }
        )
        ticket = Ticket(
            **{
                "job_id": JOB,
                "name": "demo",
                "attempt": 1,
                "instance_id": instance_id,
                "writer": writer(instance_id),
                "manifest": manifest,
                "data_bucket": DATA,
                "outputs_bucket": OUTPUTS,
                "deadline_at": now() + timedelta(hours=1),
                "heartbeat_s": 0.1,
                "issued_at": now(),
                **changes,
            }
        )
        self.put(ticket_key(ticket.writer), dump(ticket))
        return ticket

    def replacement(self, *, until_s: float, **changes: Any) -> Ticket:
        """A ticket for the second instance, after an interruption of the first."""
        handover = Handover(writer=writer(FIRST), until=now() + timedelta(seconds=until_s))
        return self.ticket(SECOND, attempt=2, earlier_writers=(writer(FIRST),), handovers=(handover,), **changes)

    def order_stop(self, reason: str = "cancelled", instance_id: str = FIRST, attempt: int = 1, before_s: float = 20, hand_over: bool = False) -> None:
        order = StopOrder(job_id=JOB, attempt=attempt, reason=reason, terminate_at=now() + timedelta(seconds=before_s), hand_over=hand_over)
        self.put(stop_key(writer(instance_id)), dump(order))

    def read(self, key: str) -> bytes | None:
        return Store(self.s3).read(OUTPUTS, key)

    def keys(self, prefix: str = "") -> list[str]:
        return [found.key for found in Store(self.s3).list(OUTPUTS, prefix)]

    def says(self, words: str, instance_id: str = FIRST) -> bool:
        """Whether the instance tells so in its heartbeat. False as long as there is none."""
        return words.encode() in (self.read(heartbeat_key(JOB, writer(instance_id))) or b"")

    def heartbeat(self, instance_id: str = FIRST) -> Heartbeat:
        body = self.read(heartbeat_key(JOB, writer(instance_id)))
        assert body is not None, "no heartbeat"
        return load(Heartbeat, body)

    def marker(self, instance_id: str = FIRST) -> CompletionMarker | None:
        body = self.read(marker_key(JOB, writer(instance_id)))
        return None if body is None else load(CompletionMarker, body)

    def whole_checkpoints(self, instance_id: str = FIRST) -> dict[int, CheckpointManifest]:
        """Published checkpoints by step; fails where a published one lacks a file or has another content."""
        prefix = checkpoints_prefix(JOB, writer(instance_id))
        found = {}
        for key in self.keys(prefix):
            if key.endswith("/checkpoint.json"):
                manifest = load(CheckpointManifest, self.read(key) or b"")
                for file in manifest.files:
                    body = self.s3.get_object(Bucket=OUTPUTS, Key=key.removesuffix("checkpoint.json") + file.path)["Body"].read()
                    assert len(body) == file.size, key
                found[manifest.step] = manifest
        return found


class TrainerHost(threading.Thread):
    """The part of ``bootstrap.sh`` that runs trainers, with the fake one."""

    def __init__(self, folders: Folders) -> None:
        super().__init__(daemon=True)
        self.folders = folders
        self.process: subprocess.Popen[bytes] | None = None
        self.starts = 0
        self.over = threading.Event()

    def run(self) -> None:
        control = self.folders.control
        while not self.over.wait(0.01):
            if (control / "trainer.start").exists():
                (control / "trainer.start").rename(control / "trainer.running")
                status = self._serve()
                (control / "trainer.exit.new").write_text(f"{(control / 'trainer.running').read_text().strip()} {status}\n")
                (control / "trainer.exit.new").rename(control / "trainer.exit")
                (control / "trainer.running").unlink()

    def _serve(self) -> int:
        self.starts += 1
        command = [sys.executable, str(REPOSITORY / "tests" / "fake_trainer.py"), "run", str(self.folders.run / "run.json")]
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY / "functions")}
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        while self.process.poll() is None:
            if (self.folders.control / "trainer.kill").exists() or self.over.is_set():
                (self.folders.control / "trainer.kill").unlink(missing_ok=True)
                self.process.kill()
            time.sleep(0.01)
        # A shell reports an end by signal n as 128 + n.
        return self.process.returncode if self.process.returncode >= 0 else 128 - self.process.returncode

    def kill_trainer(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)


@dataclass
class Instance:
    """One instance in this process. ``start()`` runs its agent in a thread; ``join()`` gives the agent's exit status."""

    cloud: Cloud
    imds: FakeImds
    root: Path
    free: Callable[[Path], int] = free_bytes
    exit: AgentExit | BaseException | None = None
    _thread: threading.Thread | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.folders = Folders(self.root)
        for folder in (self.folders.run, self.folders.control, self.folders.logs, self.folders.incoming):
            folder.mkdir(parents=True)
        self.host = TrainerHost(self.folders)
        self.host.start()

    def world(self) -> World:
        settings = Settings(DATA, OUTPUTS, ROLE, self.imds.endpoint, tracking_path=TRACKING, pace=QUICK)
        parameters = Parameters(lambda: self.cloud.parameters_of(self.imds.instance_id), TRACKING)
        store = Store(self.cloud.client_of(self.imds.instance_id))
        return World(settings, store, Imds(self.imds.endpoint, now), parameters, self.folders, now, time.sleep, self.free)

    def run(self) -> AgentExit:
        return run(self.world())

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.exit = self.run()
        except BaseException as error:
            self.exit = error

    def join(self, timeout_s: float = PATIENCE_S) -> AgentExit | BaseException | None:
        assert self._thread is not None
        self._thread.join(timeout_s)
        assert not self._thread.is_alive(), "the agent did not end"
        return self.exit


def until(fact: Callable[[], object], timeout_s: float = PATIENCE_S) -> None:
    """Wait until ``fact()`` is true."""
    end = time.monotonic() + timeout_s
    while not fact():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.04)
