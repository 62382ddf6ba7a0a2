"""What a command imports before it does anything: the difference between a tool that is used and one that is waited for."""

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest

from control_plane.settings import MissingSetting, settings_from
from dropforge.cli import main
from dropforge.lazy import LazyGroup
from dropforge.operate.checks_events import SETTINGS

ROOT = Path(__file__).parents[2]
HEAVY = {"boto3", "botocore", "rich", "samtranslator", "torch", "transformers", "jsonschema"}
SCRIPT = """
import json, sys
from dropforge.cli import main
try:
    main({words!r}, standalone_mode=False)
except SystemExit:
    pass
print("\\nIMPORTED" + json.dumps(sorted(name for name in sys.modules if "." not in name)))
"""


def imported_by(*words: str) -> set[str]:
    done = subprocess.run([sys.executable, "-c", SCRIPT.format(words=list(words))], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.rsplit("IMPORTED", 1)[1]))


@pytest.mark.parametrize("words", [["--help"], ["doctor", "--help"], ["validate", "events/manifests/minimal.yaml"], ["--version"]], ids=" ".join)
def test_help_and_validate_import_no_aws_and_nothing_else_that_is_slow(words: list[str]) -> None:
    assert imported_by(*words) & HEAVY == set()


def test_help_does_not_even_import_the_manifests_models() -> None:
    assert "pydantic" not in imported_by("--help")


def test_a_command_that_needs_aws_imports_it_so_that_the_tests_above_can_fail() -> None:
    assert {"boto3", "rich"} <= imported_by("local", "--help")


def test_the_line_of_a_command_that_is_imported_later_is_its_own() -> None:
    assert isinstance(main, LazyGroup)
    assert main.later
    for name, later in main.later.items():
        found = main.get_command(click.Context(main), name)
        assert found is not None
        assert found.get_short_help_str(limit=1000) == later.line


def test_help_lists_every_command_once() -> None:
    text = main.get_help(click.Context(main, info_name="dropforge"))
    for name in main.list_commands(click.Context(main)):
        assert text.count(f"\n  {name} ") == 1


def test_doctor_looks_for_the_settings_that_the_functions_read() -> None:
    with pytest.raises(MissingSetting) as raised:
        settings_from({})
    named = str(raised.value).removeprefix("not set: ").split(";")[0]
    assert set(SETTINGS) == {name.strip() for name in named.split(",")}
