"""What a status and a heartbeat look like to a person, as far as the GPUs go."""

from datetime import UTC, datetime
from io import StringIO
from typing import Any

from rich.console import Console, RenderableType

from dropforge.jobs.find import Listed
from dropforge.jobs.follow import told
from dropforge.jobs.view import list_table, status_view
from jobspec.heartbeat import GpuUse, Heartbeat, Phase
from jobspec.status import AttemptStatus, ProblemLine, Status

NOW = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
USE = tuple(GpuUse(index=index, percent=percent, memory_mib=9216, memory_total_mib=24576, window_s=1800) for index, percent in enumerate((87.4, 0.2)))


def shown(*gpus: GpuUse, idle: int = 0, **facts: Any) -> str:
    attempt = AttemptStatus(number=1, market="spot", instance_id="i-0123456789abcdef0", gpus=gpus, idle_gpus=idle, **facts)
    return drawn(status_view(a_status("tale", attempts=(attempt,), page="s3://data/reports/tale.html")))


def a_status(name: str, state: Any = "RUNNING", **facts: Any) -> Status:
    known = {"job_id": f"{name}-1", "reason": "r", "updated_at": NOW, "accepted_at": NOW, "manifest": f"s3://data/jobs/{name}.yaml"}
    return Status(name=name, state=state, **{**known, **facts})


def drawn(what: RenderableType, width: int = 200) -> str:
    console = Console(width=width, file=StringIO())
    with console.capture() as text:
        console.print(what)
    return text.get()


def test_a_status_shows_each_gpus_use_and_how_many_are_idle() -> None:
    text = shown(*USE, idle=1)
    assert "GPU 0: 87 % in use over 30m of training, 9.0 of 24.0 GiB at most; 1 of 2 idle" in text
    assert "GPU 1: 0 % in use" in text


def test_a_status_says_where_the_minutes_of_a_start_went() -> None:
    text = shown(start_s=370.4, stages_s={"launch": 20.0, "boot": 65.0, "pull": 160.0, "stage_data": 0.4, "load": 125.0})
    assert "attempt 1: start took 6m10s: launch 20s, boot 1m5s, image 2m40s, load 2m5s\n" in text.replace(" \n", "\n").replace("  ", "")
    assert "start took" not in shown()


def test_a_refused_manifests_status_says_what_was_found_and_what_is_allowed() -> None:
    problem = ProblemLine(path="key", message="is not a manifest's key", found="jobs/x.YAML", allowed="jobs/NAME.yaml")
    said = " ".join(drawn(status_view(a_status("x", "REJECTED", problems=(problem,)))).split())
    assert "key: is not a manifest's key found: jobs/x.YAML allowed: jobs/NAME.yaml" in said


def test_the_list_cuts_no_name_and_no_state_however_narrow() -> None:
    rows = [Listed(a_status("many-1", "STOPPED_DEADLINE", reason="a reason that is long " * 20)), Listed(a_status("x", step=3, total_steps=9))]
    for width in (28, 40, 60, 80, 1000):
        lines = drawn(list_table(rows, NOW, width), width).splitlines()
        assert all(len(line) <= width for line in lines)
        assert lines[1].split()[:2] == ["many-1", "STOPPED_DEADLINE"]
        assert ("why" in lines[0]) == (width >= 80), "a reason is shown where there is room for it"
    assert lines[1].rstrip().endswith("a reason that is long")


def test_a_reason_of_several_lines_is_one_line_of_the_list() -> None:
    lines = drawn(list_table([Listed(a_status("x", reason="it does not load:\n\n  a library says more"))], NOW, 200)).splitlines()
    assert len(lines) == 2
    assert lines[1].rstrip().endswith("it does not load: a library says more")


def test_a_status_says_where_the_page_is() -> None:
    assert "page: s3://data/reports/tale.html" in shown()


def test_of_what_no_driver_told_nothing_is_shown() -> None:
    assert "GPU" not in shown()


def test_a_heartbeat_in_words_has_the_use_of_each_gpu() -> None:
    beat = Heartbeat(
        job_id="tale-1", attempt=1, instance_id="i-0123456789abcdef0", seq=1, at=NOW, phase=Phase.TRAINING, step=3, total_steps=9, loss=1.25, gpus=USE
    )
    assert told(beat) == "step 3/9, loss 1.250, GPU 87 0 %"
    assert told(beat.model_copy(update={"gpus": ()})) == "step 3/9, loss 1.250"
