"""Hooks of mkdocs.yml, run by mkdocs in .venv-docs: what makes pages that are written for GitHub a site. Imports nothing of ours.

* Files outside docs/ that are pages too (the README, the change log, two more) stand in the site under names of their own.
* Example manifests lie beside the pages, and one page shows them all.
* A diagram is shown as its picture (tools/diagrams.py): the theme would fetch the program that draws it from somebody else's server.
* Each link is followed in the repository first: one that leads nowhere, or to a file that no reader of the site has, is an error.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
#: The site's name of a page: the file in the repository.
OUTSIDE = {
    "index.md": "README.md",
    "changelog.md": "CHANGELOG.md",
    "local-cloud.md": "dropforge/local/README.md",
    "sample-events.md": "events/README.md",
}
EXAMPLES = "events/manifests"
EXAMPLES_PAGE = "examples.md"
DECISIONS = "adr/"
_LINK = re.compile(r"(?P<before>\[[^\]]*\]\()(?P<to>[^)\s]+)\)")
_FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_DIAGRAM = re.compile(r"^```mermaid\n.*?^```", re.MULTILINE | re.DOTALL)


def on_config(config: Any) -> Any:
    """Every decision has its place, and a page that mkdocs.yml does not list yet stands at the end of the how-tos: whoever writes one need not list it."""
    decisions = sorted(path.name for path in (ROOT / "docs/adr").glob("[0-9]*.md"))
    unlisted = sorted(path.name for path in (ROOT / "docs").glob("*.md") if f"'{path.name}'" not in str(config.nav))
    for entry in config.nav:
        if entry.get("Decisions") == DECISIONS:
            entry["Decisions"] = [f"{DECISIONS}README.md", *(DECISIONS + name for name in decisions)]
        if "How-to" in entry:
            entry["How-to"] = [*entry["How-to"], *unlisted]
    return config


def on_files(files: Files, config: Any) -> Files:
    for uri, path in OUTSIDE.items():
        files.append(File.generated(config, uri, content=(ROOT / path).read_text()))
    examples = sorted((ROOT / EXAMPLES).glob("*.yaml"))
    for example in examples:
        files.append(File.generated(config, f"manifests/{example.name}", abs_src_path=str(example)))
    files.append(File.generated(config, EXAMPLES_PAGE, content=_examples_page(examples)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    uri = page.file.src_uri
    if uri == EXAMPLES_PAGE:
        return markdown
    source = OUTSIDE.get(uri, f"docs/{uri}")
    return _with_links(_with_pictures(markdown, uri), source, uri)


def _examples_page(examples: list[Path]) -> str:
    parts = ["# Example manifests", "Each is run, made tiny, by the tests. `dropforge init --template` writes the shortest form of its kind.", ""]
    for example in examples:
        text = example.read_text().partition("\n")[2]
        parts += [f"## {example.stem}", "", f"[{example.name}](manifests/{example.name})", "", f"```yaml\n{text.rstrip()}\n```", ""]
    return "\n".join(parts)


def _with_pictures(markdown: str, uri: str) -> str:
    """``pictures/PAGE-N.svg`` for the N-th diagram of a page."""
    number = 0

    def picture(found: re.Match[str]) -> str:
        nonlocal number
        number += 1
        name = f"pictures/{Path(uri).stem}-{number}.svg"
        if not (ROOT / "docs" / name).exists():
            raise PluginError(f"docs/{name} is missing: python -m tools.diagrams")
        heading = re.findall(r"^#+ (.*)$", markdown[: found.start()], re.MULTILINE)[-1]
        return f"[![{heading}]({name}){{ .diagram }}]({name})"

    return _DIAGRAM.sub(picture, markdown)


def _with_links(markdown: str, source: str, uri: str) -> str:
    def relinked(found: re.Match[str]) -> str:
        to, _, anchor = found["to"].partition("#")
        if not to or re.match(r"[a-z]+:", to):
            return found[0]
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), to))
        there = _in_site(target)
        if there is None:
            raise PluginError(f"{source} links to {found['to']}, which is nothing that the site has")
        relative = posixpath.relpath(there, posixpath.dirname(uri) or ".")
        return f"{found['before']}{relative}{'#' + anchor if anchor else ''})"

    parts, end = [], 0
    for fence in _FENCED.finditer(markdown):
        parts += [_LINK.sub(relinked, markdown[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*parts, _LINK.sub(relinked, markdown[end:])])


def _in_site(target: str) -> str | None:
    """The site's name of a file or folder of the repository."""
    names = {path: uri for uri, path in OUTSIDE.items()} | {EXAMPLES: EXAMPLES_PAGE, "docs/adr": "adr/README.md", "docs": "index.md"}
    if target in names:
        return names[target]
    if not (ROOT / target).is_file():
        # A picture that this module put there, or nothing.
        return None
    if target.startswith(f"{EXAMPLES}/"):
        return f"manifests/{posixpath.basename(target)}"
    return target.removeprefix("docs/") if target.startswith("docs/") else None
