"""Makes the pictures of the documents, docs/pictures/*.png: ``python -m tests.pages.pictures``. Needs a Chromium on PATH."""

import html
import subprocess
import sys
import tempfile
from pathlib import Path

from pages.index import index_page
from pages.job import job_page
from tests.core.test_letters import end_letter
from tests.core.worlds import at
from tests.pages.stories import STORIES
from tests.pages.test_browser import CHROMIUM

FOLDER = Path(__file__).parents[2] / "docs" / "pictures"
#: Chromium's window is never narrower than 500 pixels; a mail on a telephone held sideways.
MAIL_WIDTH, MAIL_HEIGHT = 560, 980


def take(page: str, name: str, height: int, width: int = 900) -> None:
    assert CHROMIUM is not None
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / "page.html"
        source.write_text(page)
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={scratch}/profile"]
        subprocess.run(
            [CHROMIUM, *flags, f"--window-size={width},{height}", f"--screenshot={FOLDER / name}", source.as_uri()],
            check=True,
            capture_output=True,
            timeout=120,
        )
    print(f"wrote docs/pictures/{name}")


def mail_page(letter: str) -> str:
    """A letter as a telephone shows plain text: its lines folded, the subject above."""
    subject, _, body = letter.partition("\n\n")
    style = "body{margin:0;padding:16px;font:15px/1.45 sans-serif;color:#1f1f1f;background:#fff;overflow-wrap:anywhere}h1{font-size:18px;margin:0 0 12px}"
    title, text = html.escape(subject.removeprefix("Subject: ")), html.escape(body)
    return f'<!doctype html><meta charset="utf-8"><style>{style}</style><h1>{title}</h1><div style="white-space:pre-wrap">{text}</div>'


def main() -> int:
    if CHROMIUM is None:
        sys.exit("There is no Chromium on PATH. On Debian: apt-get install chromium")
    FOLDER.mkdir(exist_ok=True)
    stories = {name: make() for name, make in STORIES.items()}
    for name, story in stories.items():
        take(job_page(story, at(10_000)), f"job-{name}.png", 1800)
    for name in stories:
        take(mail_page(end_letter(name)), f"mail-{name}.png", MAIL_HEIGHT, MAIL_WIDTH)
    statuses = [story.status.model_copy(update={"name": name, "job_id": f"{name}-{n:06d}"}) for n, (name, story) in enumerate(stories.items())]
    take(index_page(statuses, at(10_000), {status.job_id: "#" for status in statuses}), "index.png", 480)
    return 0


if __name__ == "__main__":
    sys.exit(main())
