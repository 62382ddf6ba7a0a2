"""Starting and ending the local cloud: one emulator process, what it started, and nothing left behind."""

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from dropforge.local import deploy as deployment
from dropforge.local.plugin.processes import end_marked
from dropforge.local.plugin.settings import SETTINGS_VARIABLE, OfferedType, Settings
from dropforge.local.state import CloudState, LocalCloudError, load, runs, save, start_ticks, write_private
from dropforge.quotas import QUOTAS
from jobspec.instances import GPU_INSTANCES

REPOSITORY = Path(__file__).resolve().parents[2]
DEFAULT_PORT = 4566
DEFAULT_STACK = "dropforge"
REGION = "us-east-1"
#: The account number of AWS's own documentation: nobody's.
ACCOUNT_ID = "123456789012"
#: What template.yaml asks for.
LAMBDA_RUNTIME = "python3.13"
#: Whoever reads the mail folder.
MAILBOX = "you@example.com"
#: The user's choice: how many threads a trainer may take, and how many seconds the pull of the training image is played to take.
PASSED_ON = ("OMP_NUM_THREADS", "DROPFORGE_PULL_S")
HEALTHY_WITHIN_S = 30
ENDED_WITHIN_S = 25


@dataclass(frozen=True, slots=True)
class Plan:
    """What ``up`` starts. ``notice_s``: spot notice, 120 on AWS. ``minute_s``: how long a minute of a schedule lasts, 60 on AWS."""

    home: Path
    template: Path = REPOSITORY / "template.yaml"
    parameters: dict[str, str] = field(default_factory=dict)
    stack: str = DEFAULT_STACK
    port: int | None = None
    notice_s: float = 120.0
    minute_s: float = 60.0
    stop_grace_s: float = 3.0
    #: Other regions that jobs may name; one that a running cloud has already stays.
    peers: tuple[str, ...] = ()


def up(plan: Plan) -> CloudState:
    """A cloud with the stack in it; one that already runs gets the template and parameters anew. Raises LocalCloudError.

    What would be refused is, before anything is started.
    """
    with _alone(plan.home):
        return _up(plan)


@contextlib.contextmanager
def _alone(home: Path) -> Iterator[None]:
    """One command at a time starts or ends the cloud of a folder: of two that start one, the first would be forgotten, and go on for ever."""
    try:
        home.mkdir(parents=True, exist_ok=True)
        lock = (home / "lock").open("w")
    except OSError as problem:
        raise LocalCloudError(f"Nothing can be written to {home} ({problem.strerror}). Set DROPFORGE_LOCAL_HOME to a folder of yours.") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LocalCloudError(f"Another command starts or ends the local cloud in {home} right now. Wait for it, then: dropforge local status") from None
        yield


def _up(plan: Plan) -> CloudState:
    running = load(plan.home)
    if running is not None and not runs(running):
        running = None
    if running is not None and running.stack != plan.stack:
        raise LocalCloudError(
            f"The cloud that runs in {plan.home} has the stack {running.stack}, and no other. First `dropforge local down`; "
            "or set DROPFORGE_LOCAL_HOME to another folder for one beside it."
        )
    peers = tuple(dict.fromkeys((*(running.peers if running is not None else ()), *plan.peers)))
    parameters = _local_parameters(plan, peers, running) | plan.parameters
    deployment.check(plan.template, parameters, plan.stack)
    if running is not None:
        return _deployed(plan, running, parameters, peers)
    _down(plan.home)
    try:
        return _deployed(plan, _start(plan), parameters, peers)
    except KeyboardInterrupt:
        # What was not there before is not left half made.
        _down(plan.home)
        raise


def _deployed(plan: Plan, running: CloudState, parameters: dict[str, str], peers: tuple[str, ...]) -> CloudState:
    outputs = deployment.deploy(running, plan.template, parameters)
    deployment.push_image(running, outputs)
    for region in peers:
        deployment.deploy_peer(running, outputs, region)
    ready = replace(running, outputs=outputs, peers=peers)
    save(plan.home, ready)
    return ready


def _local_parameters(plan: Plan, peers: tuple[str, ...], running: CloudState | None) -> dict[str, str]:
    """What the template should know of this cloud, where it asks: the notice it gives, a lively heartbeat, a mailbox, its other regions."""
    notice_s = plan.notice_s if running is None else json.loads((plan.home / "settings.json").read_text())["notice_s"]
    known = {"HeartbeatSeconds": "2", "NoticeSeconds": str(min(120, max(1, round(notice_s)))), "NotificationEmail": MAILBOX, "PeerRegions": ",".join(peers)}
    declared = deployment.declared_parameters(plan.template)
    return {name: value for name, value in known.items() if name in declared}


def down(home: Path) -> bool:
    """End the emulator and all that it started; True if there was one. Raises LocalCloudError if something is left."""
    if not home.is_dir():
        return False
    with _alone(home):
        return _down(home)


def _down(home: Path) -> bool:
    try:
        state = load(home)
    except LocalCloudError:
        # Its state is damaged: what it started is found all the same, by what each process was told at its start.
        state = None
    was_up = state is not None and runs(state)
    if state is not None and was_up:
        _end(state)
    left = end_marked(f"DROPFORGE_ROOT={home}/instances/") | end_marked(f"{SETTINGS_VARIABLE}={home}/") | end_marked(f"LAMBDA_TASK_ROOT={home}/")
    if left:
        raise LocalCloudError(f"Processes {', '.join(map(str, sorted(left)))} of the local cloud did not end. End them by hand.")
    (home / "cloud.json").unlink(missing_ok=True)
    return was_up


def running_cloud(home: Path) -> CloudState:
    """The cloud that runs in this state folder. Raises LocalCloudError if none does."""
    state = load(home)
    if state is None or not runs(state):
        raise LocalCloudError(f"No local cloud runs in {home}. Run `dropforge local up`.")
    return state


def lambda_python() -> Path:
    """The interpreter of ``.venv-lambda``. Raises LocalCloudError where it is missing."""
    return _interpreter(".venv-lambda")


def lambda_python_note() -> str | None:
    """A sentence where functions run on another Python than their Runtime says, else None."""
    script = "import sys; print('python%d.%d' % sys.version_info[:2])"
    found = subprocess.run([lambda_python(), "-c", script], capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603 - our own interpreter
    return None if found == LAMBDA_RUNTIME else f"Functions run on {found} here; on AWS their runtime is {LAMBDA_RUNTIME}."


def _start(plan: Plan) -> CloudState:
    python = _interpreter(".venv-cloud")
    port = _free_port(plan.port)
    for stale in ("instances", "logs", "mail", "tmp"):
        shutil.rmtree(plan.home / stale, ignore_errors=True)
    (plan.home / "tmp").mkdir()
    settings = _settings(plan, port)
    write_private(plan.home / "settings.json", json.dumps(asdict(settings), default=str, indent=1))
    access_key, secret = f"AKIA{secrets.token_hex(8).upper()}", secrets.token_urlsafe(30)
    environment = _emulator_environment(plan.home, port, access_key, secret)
    with (plan.home / "emulator.log").open("wb") as log:
        # Its own session: Ctrl-C in this terminal ends the command, not the cloud.
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [python, "-m", "dropforge.local.plugin"], cwd=plan.home, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    state = CloudState(process.pid, start_ticks(process.pid) or 0, port, REGION, access_key, secret, settings.control_token, plan.stack)
    save(plan.home, state)
    _wait_healthy(state, process, plan.home)
    return state


def _settings(plan: Plan, port: int) -> Settings:
    return Settings(
        home=plan.home,
        port=port,
        region=REGION,
        control_token=secrets.token_urlsafe(30),
        python=sys.executable,
        lambda_python=str(lambda_python()),
        source=REPOSITORY,
        types={name: OfferedType(offer.vcpus, offer.on_demand_usd_per_h) for name, offer in GPU_INSTANCES.items()},
        quotas={quota.code: quota.market for quota in QUOTAS},
        stop_grace_s=plan.stop_grace_s,
        minute_s=plan.minute_s,
        notice_s=plan.notice_s,
        passed_on={name: os.environ[name] for name in PASSED_ON if name in os.environ},
    )


def _emulator_environment(home: Path, port: int, access_key: str, secret: str) -> dict[str, str]:
    """The whole environment of the emulator; nothing of the user's own, so no real credentials."""
    return {
        SETTINGS_VARIABLE: str(home / "settings.json"),
        "AUTH": "true",
        "AWS_ACCESS_KEY_ID": access_key,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "IOT_MTLS_ENABLED": "0",  # its listener would take every address
        "LANG": "C.UTF-8",
        "LOG_LEVEL": "WARNING",
        "MINISTACK_ACCOUNT_ID": ACCOUNT_ID,
        "MINISTACK_REGION": REGION,
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "PYTHONPATH": str(REPOSITORY),
        "SFTP_ENABLED": "0",
        "TMPDIR": str(home / "tmp"),
    }


def _wait_healthy(state: CloudState, process: "subprocess.Popen[bytes]", home: Path) -> None:
    until = time.monotonic() + HEALTHY_WITHIN_S
    while time.monotonic() < until:
        if process.poll() is not None:
            tail = " ".join((home / "emulator.log").read_text(errors="replace").split("\n")[-4:]).strip()
            raise LocalCloudError(f"The emulator ended at once: {tail or 'it said nothing'} (log: {home / 'emulator.log'})")
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{state.endpoint}/_ministack/health", timeout=2):  # noqa: S310 - our own endpoint, on loopback
            return
        time.sleep(0.1)
    _end(state)
    raise LocalCloudError(f"The emulator did not answer within {HEALTHY_WITHIN_S} s. Its log: {home / 'emulator.log'}")


def _end(state: CloudState) -> None:
    """SIGTERM, and SIGKILL for what does not listen; only ever the process that was recorded."""
    for number, wait_s in ((signal.SIGTERM, ENDED_WITHIN_S), (signal.SIGKILL, 5)):
        until = time.monotonic() + wait_s
        with contextlib.suppress(ProcessLookupError):
            os.kill(state.pid, number)
        while time.monotonic() < until:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(state.pid, os.WNOHANG)  # where it is our own child, as in tests
            if not runs(state):
                return
            time.sleep(0.05)


def _free_port(wanted: int | None) -> int:
    """The port asked for, or 4566, or a free one. Raises LocalCloudError if the one asked for is taken."""
    for port in (wanted if wanted is not None else DEFAULT_PORT, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                if wanted is not None:
                    raise LocalCloudError(f"Port {wanted} is taken. Name another with --port, or none to have a free one chosen.") from None
                continue
            return int(probe.getsockname()[1])
    raise LocalCloudError("No port is free on 127.0.0.1.")


def _interpreter(environment: str) -> Path:
    python = REPOSITORY / environment / "bin" / "python"
    if not python.exists():
        raise LocalCloudError(f"{environment} is missing in {REPOSITORY}. Run `make setup`.")
    return python
