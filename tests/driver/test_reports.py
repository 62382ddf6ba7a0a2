"""A job's page in the bucket: drawn from what is there now, never older over newer, and no harm to any job."""

import ast
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from control_plane.core.events import Ignored
from control_plane.reports import MAX_LINES_BYTES, TRIES, Overtaken
from jobspec import keys, wire
from jobspec.runfile import Progress, ProgressKind
from jobspec.status import Status
from tests.driver.faults import meanwhile, refused
from tests.driver.house import DATA, OUTPUTS, SHARED, House

FUNCTIONS = Path(__file__).parents[2] / "functions"
PAGE = keys.report_key("tale")


def write_lines(house: House, *lines: Progress, before: bytes = b"") -> None:
    house.s3.write(
        OUTPUTS,
        keys.logs_prefix(house.job.job_id, house.attempt.writer) + "progress.jsonl",
        before + b"\n".join(line.model_dump_json().encode() for line in lines) + b"\n",
    )


def step(house: House, number: int, loss: float) -> Progress:
    return Progress(at=house.now, kind=ProgressKind.STEP, step=number, loss=loss)


def change_status(house: House, **changes: Any) -> None:
    status = house.status()
    assert status is not None
    house.s3.write(DATA, keys.status_key("tale"), wire.dump(status.model_copy(update=changes)))


def test_a_written_status_becomes_a_page_with_attempts_curves_and_the_manifest_that_ran(house: House) -> None:
    house.put()
    house.leave(training={"epochs": 7})
    write_lines(house, step(house, 1, 2.5), step(house, 2, 2.25))
    assert house.draw() == {"page": PAGE}
    page = house.page()
    assert page.startswith("<!doctype html>")
    status = house.status()
    assert status is not None
    assert status.page == f"s3://{DATA}/{PAGE}"
    assert "LAUNCHED" in page
    assert "Loss" in page
    assert "data/train.jsonl" in page
    assert "epochs: 7" not in page, "a manifest that was put since is not this job's"


def test_the_page_follows_the_job_to_its_end(house: House) -> None:
    house.put()
    house.draw()
    assert "SUCCEEDED" not in house.page()
    house.beat()
    house.finish()
    house.tick()
    house.tick()
    house.draw()
    assert "SUCCEEDED" in house.page()


@pytest.mark.parametrize("overtaken_at", ["s3.head_object", "s3.put_object"])
def test_a_slow_drawing_of_an_older_status_never_stays_over_a_newer_one(house: House, overtaken_at: str) -> None:
    house.put()
    house.draw()

    def faster() -> None:
        change_status(house, reason="the newer word")
        house.draw()

    house.faults.once(overtaken_at, meanwhile(faster), about=PAGE)
    house.draw()
    assert house.faults.all_met
    assert "the newer word" in house.page()


def test_a_drawing_that_is_always_overtaken_is_tried_again_later(house: House) -> None:
    house.put()
    house.draw()
    for n in range(TRIES):
        house.faults.once("s3.put_object", meanwhile(lambda n=n: house.s3.write(DATA, PAGE, b"%d" % n)), about=PAGE)
    with pytest.raises(Overtaken):
        house.draw()
    house.draw()
    assert "LAUNCHED" in house.page()


@pytest.mark.parametrize("body", [b"", b"[]", b"\xff", b"{" * 5000, b"x" * (wire.MAX_DOCUMENT_BYTES + 10)], ids=["empty", "list", "bytes", "deep", "large"])
def test_a_status_that_is_none_leaves_the_page_as_it_was(house: House, body: bytes) -> None:
    house.put()
    house.draw()
    before = house.page()
    house.s3.write(DATA, keys.status_key("tale"), body)
    assert isinstance(house.draw(), Ignored)
    assert house.page() == before


def test_what_a_stranger_wrote_into_a_status_is_text_on_the_page(house: House) -> None:
    house.put()
    change_status(house, reason="<script>alert(1)</script>")
    house.draw()
    assert "<script" not in house.page()
    assert "&lt;script&gt;" in house.page()


@pytest.mark.parametrize("place", [f"s3://{SHARED}/jobs/x.yaml", f"s3://{DATA}/data/train.jsonl", f"s3://{OUTPUTS}/jobs/x", "nowhere", ""])
def test_a_status_that_names_another_place_as_its_manifest_makes_nothing_be_read_there(house: House, place: str) -> None:
    house.put()
    house.s3.write(SHARED, "jobs/x.yaml", b"a secret")
    house.s3.write(OUTPUTS, "jobs/x", b"a secret")
    change_status(house, manifest=place)
    house.draw()
    assert "a secret" not in house.page()
    assert "LAUNCHED" in house.page()


def test_of_a_long_attempt_the_newest_lines_are_drawn(house: House) -> None:
    house.put()
    write_lines(house, step(house, 9, 1.125), before=b"x" * (2 * MAX_LINES_BYTES) + b"\n")
    house.draw()
    assert "1.125" in house.page()


@pytest.mark.parametrize(
    ("bucket", "key"),
    [(DATA, "status/tale.refused.json"), (DATA, "status/a/b.json"), (DATA, "reports/tale.html"), (OUTPUTS, "status/tale.json"), (DATA, "status/none.json")],
)
def test_other_objects_draw_no_page(house: House, bucket: str, key: str) -> None:
    from control_plane.handlers import report
    from tests.driver.house import CONTEXT

    house.put()
    event = {"source": "aws.s3", "detail-type": "Object Created", "detail": {"bucket": {"name": bucket}, "object": {"key": key}}}
    assert isinstance(report.handle(event, CONTEXT, house.rooms), Ignored)
    assert house.s3.keys(DATA, keys.REPORT_PREFIX) == []


def test_no_other_door_loads_what_draws_pages() -> None:
    doors = sorted(path.stem for path in (FUNCTIONS / "control_plane/handlers").glob("*.py") if path.stem not in ("__init__", "report"))
    script = f"import sys\nfor name in {doors!r}: __import__('control_plane.handlers.' + name)\nprint(sorted({{'jinja2', 'pages'}} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env={"PYTHONPATH": str(FUNCTIONS), "AWS_DEFAULT_REGION": "us-east-1"}
    )
    assert ast.literal_eval(done.stdout) == []


def test_a_page_that_cannot_be_written_is_told_and_the_job_goes_on(house: House) -> None:
    house.put()
    house.faults.once("s3.put_object", refused("AccessDenied"), about=PAGE)
    with pytest.raises(Exception, match="AccessDenied"):
        house.draw()
    house.beat()
    house.finish()
    house.tick()
    house.tick()
    status = house.status()
    assert isinstance(status, Status)
    assert status.state == "SUCCEEDED"
