"""Draws the diagrams of docs/*.md as pictures, docs/pictures/PAGE-N.svg: ``python -m tools.diagrams [--check]``.

GitHub draws a ``mermaid`` block itself; the site shows the picture, for it fetches nothing from anybody. Each picture says which text it
was drawn from, so ``--check`` needs neither a browser nor a network. Drawing needs Chromium and npm, from which the drawing program is taken.
"""

import base64
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MERMAID = "mermaid@11.17.2"
CHROMIUM = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
_BLOCK = re.compile(r"^```mermaid\n(.*?)^```", re.MULTILINE | re.DOTALL)
#: Text is drawn as text, not as HTML within the drawing, which a picture in a page may not hold.
_SETTINGS = {"startOnLoad": False, "theme": "neutral", "htmlLabels": False, "flowchart": {"htmlLabels": False}, "fontFamily": "sans-serif"}
_FRAME = """<!doctype html><meta charset="utf-8"><body><pre id="found"></pre><script src="mermaid.min.js"></script><script>
const text = decodeURIComponent(escape(atob("SOURCE")));
mermaid.initialize(SETTINGS);
mermaid.render("diagram", text).then(({ svg }) => document.getElementById("found").textContent = "FOUND" + btoa(unescape(encodeURIComponent(svg))) + "END")
  .catch((error) => document.getElementById("found").textContent = "WRONG" + error);
</script>"""


def diagrams(root: Path = ROOT) -> Iterator[tuple[Path, str]]:
    """Each picture's place and the text that it is drawn from."""
    for page in sorted(root.glob("docs/*.md")):
        for number, block in enumerate(_BLOCK.findall(page.read_text()), 1):
            yield root / f"docs/pictures/{page.stem}-{number}.svg", block


def mark(text: str) -> str:
    return f"<!-- drawn from sha256 {hashlib.sha256(text.encode()).hexdigest()} -->"


def stale(root: Path = ROOT) -> list[Path]:
    """Pictures that are not there, or of another text."""
    return [picture for picture, text in diagrams(root) if not picture.exists() or mark(text) not in picture.read_text()]


def draw(text: str, folder: Path) -> str:
    """The diagram as SVG. Raises ValueError with mermaid's word where the text is none."""
    source, settings = base64.b64encode(text.encode()).decode(), json.dumps(_SETTINGS)
    (folder / "frame.html").write_text(_FRAME.replace("SOURCE", source).replace("SETTINGS", settings))
    assert CHROMIUM is not None
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files", f"--user-data-dir={folder / 'profile'}"]
    command = [CHROMIUM, *flags, "--virtual-time-budget=20000", "--dump-dom", (folder / "frame.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = re.search(r"FOUND([A-Za-z0-9+/=]+)END", done.stdout)
    if found is None:
        raise ValueError((re.search(r"WRONG[^<]*", done.stdout) or ["no drawing came"])[0])
    return base64.b64decode(found[1]).decode()


def main() -> int:
    if "--check" in sys.argv[1:]:
        for picture in stale():
            sys.stderr.write(f"{picture.relative_to(ROOT)} is not of its page's diagram: python -m tools.diagrams\n")
        return 1 if stale() else 0
    npm = shutil.which("npm")
    if CHROMIUM is None or npm is None:
        raise SystemExit("Drawing needs Chromium and npm on PATH. On Debian: apt-get install chromium npm")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run([npm, "pack", MERMAID, "--silent", "--pack-destination", name], check=True, capture_output=True, cwd=name)
        subprocess.run(["tar", "xzf", *map(str, folder.glob("*.tgz")), "package/dist/mermaid.min.js", "--strip-components=2"], check=True, cwd=name)  # noqa: S607 - tar of PATH
        for picture, text in diagrams():
            picture.write_text(draw(text, folder) + mark(text) + "\n")
            print(f"wrote {picture.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
