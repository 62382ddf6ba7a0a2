"""The documents as a site: built strictly, whole, and with nothing that a reader's browser would fetch from anybody else."""

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.documents import ROOT, built, needs_mkdocs
from tools import diagrams

OTHER = "flowchart LR\n  a --> c\n"
#: What a browser fetches by itself: element and attribute. A link that a person follows is none of these.
FETCHED = {("link", "href"), ("script", "src"), ("img", "src"), ("iframe", "src"), ("source", "src"), ("object", "data")}


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.classes: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.fetched += [value or "" for name, value in attributes if (tag, name) in FETCHED]
        self.classes |= {name for key, value in attributes if key == "class" for name in (value or "").split()}


@needs_mkdocs
def test_the_site_fetches_nothing_from_anybody(documents: Path) -> None:
    pages = {path: Page(path.read_text()) for path in documents.rglob("*.html")}
    assert len(pages) > 30
    fetched = [(path.name, address) for path, page in pages.items() for address in page.fetched if re.match(r"(https?:)?//", address)]
    assert fetched == []
    styles = [path.name for path in documents.rglob("*.css") if re.search(r"url\(['\"]?(https?:)?//", path.read_text())]
    assert styles == []
    # The theme's script fetches what draws diagrams as soon as a page has one.
    assert not any("mermaid" in page.classes for page in pages.values())


@needs_mkdocs
def test_every_page_of_the_repository_is_in_the_site_and_diagrams_are_pictures(documents: Path) -> None:
    for path in [*ROOT.glob("docs/*.md"), *ROOT.glob("docs/adr/[0-9]*.md")]:
        assert (documents / path.relative_to(ROOT / "docs").with_suffix(".html")).exists(), path
    for name in ("index", "changelog", "local-cloud", "sample-events", "examples"):
        assert (documents / f"{name}.html").exists()
    assert "architecture-1.svg" in (documents / "architecture.html").read_text()
    assert (documents / "manifests/minimal.yaml").read_text() == (ROOT / "events/manifests/minimal.yaml").read_text()


@needs_mkdocs
@pytest.mark.parametrize(
    ("planted", "said"),
    [
        ("\nSee [that](nowhere.md).\n", "nowhere.md, which is nothing that the site has"),
        ("\nSee [that](../agent/store.py).\n", "agent/store.py, which is nothing that the site has"),
        ("\nSee [that](costs.md#no-such-heading).\n", "there is no such anchor on this page"),
        ("\n```mermaid\nflowchart LR\n  a --> b\n```\n", "pictures/costs-1.svg is missing: python -m tools.diagrams"),
    ],
)
def test_a_link_that_leads_nowhere_and_a_diagram_without_its_picture_fail_the_build(tmp_path: Path, planted: str, said: str) -> None:
    copy = tmp_path / "repository"
    for name in ("docs", "events", "tools", "dropforge/local"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("README.md", "CHANGELOG.md", "mkdocs.yml"):
        shutil.copy(ROOT / name, copy / name)
    page = copy / "docs/costs.md"
    page.write_text(page.read_text() + planted)
    done = built(tmp_path / "site", copy)
    assert done.returncode != 0
    assert said in done.stdout + done.stderr


def test_every_picture_of_a_diagram_is_of_its_page_s_text_and_another_text_is_noticed(tmp_path: Path) -> None:
    assert diagrams.stale() == []
    pictures = tmp_path / "docs/pictures"
    pictures.mkdir(parents=True)
    (tmp_path / "docs/page.md").write_text("```mermaid\nflowchart LR\n  a --> b\n```\n")
    (pictures / "page-1.svg").write_text(f"<svg/>{diagrams.mark(OTHER)}")
    assert diagrams.stale(tmp_path) == [pictures / "page-1.svg"]
