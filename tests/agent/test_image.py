"""The image, as far as its text can say: the versions that were tested, no root, no shell in between, nothing left out."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

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
@pytest.mark.parametrize("which", ["image", "agent"])
def test_the_pins_are_what_this_environment_needs(which: str) -> None:
    remake = f"remake it: python tests/agent/image_pins.py {which} > requirements/{which}.txt"
    assert (REQUIREMENTS / f"{which}.txt").read_text() == pins_text(which), remake


def test_the_agents_pins_are_those_of_the_whole_image() -> None:
    agent, image = _pins("agent.txt"), _pins("image.txt")
    assert agent.items() <= image.items(), sorted(agent.items() - image.items())
    assert "torch" not in agent


@pytest.mark.parametrize(("pins", "rooms"), [("image.txt", ("agent", "trainer", "functions/jobspec")), ("agent.txt", ("agent", "functions/jobspec"))])
def test_everything_that_is_imported_in_an_image_is_in_it(pins: str, rooms: tuple[str, ...]) -> None:
    imported = set()
    for room in rooms:
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
    missing = {PACKAGES.get(name, name) for name in outside} - _pins(pins).keys()
    assert not missing


def _stages() -> dict[str, str]:
    """Name of each stage of the Dockerfile to what it says, in order; the last has no name, for it is what is built where none is named."""
    parts = re.split(r"^FROM (\S+)(?: AS (\w+))?$", DOCKERFILE, flags=re.MULTILINE)[1:]
    return {name or "": f"FROM {base}{text}" for base, name, text in zip(parts[::3], parts[1::3], parts[2::3], strict=True)}


def test_what_is_copied_exists_and_is_let_into_the_build() -> None:
    let_in = {line[1:] for line in (REPOSITORY / "Dockerfile.gpu.dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = set(re.findall(r"^COPY (?!--from)(\S+) ", DOCKERFILE, re.MULTILINE))
    assert copied == let_in
    assert all((REPOSITORY / name).exists() for name in copied)


def test_both_images_run_as_the_user_that_owns_the_run_folder_with_our_process_first() -> None:
    user = re.search(r"^CONTAINER_USER=(\d+)$", BOOTSTRAP, re.MULTILINE)
    assert user is not None
    stages = _stages()
    for name in ("agent", ""):
        assert re.findall(r"^USER (.*)$", stages[name], re.MULTILINE) == [f"{user[1]}:{user[1]}"]
        assert stages[name].startswith("FROM common\n"), "their layers are the same as far as they go"
        assert "ENTRYPOINT" not in stages[name]
    assert [json.loads(line) for line in re.findall(r"^ENTRYPOINT (.*)$", stages["common"], re.MULTILINE)] == [["python", "-m"]]


def test_both_images_hold_the_same_code_and_say_of_what_they_are_built() -> None:
    stages = _stages()
    copied = [re.findall(r"^COPY .*$", stages[name], re.MULTILINE) for name in ("agent", "")]
    assert copied[0] == copied[1] == ["COPY --from=code /code /opt/dropforge"]
    assert "> build" in stages["code"]
    assert "--entrypoint=cat " in BOOTSTRAP
    assert " /opt/dropforge/build " in BOOTSTRAP


def test_what_an_image_is_built_of_changes_with_its_code_and_its_pins(tmp_path: Path) -> None:
    """The line of the Dockerfile itself, in a folder that is laid out as its stage is."""
    (line,) = re.findall(r"^RUN (.*> build)", _stages()["code"].replace("\\\n", " "), re.MULTILINE)

    def built_of() -> str:
        ran = subprocess.run(["bash", "-euo", "pipefail", "-c", line.replace("/opt/dropforge", str(tmp_path))], cwd=code, check=False)
        assert ran.returncode == 0
        text = (code / "build").read_text()
        assert re.fullmatch(r"[0-9a-f]{64}\n", text)
        (code / "build").unlink()
        return text

    code = tmp_path / "code"
    (code / "agent").mkdir(parents=True)
    (code / "agent" / "a b.py").write_text("1")
    (tmp_path / "image.txt").write_text("torch==1")
    first = built_of()
    assert built_of() == first
    (tmp_path / "image.txt").write_text("torch==2")
    second = built_of()
    (code / "agent" / "a b.py").write_text("2")
    assert len({first, second, built_of()}) == 3


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
