"""What the pages name in code type exists: files and folders, modules, parameters, resources and metrics, settings, functions and keys.

Commands are held to their parsers by ``tests/cli/test_docs.py``, links by ``tests/test_site.py``.
"""

import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("docs/*.md"), *ROOT.glob("docs/adr/*.md"), ROOT / "README.md", ROOT / "dropforge/local/README.md", ROOT / "events/README.md"])
#: Named, and not ours to have: what it is.
ELSEWHERE = {
    "async_save": "torch's, which ADR 12 decided against",
    "defer_build": "pydantic's, which was tried and not taken",
    "BatchGetItem": "DynamoDB's, which ADR 19 decided against",
    "BidEvictedEvent": "CloudTrail's, which the local cloud does not play",
    "env.json": "the reader's own file for `sam local invoke`",
    "reports/JOB.html": "an object's key",
    "reports/rates.html": "an object's key",
    "status/JOB.json": "an object's key",
    "requirements/requirements-convert_hf_to_gguf.txt": "llama.cpp's",
    **dict.fromkeys(("LookAtTheHold", "LookAtTheParts", "SendAgain"), "statements of the policy on the same page"),
}
#: Installed packages with a ``__main__`` of their own.
PACKAGES = ("pytest", "venv", "pip", "compileall", "ministack")

_FILE = re.compile(r"([\w.-]+(?:/[\w.-]+)*\.(?:py|yaml|sh|json|md|toml|txt|html|gpu|jsonl))(?:::\w+)?")
_FOLDER = re.compile(r"((?:[\w.-]+/)+)")
_MODULE = re.compile(r"(?:[A-Z_]+=\S+ )*(?:\.venv\S*/bin/)?python -m ([\w.]+).*")
#: TickMissingAlarm, BUDGET_ACTION, trained_from.
_WORD = re.compile(r"[A-Z][a-z]+(?:[A-Z][a-z0-9]*)+|[A-Z][A-Z0-9]+(?:_[A-Z0-9]+)+|[a-z]+(?:_[a-z0-9]+)+")
#: attempts.relief_due
_MEMBER = re.compile(r"[a-z_]+\.([a-z_]+)(?:\([^)]*\))?")


@cache
def tracked() -> frozenset[str]:
    listed = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True)
    return frozenset(listed.stdout.split())


@cache
def source() -> str:
    """All that is not a page, a picture, data or this file, as one text."""
    kinds = (".py", ".yaml", ".yml", ".sh", ".toml", ".txt", ".in", ".html", ".css", ".gpu", "Makefile", "docker", "shutdown")
    return "\n".join(
        (ROOT / name).read_text(errors="replace")
        for name in sorted(tracked() - {"tests/test_names_in_pages.py"})
        if name.endswith(kinds) and (ROOT / name).is_file()
    )


def is_file(name: str) -> bool:
    return any(one == name or one.endswith(f"/{name}") for one in tracked())


def is_folder(name: str) -> bool:
    return any(f"/{one}".find(f"/{name}") >= 0 for one in tracked())


def is_known(span: str) -> bool:
    """Whether a span of code type is no name that we look for, or one of something that exists."""
    if span in ELSEWHERE:
        return True
    if found := _MODULE.fullmatch(span):
        path = found.group(1).replace(".", "/")
        return found.group(1) in PACKAGES or is_file(f"{path}.py") or is_file(f"{path}/__main__.py")
    if found := _FILE.fullmatch(span):
        return is_file(found.group(1)) or found.group(1) in source()
    if found := _FOLDER.fullmatch(span):
        return is_folder(found.group(1)) or found.group(1) in source()
    if _WORD.fullmatch(span):
        return span in source()
    if found := _MEMBER.fullmatch(span):
        return re.search(rf"\b{found.group(1)}\b", source()) is not None
    return True


def spans(page: Path) -> set[str]:
    return set(re.findall(r"`([^`\n]+)`", page.read_text()))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_names_exists(page: Path) -> None:
    assert sorted(span for span in spans(page) if not is_known(span)) == []


INVENTED = (
    "functions/nowhere.py",
    "dropforge/nowhere/",
    "python -m bench.nothing",
    "NoSuchAlarmOfOurs",
    "NO_SUCH_SETTING",
    "no_such_key_of_ours",
    "attempts.no_such_name",
)


@pytest.mark.parametrize("invented", INVENTED)
def test_an_invented_name_would_be_seen(invented: str) -> None:
    assert not is_known(invented)


def test_every_exception_is_still_named_by_a_page() -> None:
    named = set().union(*(spans(page) for page in PAGES))
    assert set(ELSEWHERE) <= named
