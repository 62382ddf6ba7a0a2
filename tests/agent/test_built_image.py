"""The image itself, built on a small base and run as agent/bootstrap.sh runs it: ``make image-test``, where a Docker engine answers.

The base is ``IMAGE_TEST_BASE`` (default ``debian:12-slim``); without a registry one can be made by hand:
``debootstrap --variant=minbase bookworm ROOT && tar -C ROOT -c . | docker import - debian-like:12``. The wheels come from this
environment's pip, torch's as a CPU build where there is one. So what is not tested here: the CUDA base, a GPU, ECR.
"""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.agent.cloud import REPOSITORY
from tests.tiny_model import make_tiny_model
from tests.trainer.rig import lines, make_run, results

BASE = os.environ.get("IMAGE_TEST_BASE", "debian:12-slim")
TAG = "dropforge-image-test:built"
AGENT_TAG = f"{TAG}-agent"
USER = 10001
NOT_TESTED = "NOT TESTED: that Dockerfile.gpu builds, and that the image trains as user 10001, read-only and without a network"
#: What Debian 12 has; the wheels are for it.
PYTHON = (3, 11)
_BUILD_LIMIT_S = 1500

pytestmark = [pytest.mark.docker, pytest.mark.torch]


def docker(*words: str, limit_s: float = 300) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["docker", *words], capture_output=True, text=True, timeout=limit_s, check=False)


def _needs_an_engine() -> None:
    if not os.environ.get("IMAGE_TEST"):
        pytest.skip(f"{NOT_TESTED}: only `make image-test` does, for it takes minutes and gigabytes")
    if shutil.which("docker") is None or docker("info").returncode != 0:
        pytest.skip(f"{NOT_TESTED}: no Docker engine answers")
    if sys.version_info[:2] != PYTHON or not sys.platform.startswith("linux"):
        pytest.skip(f"{NOT_TESTED}: the wheels are taken from this environment, which is not Linux with Python {PYTHON[0]}.{PYTHON[1]}")
    if docker("image", "inspect", BASE).returncode != 0 and docker("pull", BASE).returncode != 0:
        pytest.skip(f"{NOT_TESTED}: the base {BASE} is neither here nor in a registry that answers; name another in IMAGE_TEST_BASE")


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The built image's name; it is removed afterwards."""
    _needs_an_engine()
    wheels = REPOSITORY / ".cache" / "image-wheels"
    download = [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:", "--dest", str(wheels)]
    subprocess.run([*download, "--requirement", str(REPOSITORY / "requirements/image.txt")], check=True, timeout=_BUILD_LIMIT_S)
    context = tmp_path_factory.mktemp("context")
    _copy_what_is_let_in(context)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(wheels))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        links = f"http://127.0.0.1:{server.server_address[1]}/"
        arguments = {"BASE_IMAGE": BASE, "PIP_FIND_LINKS": links, "PIP_NO_INDEX": "1"}
        given = [word for name, value in arguments.items() for word in ("--build-arg", f"{name}={value}")]
        always = ("build", "--network=host", "--file", str(context / "Dockerfile.gpu"), *given)
        built = [
            docker(*always, "--tag", tag, *target, str(context), limit_s=_BUILD_LIMIT_S) for tag, target in ((AGENT_TAG, ("--target", "agent")), (TAG, ()))
        ]
        server.shutdown()
    assert [one.returncode for one in built] == [0, 0], "".join(one.stdout + one.stderr for one in built)[-4000:]
    for tag in (AGENT_TAG, TAG):
        print(f"{tag} on {BASE}: {int(docker('image', 'inspect', '--format', '{{.Size}}', tag).stdout) / 2**20:.0f} MiB")
    yield TAG
    docker("image", "rm", "--force", TAG, AGENT_TAG)


def _copy_what_is_let_in(context: Path) -> None:
    """What Dockerfile.gpu.dockerignore lets in: an engine without BuildKit does not read that file."""
    shutil.copy(REPOSITORY / "Dockerfile.gpu", context)
    for line in (REPOSITORY / "Dockerfile.gpu.dockerignore").read_text().splitlines():
        if line.startswith("!"):
            source, target = REPOSITORY / line[1:], context / line[1:]
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, target)


def in_bootstrap(script: str, root: Path, image: str) -> subprocess.CompletedProcess[str]:
    """Runs the script with the functions of agent/bootstrap.sh, all but its last line, which is ``main``."""
    bootstrap = (REPOSITORY / "agent/bootstrap.sh").read_text().rstrip().removesuffix("main")
    (root / "var/lib/dropforge").mkdir(parents=True, exist_ok=True)
    (root / "var/lib/dropforge/one-image").touch()  # built here, and in no registry
    environment = {**os.environ, "DROPFORGE_ROOT": str(root), "DROPFORGE_IMAGE": image, "AWS_DEFAULT_REGION": "eu-west-1"}
    return subprocess.run(["bash", "-c", bootstrap + script], capture_output=True, text=True, env=environment, timeout=600, check=False)


def inside(image: str, root: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Python code in a container with the options of the bootstrap and no network."""
    words = '"${OPTIONS[@]}" --network=none --tmpfs=/tmp --entrypoint=python "$DROPFORGE_IMAGE"'
    script = f"make_folders; container_options trainer; docker run {words} -c '{code}'"
    return in_bootstrap(script, root, image)


def test_the_image_holds_the_pinned_versions_and_says_nothing_to_anybody(image: str, tmp_path: Path) -> None:
    code = (
        "import json, os, torch, transformers, trl; "
        "names = ('HF_HUB_OFFLINE', 'HF_HUB_DISABLE_TELEMETRY', 'DO_NOT_TRACK'); "
        "print(json.dumps([torch.__version__.split('+')[0], transformers.__version__, trl.__version__, [os.environ[name] for name in names]]))"
    ).replace("'", '"')
    ran = inside(image, tmp_path, code)
    assert ran.returncode == 0, ran.stderr
    pins = dict(line.split(";")[0].strip().split("==") for line in (REPOSITORY / "requirements/image.txt").read_text().splitlines() if "==" in line)
    assert json.loads(ran.stdout.splitlines()[-1]) == [pins["torch"], pins["transformers"], pins["trl"], ["1", "1", "1"]]
    assert int(pins["transformers"].split(".")[0]) >= 5


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import os; print(os.getuid()); open('/opt/dropforge/x', 'w')", "Read-only file system"),
        ("import socket; print(10001); socket.create_connection(('192.0.2.1', 443), 3)", "Network is unreachable"),
        ("import os; print(os.getuid()); os.setuid(0)", "Operation not permitted"),
    ],
)
def test_a_container_runs_as_nobody_reads_only_and_reaches_nothing(image: str, tmp_path: Path, code: str, said: str) -> None:
    ran = inside(image, tmp_path, code.replace("'", '"'))
    assert ran.returncode == 1
    assert str(USER) in ran.stdout
    assert said in ran.stderr


@pytest.mark.parametrize("tag", [TAG, AGENT_TAG])
def test_the_agent_starts(image: str, tag: str, tmp_path: Path) -> None:
    ran = inside(tag, tmp_path, "import agent.__main__, agent.attempt, agent.staging, agent.uploader, huggingface_hub")
    assert ran.returncode == 0, ran.stderr


def test_both_images_begin_alike_and_say_that_they_are_of_one_build(image: str, tmp_path: Path) -> None:
    layers = [json.loads(docker("image", "inspect", "--format", "{{json .RootFS.Layers}}", tag).stdout) for tag in (AGENT_TAG, TAG)]
    assert layers[0][:-1] == layers[1][: len(layers[0]) - 1], "what an instance has pulled with the one it does not pull again"
    told = [in_bootstrap("make_folders; bring_training_image; cat $CONTROL/image", tmp_path / tag.rpartition(":")[2], tag) for tag in (AGENT_TAG, TAG)]
    own = inside(AGENT_TAG, tmp_path, "import agent.image; print(agent.image.own_build())").stdout.split()[-1]
    assert len(own) == 64
    assert [ran.stdout.split()[-1] for ran in told] == [own, own]


def test_the_tiny_training_runs_whole_under_the_options_of_the_bootstrap(image: str, tmp_path: Path) -> None:
    run = tmp_path / "var/lib/dropforge/run"
    make_run(run)
    make_tiny_model(run / "model")
    ran = in_bootstrap("make_folders; start_trainer; wait $!", tmp_path, image)
    log = tmp_path / "var/lib/dropforge/logs/trainer.log"
    assert ran.returncode == 0, ran.stderr + (log.read_text() if log.exists() else "")
    assert results(run)["steps"] == 10
    assert lines(run)[-1]["kind"] == "completed"
    assert (run / "final/adapter_model.safetensors").stat().st_uid == USER
