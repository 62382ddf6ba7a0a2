"""Makes the pictures of the documents, docs/pictures/*.png: ``python -m tests.pages.pictures``. Needs a Chromium on PATH."""

import subprocess
import sys
import tempfile
from pathlib import Path

from pages.index import index_page
from pages.job import job_page
from tests.core.worlds import at
from tests.pages.stories import STORIES
from tests.pages.test_browser import CHROMIUM

FOLDER = Path(__file__).parents[2] / "docs" / "pictures"


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


def main() -> int:
    if CHROMIUM is None:
        sys.exit("There is no Chromium on PATH. On Debian: apt-get install chromium")
    FOLDER.mkdir(exist_ok=True)
    stories = {name: make() for name, make in STORIES.items()}
    for name, story in stories.items():
        take(job_page(story, at(10_000)), f"job-{name}.png", 1800)
    statuses = [story.status.model_copy(update={"name": name, "job_id": f"{name}-{n:06d}"}) for n, (name, story) in enumerate(stories.items())]
    take(index_page(statuses, at(10_000), {status.job_id: "#" for status in statuses}), "index.png", 480)
    return 0


if __name__ == "__main__":
    sys.exit(main())
