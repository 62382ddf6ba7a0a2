"""The pages: what a person looks for is on them, a stranger's text stays text, and a job with a gap has a page all the same."""

from html.parser import HTMLParser

import pytest

from jobspec import keys, wire
from jobspec.status import Status
from pages.index import index_page
from pages.job import job_page
from pages.story import Story, parsed, read_story
from tests.core.worlds import FIRST, at
from tests.pages.stories import HOSTILE, MANIFEST, STORIES, hostile, lines_of, sweep

NOW = at(10_000)


class Reader(HTMLParser):
    """Tags with their attributes, and the text that is shown."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.mark.parametrize("name", STORIES)
def test_a_page_says_state_reason_dollars_attempts_and_decisions(name: str) -> None:
    story = STORIES[name]()
    page = Reader(job_page(story, NOW))
    status = story.status
    assert status.receipt is not None
    assert status.reason in page.text
    assert status.state in page.text
    assert f"${status.receipt.cost_usd:.4f}" in page.text
    for attempt in status.attempts:
        assert str(attempt.instance_id) in page.text
    for line in status.history:
        assert line.reason in page.text
    assert "data/train.jsonl" in page.text, "the manifest"
    assert len([one for one in page.all("svg") if one.get("class") == "chart"]) == 3


def test_each_attempt_has_its_bar_and_what_was_done_again_is_marked() -> None:
    page = Reader(job_page(STORIES["interrupted-twice"](), NOW))
    assert len([one for one in page.all("rect") if one["class"] == "spot"]) == 3
    assert len([one for one in page.all("rect") if one["class"] == "lost"]) == 1
    assert len([one for one in page.all("path") if one.get("class") == "warned"]) == 2
    assert "1 attempt(s) cost nothing" in page.text


def test_the_page_says_where_the_minutes_of_a_start_went() -> None:
    text = Reader(job_page(STORIES["interrupted-twice"](), NOW)).text
    assert text.count("start took") == 1, "the other attempts told nothing of it"
    assert "Attempt 3: start took 5m40s: launch 23s, boot 41s, set-up 3s, ticket 6s, model 50s, image 2m40s" in text


def test_a_strangers_text_is_shown_and_never_markup() -> None:
    page = Reader(job_page(hostile(), NOW))
    assert page.all("script") == page.all("img") == []
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert HOSTILE in page.text
    index = Reader(index_page([hostile().status], NOW, {}))
    assert index.all("script") == index.all("img") == []


@pytest.mark.parametrize("name", STORIES)
def test_a_page_needs_no_network_and_every_picture_has_words(name: str) -> None:
    page = Reader(job_page(STORIES[name](), NOW))
    assert not page.all("link")
    assert not page.all("script")
    assert all("src" not in attributes for _, attributes in page.tags)
    assert all(attributes.get("role") == "img" and attributes.get("aria-label") for attributes in page.all("svg"))
    assert page.all("html")[0]["lang"] == "en"
    assert any(meta.get("name") == "viewport" for meta in page.all("meta"))


def test_a_job_that_never_ran_has_a_page_without_holes() -> None:
    status = STORIES["clean"]().status.model_copy(update={"attempts": (), "receipt": None, "state": "REJECTED", "model": None, "checkpoint": None})
    page = Reader(job_page(Story(status, "", {}), NOW))
    assert page.all("svg") == []
    assert "REJECTED" in page.text


def test_a_story_is_read_from_where_the_agents_put_it_and_a_broken_line_is_passed_over() -> None:
    status = STORIES["clean"]().status
    writer = f"AROATEST:{FIRST}"
    good = lines_of(0, 3, 0, 30)
    body = b'cut off"}\n' + b"".join(wire.dump(line).replace(b"\n", b"") + b"\n" for line in good) + b'{"kind": "nonsense"}\n'
    objects = {
        ("outputs", keys.logs_prefix(status.job_id, writer) + "progress.jsonl", ""): body,
        ("data", "jobs/tale.yaml", "v1"): MANIFEST.encode(),
    }
    story = read_story(status, "outputs", [writer, "AROATEST:i-0000000000000dead"], lambda bucket, key, version, most: objects.get((bucket, key, version)))
    assert story.lines == {1: good}
    assert story.manifest == MANIFEST
    nothing = read_story(status, "outputs", [], lambda *_: None)
    assert (nothing.lines, nothing.manifest) == ({}, "")


def test_lines_that_are_no_lines_are_none() -> None:
    assert list(parsed(b"\xff\xfe\n{}\n[1]\n" + b"[" * 100_000)) == []


def test_the_index_links_only_pages_that_are_there_and_adds_up() -> None:
    statuses: list[Status] = [make().status for make in STORIES.values()]
    statuses = [status.model_copy(update={"job_id": f"job-{n}"}) for n, status in enumerate(statuses)]
    page = Reader(index_page(statuses, NOW, {"job-1": "job-1.html"}))
    assert [link["href"] for link in page.all("a")] == ["job-1.html"]
    total = sum(status.receipt.cost_usd for status in statuses if status.receipt)
    assert f"${total:,.2f}" in page.text
    assert "No job yet" in Reader(index_page([], NOW, {})).text


def test_the_page_of_a_sweep_has_its_table_and_a_dot_for_each_job_that_was_measured() -> None:
    page = Reader(job_page(sweep(), NOW))
    assert "rates-002, the best" in page.text
    assert page.text.count("not started") == 2
    assert "learning_rate 0.0001" in page.text
    circles = [one["class"] for one in page.all("circle")]
    assert (circles.count("train"), circles.count("eval")) == (3, 1)
    assert any("eval_loss: from 1.93 at job 1" in str(one.get("aria-label")) for one in page.all("svg"))


def test_the_page_of_a_job_of_a_sweep_leads_to_it() -> None:
    story = STORIES["clean"]()
    status = story.status.model_copy(update={"parent": "rates"})
    page = Reader(job_page(Story(status, story.manifest, story.lines), NOW))
    assert "rates.html" in [one.get("href") for one in page.all("a")]
