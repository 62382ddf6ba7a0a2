"""docs/training.md names tests as proof: each of them exists."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NAMED = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", (ROOT / "docs/training.md").read_text())


def test_every_test_that_the_training_page_names_exists() -> None:
    assert len(NAMED) > 20
    for path, name in NAMED:
        assert (ROOT / path).is_file(), path
        assert not name or f"def {name}(" in (ROOT / path).read_text(), name


def test_every_link_of_the_training_page_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)", (ROOT / "docs/training.md").read_text())
    assert links
    for link in links:
        assert (ROOT / "docs" / link).exists(), link
