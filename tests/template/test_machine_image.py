"""The recipe of the baked machine image: what the stack's own template says of image, disk and parent, and no password left on the disk."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from dropforge.translation import read
from tests.template.stack import ROOT, Stack


def _recipe() -> dict[str, Any]:
    return read(ROOT / "machine-image.yaml")


def _component(uri: str) -> dict[str, Any]:
    """The component's document, as Image Builder gets it."""
    text = _recipe()["Resources"]["PullImage"]["Properties"]["Data"]["Fn::Sub"]
    document: dict[str, Any] = yaml.safe_load(text.replace("${ImageUri}", uri).replace("${AWS::Region}", "eu-west-1").replace("${!", "${"))
    return document


def test_it_starts_from_the_same_machine_image_with_the_same_root_device_encrypted() -> None:
    recipe, stack = _recipe(), Stack()
    assert recipe["Parameters"]["AmiParameter"]["Default"] == stack.template["Parameters"]["AmiParameter"]["Default"]
    (baked,) = recipe["Resources"]["Recipe"]["Properties"]["BlockDeviceMappings"]
    (launched,) = stack.properties("LaunchTemplate")["LaunchTemplateData"]["BlockDeviceMappings"]
    assert baked["DeviceName"] == launched["DeviceName"]
    assert (baked["Ebs"]["Encrypted"], baked["Ebs"]["DeleteOnTermination"]) == (True, True)
    assert recipe["Parameters"]["VolumeGiB"]["Default"] <= stack.template["Parameters"]["VolumeGiB"]["Default"], "else no instance could start"


def test_the_image_is_pulled_and_looked_for_and_the_registrys_password_goes() -> None:
    uri = "111122223333.dkr.ecr.eu-west-1.amazonaws.com/dropforge@sha256:" + 64 * "a"
    build, validate = _component(uri)["phases"]
    (script,) = build["steps"][0]["inputs"]["commands"]
    assert script.startswith("set -euo pipefail")
    assert f"image='{uri}'" in script
    assert script.index("docker pull") < script.index("docker logout") < script.index("rm -f ~root/.docker/config.json")
    assert validate["steps"][0]["inputs"]["commands"] == [f"docker image inspect '{uri}'", "test ! -e ~root/.docker/config.json"]


@pytest.mark.parametrize(
    ("uri", "there", "pulled"),
    [(":v1", True, [":v1", ":v1-agent"]), (":v1", False, [":v1", ":v1-agent"]), ("@sha256:" + 64 * "a", True, ["@sha256:" + 64 * "a"])],
)
def test_the_agents_own_image_is_baked_where_there_is_one_and_missed_where_not(uri: str, there: bool, pulled: list[str], tmp_path: Path) -> None:
    repository = "111122223333.dkr.ecr.eu-west-1.amazonaws.com/dropforge"
    (script,) = _component(repository + uri)["phases"][0]["steps"][0]["inputs"]["commands"]
    docker = """docker() {
  echo "$*" >>"$RECORD"
  if [ "$1" = login ]; then cat >/dev/null; fi
  case "$*" in pull*-agent) return "$CODE" ;; esac
}
aws() { echo word; }
"""
    environment = {"RECORD": str(tmp_path / "record"), "CODE": "0" if there else "1", "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    ran = subprocess.run(["bash", "-c", docker + script.replace("~root", str(tmp_path))], env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    asked = (tmp_path / "record").read_text().splitlines()
    assert [line for line in asked if line.startswith("pull")] == [f"pull {repository}{one}" for one in pulled]
    assert asked[-1].startswith("logout"), "the registry's password goes in any case"


@pytest.mark.parametrize(
    ("uri", "good"),
    [
        ("111122223333.dkr.ecr.eu-west-1.amazonaws.com/dropforge:latest", True),
        ("111122223333.dkr.ecr.eu-west-1.amazonaws.com/dropforge@sha256:" + 64 * "0", True),
        ("docker.io/library/ubuntu:latest", False),
        ("111122223333.dkr.ecr.eu-west-1.amazonaws.com/dropforge", False),
        ("111122223333.dkr.ecr.eu-west-1.amazonaws.com/x:latest'; reboot; '", False),
    ],
)
def test_nothing_but_an_image_of_ecr_reaches_the_script(uri: str, good: bool) -> None:
    assert bool(re.fullmatch(_recipe()["Parameters"]["ImageUri"]["AllowedPattern"], uri)) is good


def test_every_parameter_explains_itself_and_what_it_takes() -> None:
    for name, spec in _recipe()["Parameters"].items():
        assert len(spec["Description"]) > 20, name
        assert spec["ConstraintDescription"].startswith(name), name
        assert {"AllowedPattern", "MinValue"} & spec.keys() or spec["Type"].startswith("AWS::"), name


def test_the_builder_is_hardened_and_may_pull_from_the_one_repository_only() -> None:
    resources = _recipe()["Resources"]
    assert resources["Infrastructure"]["Properties"]["InstanceMetadataOptions"] == {"HttpTokens": "required", "HttpPutResponseHopLimit": 1}
    assert resources["Infrastructure"]["Properties"]["TerminateInstanceOnFailure"] is True
    pull, sign_in = resources["Role"]["Properties"]["Policies"][0]["PolicyDocument"]["Statement"]
    assert pull["Resource"]["Fn::Sub"].endswith(":repository/${ImageRepository}")
    assert (sign_in["Action"], sign_in["Resource"]) == ("ecr:GetAuthorizationToken", "*")
