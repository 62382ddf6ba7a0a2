"""The image, as far as its text can say: the versions that were tested, no root, no shell in between, nothing left out."""

import ast
import json
import re
import sys

import pytest

from tests.agent.cloud import REPOSITORY
from tests.agent.image_pins import REQUIREMENTS, named, pins_text

DOCKERFILE = (REPOSITORY / "Dockerfile.gpu").read_text()
BOOTSTRAP = (REPOSITORY / "agent" / "bootstrap.sh").read_text()
SHIM = (REPOSITORY / "dropforge" / "local" / "shims" / "docker").read_text()
#: Import name to package name, where they differ.
PACKAGES = {"yaml": "pyyaml", "huggingface_hub": "huggingface-hub", "tensorboardX": "tensorboardx"}


def _pins(name: str) -> dict[str, str]:
    lines = [line.partition(";")[0].split("==") for line in (REQUIREMENTS / name).read_text().splitlines() if "==" in line and not line.startswith("#")]
    return {package.lower().replace("_", "-").replace(".", "-"): version.split()[0] for package, version in lines}


def test_the_image_has_the_versions_that_the_tests_run_with() -> None:
    image, dev = _pins("image.txt"), _pins("dev.txt")
    assert image.items() <= dev.items(), sorted(image.items() - dev.items())
    assert image["torch"] >= "2.10"


@pytest.mark.torch
@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="other versions of Python need other small packages; the pins are made with 3.11")
def test_the_pins_are_what_this_environment_needs() -> None:
    assert (REQUIREMENTS / "image.txt").read_text() == pins_text(), "remake it: python tests/agent/image_pins.py > requirements/image.txt"


def test_everything_that_agent_and_trainer_import_is_in_the_image() -> None:
    imported = set()
    for room in ("agent", "trainer", "functions/jobspec"):
        for path in (REPOSITORY / room).glob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    imported |= {alias.name.split(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    imported.add(node.module.split(".")[0])
    # wandb: only in images that were built with it (Dockerfile.gpu, TRACKING); without it the agent says so and goes on. cronsim: for a manifest
    # with a schedule, which is never an instance's (jobspec/schedule.py).
    outside = imported - sys.stdlib_module_names - {"agent", "trainer", "jobspec", "wandb", "cronsim"}
    assert outside
    missing = {PACKAGES.get(name, name) for name in outside} - _pins("image.txt").keys()
    assert not missing


def test_what_is_copied_exists_and_is_let_into_the_build() -> None:
    let_in = {line[1:] for line in (REPOSITORY / "Dockerfile.gpu.dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = set(re.findall(r"^COPY (\S+) ", DOCKERFILE, re.MULTILINE))
    assert copied == let_in
    assert all((REPOSITORY / name).exists() for name in copied)


def test_it_runs_as_the_user_that_owns_the_run_folder_with_our_process_first() -> None:
    user = re.search(r"^CONTAINER_USER=(\d+)$", BOOTSTRAP, re.MULTILINE)
    assert user is not None
    assert re.findall(r"^USER (.*)$", DOCKERFILE, re.MULTILINE) == [f"{user[1]}:{user[1]}"]
    entrypoint = re.search(r"^ENTRYPOINT (.*)$", DOCKERFILE, re.MULTILINE)
    assert entrypoint is not None
    assert json.loads(entrypoint[1]) == ["python", "-m"]


def test_the_deployment_page_says_what_the_image_is_made_of() -> None:
    page, pins = (REPOSITORY / "docs/deployment.md").read_text(), _pins("image.txt")
    base = re.search(r"^ARG BASE_IMAGE=(\S+)$", DOCKERFILE, re.MULTILINE)
    assert base is not None
    assert f"on `{base[1]}`" in page
    assert f"torch {pins['torch'].rpartition('.')[0]} with CUDA 13" in page
    assert f"transformers {pins['transformers'].partition('.')[0]})" in page


def test_the_local_cloud_sets_what_the_image_sets() -> None:
    names = ("PYTHONSAFEPATH", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE", "HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK")
    for name in names:
        setting = re.compile(rf"\b{name}=(\w+)")
        assert setting.findall(DOCKERFILE) == setting.findall(SHIM) == ["1"], name


def test_named_reads_package_names_only() -> None:
    assert "torch" in named(REQUIREMENTS / "image.in")
    assert not any(name.startswith("#") for name in named(REQUIREMENTS / "image.in"))
