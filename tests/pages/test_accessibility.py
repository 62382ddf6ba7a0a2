"""The job pages and the documents' site before an independent judge: axe-core, which Debian's Chromium runs in the page itself."""

import base64
import importlib.util
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.documents import needs_mkdocs
from tests.pages.stories import STORIES
from tests.pages.test_browser import CHROMIUM, all_pages

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH (Debian: apt-get install chromium): nobody judged the pages")

_SPEC = importlib.util.find_spec("axe_core_python")
assert _SPEC is not None
assert _SPEC.origin is not None
#: Read, not imported: the package's own code drives browsers that are not here.
AXE = (Path(_SPEC.origin).parent / "axe.min.js").read_text()
#: WCAG 2.1, levels A and AA, and what axe's makers hold for good practice: order of headings, landmarks, reach of the keyboard.
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]
#: The theme's script gives each code block's copy button a landmark of its own, all without a name: no rule of WCAG, and not ours to mend.
EXCLUDED = [".md-code__nav"]
RUN = """<script>AXE</script><script>
const told = (rule) => rule.nodes.map((node) => {
  const why = node.any[0] || node.all[0] || node.none[0];
  return `${rule.id}: ${node.target} ${why ? why.message : ""}`;
});
addEventListener("load", () => axe.run({exclude: EXCLUDED}, {runOnly: RULES, resultTypes: ["violations"]}).then((all) => {
  const found = {lines: all.violations.flatMap(told), dark: matchMedia("(prefers-color-scheme: dark)").matches};
  found.scheme = document.body.dataset.mdColorScheme || "";
  const out = document.createElement("pre");
  out.textContent = "FOUND" + btoa(unescape(encodeURIComponent(JSON.stringify(found)))) + "END";
  document.body.append(out);
}));
</script></body>"""
#: A job's page forbids every script.
POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')
SITE_PAGES = ["index", "tutorial-laptop", "related-jobs", "cli", "manifest", "examples", "state-machine", "benchmarks", "adr/index"]
#: A reader with a mouse: without one the theme's script lets no code block be reached by the keyboard.
MOUSE = "--blink-settings=primaryHoverType=2,availableHoverTypes=2"
DARK = ",preferredColorScheme=0"
SCHEMES = pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])


def judged(page: Path, scratch: Path, *, dark: bool = False) -> dict[str, Any]:
    """What axe found in an HTML file; its copy beside it, so that what it links to is there, has axe's script at its end."""
    copy = page.with_name(f"judged-{page.name}")
    script = RUN.replace("RULES", json.dumps(RULES)).replace("EXCLUDED", json.dumps(EXCLUDED)).replace("AXE", AXE)
    before, found_body, after = POLICY.sub("", page.read_text()).rpartition("</body>")
    assert found_body, page
    copy.write_text(before + script + after)
    assert CHROMIUM is not None
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1200,2000", f"--user-data-dir={scratch / 'profile'}", MOUSE + DARK * dark]
    done = subprocess.run(
        [CHROMIUM, *flags, "--virtual-time-budget=20000", "--dump-dom", copy.as_uri()], capture_output=True, text=True, timeout=180, check=True
    )
    copy.unlink()
    found = re.search(r"FOUND([A-Za-z0-9+/=]+)END", done.stdout)
    assert found is not None, f"axe told nothing of {page.name}"
    return dict(json.loads(base64.b64decode(found.group(1))))


@SCHEMES
@pytest.mark.parametrize("name", [*STORIES, "hostile", "sweep", "index"])
def test_a_page_of_jobs_is_accessible(name: str, dark: bool, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(all_pages()[name])
    found = judged(tmp_path / "page.html", tmp_path, dark=dark)
    assert found["dark"] is dark
    assert found["lines"] == []


@needs_mkdocs
@SCHEMES
@pytest.mark.parametrize("name", SITE_PAGES)
def test_a_page_of_the_site_is_accessible(documents: Path, name: str, dark: bool, tmp_path: Path) -> None:
    found = judged(documents / f"{name}.html", tmp_path, dark=dark)
    assert found["scheme"] == ("slate" if dark else "default")
    assert found["lines"] == []


def test_the_judge_sees_what_is_wrong(tmp_path: Path) -> None:
    bad = '<!doctype html><html><body style="background:#fff"><p style="color:#ccc">faint</p><h4>deep</h4><img src="x.png"><a href="#"></a></body></html>'
    (tmp_path / "bad.html").write_text(bad)
    found = " ".join(judged(tmp_path / "bad.html", tmp_path)["lines"])
    for rule in ("color-contrast", "image-alt", "link-name", "html-has-lang", "document-title", "landmark-one-main"):
        assert f"{rule}: " in found, rule
