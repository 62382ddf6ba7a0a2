"""A door starts with its own rooms alone: those that hear of no job import none of a job's models."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("door", "foreign"),
    [
        ("webhook", "pydantic"),
        ("publish_ledger", "pydantic"),
        ("budget_relay", "jobspec.manifest"),
        ("budget", "jobspec.manifest"),
        ("operator", "jobspec.manifest"),
        ("curfew", "yaml"),
        ("interruption", "jinja2"),
    ],
)
def test_a_door_imports_nothing_that_only_others_need(door: str, foreign: str) -> None:
    code = f"import sys; import control_plane.handlers.{door}; print({foreign!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
