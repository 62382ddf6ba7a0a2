"""The README keeps its word: its manifest is valid, its commands exist, its links lead somewhere."""

import re
from pathlib import Path

import click
import pytest

from dropforge.cli import main
from jobspec.manifest import Manifest
from jobspec.reading import read_manifest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
COMMANDS = sorted(set(re.findall(r"dropforge ((?:local )?[a-z-]+)", README)))


def test_the_manifest_in_the_readme_is_valid_and_is_the_minimal_example() -> None:
    block = re.search(r"```yaml\n(.*?)```", README, re.DOTALL)
    assert block is not None
    assert isinstance(read_manifest(block.group(1).encode()), Manifest)
    example = (ROOT / "events/manifests/minimal.yaml").read_text()
    assert [line for line in block.group(1).splitlines() if "$schema" not in line] == [line for line in example.splitlines() if "$schema" not in line]


@pytest.mark.parametrize("words", COMMANDS)
def test_every_command_in_the_readme_exists(words: str) -> None:
    command: click.Command = main
    for word in words.split():
        assert isinstance(command, click.Group)
        found = command.get_command(click.Context(command), word)
        assert found is not None, f"dropforge {words}"
        command = found


def test_the_readme_names_commands_at_all() -> None:
    assert len(COMMANDS) >= 5


@pytest.mark.parametrize("target", sorted(set(re.findall(r"`?make ([a-z-]+)`?", README))))
def test_every_make_target_in_the_readme_exists(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)#:]+)\)", README))))
def test_every_link_in_the_readme_leads_somewhere(link: str) -> None:
    assert (ROOT / link).exists()
