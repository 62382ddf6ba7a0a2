"""What the local cloud keeps from this machine: packages that are for another one, and commands that would change it."""

import os
import re
from pathlib import Path

import pytest

from dropforge.local.cloud import REPOSITORY
from dropforge.local.plugin.lambdas import _set_packages_aside


def test_installed_packages_are_set_aside_and_our_own_code_stays(tmp_path: Path) -> None:
    for name in ("yaml/__init__.py", "yaml/_yaml.cpython-313-aarch64-linux-gnu.so", "six.py", "jobspec/__init__.py", "requirements.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    for name, files in {"pyyaml-6.0.3": ["yaml/__init__.py", "yaml/_yaml.cpython-313-aarch64-linux-gnu.so"], "six-1.17.0": ["six.py", "../bin/x"]}.items():
        (tmp_path / f"{name}.dist-info").mkdir()
        (tmp_path / f"{name}.dist-info/RECORD").write_text("".join(f"{file},,\n" for file in [*files, f"{name}.dist-info/RECORD"]))
    _set_packages_aside(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["jobspec", "requirements.txt"]


@pytest.mark.parametrize("command", ["aws", "docker", "iptables", "shutdown"])
def test_what_the_bootstrap_does_to_a_machine_has_a_stand_in_here(command: str) -> None:
    assert re.search(rf"(^|[ |(]){command} -?[a-zA-Z]", (REPOSITORY / "agent/bootstrap.sh").read_text(), re.MULTILINE)
    assert os.access(REPOSITORY / "dropforge/local/shims" / command, os.X_OK)
