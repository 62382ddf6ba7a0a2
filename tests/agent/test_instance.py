"""Whole instances: the real ``bootstrap.sh``, the real agent process, the stand-ins of the local cloud, a fake trainer.

S3 is moto's server on loopback. Each test ends with nothing lost and no process of the instance left.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import psutil  # type: ignore[import-untyped]  # its stubs come apart from it
import pytest
from moto.server import ThreadedMotoServer

from jobspec.heartbeat import Phase
from jobspec.marker import Outcome
from tests.agent.cloud import DATA, FIRST, OUTPUTS, PATIENCE_S, REPOSITORY, ROLE, SECOND, Cloud, now, until
from tests.imds import FakeImds

BOOTSTRAP = REPOSITORY / "agent" / "bootstrap.sh"
SHIMS = REPOSITORY / "dropforge" / "local" / "shims"


@dataclass
class Machine:
    """One instance as the local cloud starts it: user data as the leader of a process group of its own."""

    root: Path
    imds: FakeImds
    process: subprocess.Popen[bytes]

    def container(self, name: str) -> psutil.Process:
        return psutil.Process(int((self.root / "run" / "docker" / f"dropforge-{name}").read_text()))

    def kill(self, name: str) -> None:
        self.container(name).send_signal(signal.SIGKILL)

    def processes(self) -> list[psutil.Process]:
        """What is alive of the instance's process group."""
        found = []
        for process in psutil.process_iter(["status"]):
            try:
                if os.getpgid(process.pid) == self.process.pid and process.info["status"] != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (ProcessLookupError, psutil.NoSuchProcess):
                continue
        return found

    def wait_for_end(self, timeout_s: float = PATIENCE_S) -> None:
        self.process.wait(timeout_s)
        until(lambda: not self.processes())
        assert (self.root / "poweroff").exists()

    def logs(self) -> str:
        # The console has what the bootstrap's own log has, and more.
        logs = (path for path in sorted((self.root / "var/lib/dropforge/logs").glob("*.log")) if path.name != "bootstrap.log")
        paths = [self.root / "console.log", *logs]
        return "\n".join(f"--- {path.name}\n{path.read_text()}" for path in paths if path.exists())


Boot = Callable[..., Machine]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    moto = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    yield f"http://{host}:{port}"
    moto.stop()


@pytest.fixture
def cloud(server: str) -> Cloud:
    make: Any = boto3.client  # its stubs do not name S3
    client = make("s3", endpoint_url=server, region_name="us-east-1", aws_access_key_id="testing", aws_secret_access_key="testing")
    for bucket in client.list_buckets()["Buckets"]:
        for found in client.list_objects_v2(Bucket=bucket["Name"]).get("Contents", []):
            client.delete_object(Bucket=bucket["Name"], Key=found["Key"])
        client.delete_bucket(Bucket=bucket["Name"])
    return Cloud(client)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A source tree with our agent and the fake trainer."""
    folder = tmp_path / "source"
    (folder / "trainer").mkdir(parents=True)
    for name in ("agent", "functions"):
        (folder / name).symlink_to(REPOSITORY / name)
    (folder / "trainer" / "__init__.py").touch()
    (folder / "trainer" / "__main__.py").symlink_to(REPOSITORY / "tests" / "fake_trainer.py")
    return folder


@pytest.fixture
def boot(server: str, source: Path, tmp_path: Path) -> Iterator[Boot]:
    with ExitStack() as ends:

        def start(instance_id: str = FIRST, deadline_s: float = 3600, script: Path = BOOTSTRAP, facts: str = "", **changes: str) -> Machine:
            tags = {"dropforge:deadline": str(int(now().timestamp() + deadline_s)), "dropforge:job": "demo-1a2b3c", "dropforge:attempt": "1"}
            imds = ends.enter_context(FakeImds(instance_id, tags))
            root = tmp_path / instance_id
            (root / "etc" / "dropforge").mkdir(parents=True)
            stack = {"DROPFORGE_PROJECT": "dropforge", "DROPFORGE_DATA_BUCKET": DATA, "DROPFORGE_OUTPUTS_BUCKET": OUTPUTS, "DROPFORGE_ROLE_ID": ROLE}
            stack |= {"DROPFORGE_IMAGE": "123456789012.dkr.ecr.us-east-1.amazonaws.com/dropforge:test", "AWS_REGION": "us-east-1", **changes}
            (root / "etc" / "dropforge" / "env").write_text("".join(f"{name}={value}\n" for name, value in stack.items()) + facts)
            environment = {
                "PATH": f"{source}:{SHIMS}:{os.environ['PATH']}",
                "DROPFORGE_ROOT": str(root),
                "DROPFORGE_PYTHON": sys.executable,
                "DROPFORGE_SOURCE": str(source),
                "AWS_EC2_METADATA_SERVICE_ENDPOINT": imds.endpoint,
                "AWS_ENDPOINT_URL": server,
                "AWS_DEFAULT_REGION": "us-east-1",
            }
            with (root / "console.log").open("wb") as console:
                process = subprocess.Popen(["bash", str(script)], env=environment, stdout=console, stderr=subprocess.STDOUT, start_new_session=True)
            machine = Machine(root, imds, process)
            ends.callback(_end, machine)
            return machine

        yield start


def _end(machine: Machine) -> None:
    if machine.processes():
        os.killpg(machine.process.pid, signal.SIGKILL)
    machine.process.wait(10)


def _step(cloud: Cloud, instance_id: str = FIRST) -> int:
    try:
        return cloud.heartbeat(instance_id).step
    except AssertionError:
        return 0


def test_an_instance_does_its_job_and_powers_itself_off(cloud: Cloud, boot: Boot) -> None:
    cloud.ticket()
    machine = boot()
    machine.wait_for_end()
    marker = cloud.marker()
    assert marker is not None, machine.logs()
    assert marker.outcome is Outcome.COMPLETED
    trainer_log = (machine.root / "var/lib/dropforge/logs/trainer.log").read_text()
    assert "aws variables seen: []" in trainer_log


@pytest.mark.parametrize("victims", [("agent",), ("trainer",), ("agent", "trainer")], ids="+".join)
def test_a_job_survives_kill_9_of(cloud: Cloud, boot: Boot, victims: tuple[str, ...]) -> None:
    cloud.orders(hold_at=8)
    cloud.ticket(max_steps=40)
    machine = boot()
    until(lambda: _step(cloud) == 8)
    trainer = machine.container("trainer")
    for victim in victims:
        machine.kill(victim)
    if victims == ("agent",):
        # The trainer works on while the agent comes back.
        time.sleep(0.2)
        assert trainer.is_running()
    (machine.root / "var/lib/dropforge/run" / "go").touch()
    machine.wait_for_end()
    marker = cloud.marker()
    assert marker is not None, machine.logs()
    assert marker.outcome is Outcome.COMPLETED, machine.logs()
    assert marker.results is not None
    # An ended trainer goes on from its newest save, not from the beginning; one left alone is not started again.
    assert (marker.results.first_step >= 5) == ("trainer" in victims)


def test_an_interrupted_instance_hands_over_to_its_replacement_and_waits_for_ec2(cloud: Cloud, boot: Boot) -> None:
    cloud.orders(save_every=1000, hold_at=8)
    cloud.ticket(max_steps=150)
    first = boot()
    until(lambda: _step(cloud) == 8)
    cloud.replacement(until_s=120, max_steps=150)
    second = boot(SECOND)
    first.imds.interrupt(60)
    until(lambda: cloud.heartbeat().phase is Phase.HANDED_OVER)
    second.wait_for_end()
    left_at = cloud.heartbeat().step
    marker = cloud.marker(SECOND)
    assert marker is not None, second.logs()
    assert marker.results is not None
    assert marker.results.first_step == left_at
    # Left to EC2: still up, its containers gone, its last power-off timer set.
    assert first.process.poll() is None
    assert not (first.root / "poweroff").exists()
    assert "power-off in 5 minutes" in first.logs()


def test_what_the_machines_driver_says_comes_into_the_heartbeat(cloud: Cloud, boot: Boot, source: Path) -> None:
    """A word each quarter of a second, where the real script asks each five."""
    (source / "nvidia-smi").write_text("#!/bin/sh\necho '0, 3, 900, 24564'\n")
    (source / "nvidia-smi").chmod(0o755)
    script = source / "bootstrap.sh"
    script.write_text(BOOTSTRAP.read_text().replace("GPU_EVERY_S=5", "GPU_EVERY_S=0.25"))
    cloud.orders(hold_at=8)
    cloud.ticket(max_steps=400)
    machine = boot(script=script)
    until(lambda: _step(cloud) >= 1 and cloud.heartbeat().gpus)
    (use,) = cloud.heartbeat().gpus
    assert (use.percent, use.memory_mib, use.memory_total_mib) == (3, 900, 24564), machine.logs()


#: Before the stand-in for docker: says that the training image's pull has begun, and holds it until it is let go.
HOLDS_THE_PULL = """#!/bin/bash
if [[ "$*" == "pull "* && "$*" != *-agent ]]; then
  echo "$$" >>"$DROPFORGE_ROOT/pulls"
  until [ -e "$DROPFORGE_ROOT/there" ]; do sleep 0.1; done
fi
exec SHIMS/docker "$@"
"""


@pytest.fixture
def pulling(cloud: Cloud, boot: Boot, source: Path) -> Machine:
    """An instance that has staged all but the training image, which is being pulled."""
    (source / "docker").write_text(HOLDS_THE_PULL.replace("SHIMS", str(SHIMS)))
    (source / "docker").chmod(0o755)
    cloud.ticket()
    machine = boot()
    until(lambda: (machine.root / "pulls").exists() and cloud.says("still being pulled"))
    return machine


def completed(cloud: Cloud, machine: Machine) -> bool:
    (machine.root / "there").touch()
    machine.wait_for_end()
    marker = cloud.marker()
    assert marker is not None, machine.logs()
    return marker.outcome is Outcome.COMPLETED


@pytest.mark.parametrize("victims", [("agent",), ("pull",), ("agent", "pull")], ids="+".join)
def test_a_job_survives_kill_9_during_the_pull_of(cloud: Cloud, pulling: Machine, victims: tuple[str, ...]) -> None:
    beats = cloud.heartbeat().seq
    if "pull" in victims:
        os.kill(int((pulling.root / "pulls").read_text()), signal.SIGKILL)
        until(lambda: len((pulling.root / "pulls").read_text().split()) == 2)
    if "agent" in victims:
        pulling.kill("agent")
        until(lambda: "the agent died" in pulling.logs())
        until(lambda: cloud.heartbeat().seq > beats + 2 and cloud.says("still being pulled"))
    assert completed(cloud, pulling), pulling.logs()
    assert pulling.logs().count("trainer starts") == 1


def test_a_spot_notice_during_the_pull_is_handed_over_at_once(cloud: Cloud, pulling: Machine) -> None:
    pulling.imds.interrupt(60)
    until(lambda: cloud.heartbeat().phase is Phase.HANDED_OVER)
    until(lambda: "power-off in 5 minutes" in pulling.logs())
    assert not (pulling.root / "there").exists()
    assert "trainer starts" not in pulling.logs()


def test_a_stop_order_during_the_pull_ends_the_machine_without_a_trainer(cloud: Cloud, pulling: Machine) -> None:
    cloud.order_stop("cancelled")
    pulling.wait_for_end()
    marker = cloud.marker()
    assert marker is not None
    assert marker.outcome is Outcome.STOPPED
    assert "trainer starts" not in pulling.logs()


def test_an_agent_of_another_build_gives_way_to_the_training_images(cloud: Cloud, pulling: Machine, source: Path) -> None:
    """The training image is told to be of another build than the agent that runs; the one that comes after is of that image."""
    (source / "build").write_text("0a1b2c\n")
    agent = pulling.container("agent")
    assert completed(cloud, pulling), pulling.logs()
    assert not agent.is_running()
    assert "this agent is of build unknown, the training image of build 0a1b2c" in pulling.logs()
    assert "from now on it is that image's own" in pulling.logs()


def test_an_instance_whose_stack_facts_lack_the_image_powers_off_at_once(cloud: Cloud, boot: Boot) -> None:
    cloud.ticket()
    machine = boot(DROPFORGE_IMAGE="")
    machine.wait_for_end(10)
    assert "does not set DROPFORGE_IMAGE" in machine.logs()
    assert cloud.keys() == []


def test_an_agent_that_cannot_live_is_given_up_and_the_machine_powers_off(cloud: Cloud, boot: Boot, source: Path) -> None:
    # An agent that ends at once, in the place of the real one: this checkout may be installed, and be found without the link.
    (source / "agent").unlink()
    (source / "agent").mkdir()
    (source / "agent" / "__init__.py").touch()
    (source / "agent" / "__main__.py").write_text("raise SystemExit(9)")
    machine = boot(script=quick_bootstrap(source))
    machine.wait_for_end()
    assert machine.logs().count("the agent died") == 10
    assert cloud.keys() == []


def quick_bootstrap(folder: Path) -> Path:
    """``bootstrap.sh`` without the seconds between two starts of the agent."""
    text = BOOTSTRAP.read_text()
    assert text.count("sleep $((deaths < 5 ? deaths : 15))") == 1
    path = folder / "bootstrap.sh"
    path.write_text(text.replace("sleep $((deaths < 5 ? deaths : 15))", "sleep 0.01"))
    return path


def test_the_power_off_timer_ends_every_process_of_the_instance(cloud: Cloud, boot: Boot) -> None:
    cloud.orders(step_s=0.05)
    cloud.ticket(max_steps=10_000)
    # The head of the user data is a shell script too: here it also replaces the deadline's timer by one without minutes, on a sign.
    machine = boot(facts='(until [ -e "$ROOT/sign" ]; do sleep 0.1; done; shutdown -P +0) &')
    until(lambda: _step(cloud) >= 1)
    assert not (machine.root / "poweroff").exists()
    (machine.root / "sign").touch()
    machine.wait_for_end()
    assert cloud.marker() is None
