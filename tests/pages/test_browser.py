"""The pages in a real, headless Chromium: nothing overlaps or runs out of the page, no plot is blank, and all of it can be read.

A frame page loads each page in a frame, measures what was laid out, and leaves its findings as text: Chromium prints that
document (``--dump-dom``). The page itself runs no script.
"""

import base64
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pages.index import index_page
from pages.job import job_page
from pages.story import Story
from tests.core.worlds import at
from tests.pages.stories import STORIES, hostile, sweep

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH (Debian: apt-get install chromium): the pages were not laid out by a browser")

MEASURE = (Path(__file__).parent / "measure.js").read_text()
FRAME = """<!doctype html><meta charset="utf-8"><body style="margin:0">
<iframe id="page" style="border:0;width:WIDTHpx;height:3000px"></iframe><pre id="found"></pre>
<script>SCRIPT
const frame = document.getElementById("page");
frame.onload = () => {
  const found = JSON.stringify(measure(frame.contentDocument, frame.contentWindow));
  document.getElementById("found").textContent = "FOUND" + btoa(unescape(encodeURIComponent(found))) + "END";
};
frame.srcdoc = decodeURIComponent(escape(atob("PAGE")));
</script>"""
DARK = "--blink-settings=preferredColorScheme=0"


def laid_out(page: str, tmp_path: Path, width: int, *flags: str) -> dict[str, Any]:
    """What the browser made of a page at that width, in CSS pixels."""
    frame = tmp_path / "frame.html"
    body = base64.b64encode(page.encode()).decode()
    frame.write_text(FRAME.replace("WIDTH", str(width)).replace("SCRIPT", MEASURE).replace("PAGE", body))
    assert CHROMIUM is not None
    command = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}", *flags, "--virtual-time-budget=5000"]
    done = subprocess.run([*command, "--dump-dom", frame.as_uri()], capture_output=True, text=True, timeout=120, check=True)
    found = re.search(r"FOUND([A-Za-z0-9+/=]+)END", done.stdout)
    assert found is not None, done.stderr[-2000:]
    return dict(json.loads(base64.b64decode(found.group(1))))


def all_pages() -> dict[str, str]:
    stories: dict[str, Story] = {name: make() for name, make in STORIES.items()} | {"hostile": hostile(), "sweep": sweep()}
    pages = {name: job_page(story, at(10_000)) for name, story in stories.items()}
    return pages | {"index": index_page([story.status for story in stories.values()], at(10_000), {})}


@pytest.mark.parametrize(("width", "flags"), [(1000, ()), (1000, (DARK,)), (375, ()), (375, (DARK,))], ids=["wide", "wide dark", "telephone", "telephone dark"])
@pytest.mark.parametrize("name", [*STORIES, "hostile", "sweep", "index"])
def test_a_page_is_laid_out_readable_and_whole(name: str, width: int, flags: tuple[str, ...], tmp_path: Path) -> None:
    found = laid_out(all_pages()[name], tmp_path, width, *flags)
    assert found["dark"] is bool(flags)
    assert found["overflow"] <= 0, "the page itself never scrolls sideways; its tables may"
    assert found["overlaps"] == [], "no text lies on another, no section on the next"
    assert found["blank"] == [], "every plot has a line, or a point, within it"
    assert found["faint"] == [], "text stands out from its ground by 4.5 to 1 (WCAG 2.1, 1.4.3)"
    assert found["unnamed"] == [], "pictures, regions and tables have names"
    assert found["plots"] == {"index": 0, "sweep": 1}.get(name, 3)


def test_the_measures_see_what_is_wrong(tmp_path: Path) -> None:
    """The same measures on a page that has every fault."""
    bad = (
        "<!doctype html><html><style>body{background:#fff;color:#eee}p{position:absolute;top:0;left:0;margin:0}</style><body>"
        '<div style="width:5000px">wide</div><p>one text</p><p>another text</p>'
        '<svg class="chart" role="img"><path d=""></path></svg><table><tr><td>x</td></tr></table></body></html>'
    )
    found = laid_out(bad, tmp_path, 1000)
    assert found["overflow"] > 0
    assert all(found[what] for what in ("overlaps", "blank", "faint", "unnamed"))
