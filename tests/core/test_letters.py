"""The e-mails as they are read: whole letters, kept as text in ``golden/``. ``python -m tests.core.test_letters`` writes them anew."""

from pathlib import Path

import pytest

from control_plane.core.accept import born_of, rejected
from control_plane.core.decide import decide
from control_plane.core.events import FamilyLooked
from control_plane.core.kin import Child
from control_plane.core.letters import MAX_SUBJECT, letter_of
from control_plane.core.state import Job, JobState, ManifestRef, Notice, NoticeKind, Wait, WaitKind
from jobspec.children import child_of
from jobspec.heartbeat import Notice as Warning_
from jobspec.marker import FailureCode, Outcome
from jobspec.status import ProblemLine
from tests.core.worlds import FIRST, SECOND, STACK, START, THIRD, Story, at, heartbeat, marker, new_job

GOLDEN = Path(__file__).parent / "golden"


#: Of a start that took 340 s, 23 of which no clock of the instance saw.
STAGES_S = {"boot": 41.0, "bootstrap": 3.0, "pull": 160.0, "agent": 6.4, "stage_data": 0.6, "stage_model": 50.0, "trainer": 2.0, "prepare": 4.0}
STAGES_S |= {"import": 9.0, "load": 20.0, "measure": 13.0, "first_step": 8.0}


def clean() -> Job:
    story = Story(new_job())
    story.running()
    story.gone(FIRST)
    story.look(5400, markers={FIRST: marker(story.job, FIRST)})
    return story.job


def interrupted_twice() -> Job:
    """The second is taken back within its hour, so it is free; the third does ten steps again."""
    story = Story(new_job())
    story.running()
    for number, (gone, came, seconds) in enumerate(((FIRST, SECOND, 4000), (SECOND, THIRD, 6500))):
        warned = heartbeat(story.job, gone, seq=9, step=40 + 20 * number, first_step=40 * number, notice=Warning_(kind="interruption", at=at(seconds)))
        story.look(seconds, heartbeats={gone: warned.model_copy(update={"at": at(seconds), "stages_s": {"stage_model": 60.0, "load": 20.0}})})
        story.launch(seconds + 5, came)
        story.gone(gone, "Server.SpotInstanceTermination")
        story.look(seconds + 130)
    last = heartbeat(story.job, THIRD, seq=2, step=100, first_step=50).model_copy(
        update={"at": at(9000), "stages_s": STAGES_S, "first_step_at": at(6505 + 340)}
    )
    story.look(9000, heartbeats={THIRD: last})
    story.gone(THIRD)
    story.look(9100, markers={THIRD: marker(story.job, THIRD)})
    return story.job


def stopped_by_budget() -> Job:
    story = Story(new_job(limits={"budget_usd": 0.5}))
    story.running()
    story.look(4400, heartbeats={FIRST: heartbeat(story.job, FIRST, seq=2, step=70)})
    story.gone(FIRST)
    story.look(4500, markers={FIRST: marker(story.job, FIRST, Outcome.STOPPED)})
    return story.job


def failed() -> Job:
    story = Story(new_job())
    story.running()
    story.gone(FIRST)
    story.look(300, markers={FIRST: marker(story.job, FIRST, Outcome.FAILED, FailureCode.DATA_MISSING)})
    return story.job


def refused() -> Job:
    problems = (ProblemLine(path="compute.gpu", line=9, message="is missing", found="nothing", allowed="memory_gib: 24"),)
    return rejected("tale", ManifestRef(bucket="data", key="jobs/tale.yaml", version_id="v1"), problems, START)


def cancelled_before_it_began() -> Job:
    story = Story(new_job())
    story.look(0, hold="a person paused it")
    story.look(60, manifest_present=False)
    return story.job


def swept() -> Job:
    """Two jobs of four succeeded, one failed, one found no money left."""
    parent = new_job(sweep={"grid": {"training.learning_rate": [1e-4, 2e-4, 4e-4, 8e-4]}, "budget_usd": 4.0, "concurrency": 1})
    ends = (
        ("SUCCEEDED", "attempt 1 finished", 1.75, 1.5),
        ("SUCCEEDED", "attempt 1 finished", 1.5, 1.5),
        ("FAILED", "not_finite: the loss is not finite", None, 0.5),
    )
    assert parent.manifest is not None
    assert parent.manifest.sweep is not None
    for number, (state, reason, value, cost_usd) in enumerate(ends, start=1):
        child = child_of(parent.manifest, number, parent.manifest.sweep.choices()[number - 1])
        born = born_of(parent, child, 4.0, START)
        line = Child(number=number, name=born.name, job_id=born.job_id, choice=child.choice, limit_usd=4.0)
        line = line.model_copy(update={"state": state, "reason": reason, "value": value, "cost_usd": cost_usd, "is_final": True})
        parent = parent.model_copy(update={"children": (*parent.children, line)})
    return decide(parent, FamilyLooked(children={}, manifest_present=True), at(9000)).job


ENDS = {
    "swept": swept,
    "clean": clean,
    "interrupted-twice": interrupted_twice,
    "stopped-by-budget": stopped_by_budget,
    "failed": failed,
    "refused": refused,
    "cancelled-before-it-began": cancelled_before_it_began,
}


def end_letter(name: str) -> str:
    job = ENDS[name]()
    (notice,) = [notice for notice in job.notices if notice.kind is NoticeKind.END]
    subject, body = letter_of(job, notice, STACK, at(10_000))
    return f"Subject: {subject}\n\n{body}"


def other_letters() -> str:
    """Every kind but the end's, one after the other."""
    story = Story(new_job())
    story.running()
    wait = Wait(kind=WaitKind.QUOTA, reason="MaxSpotInstanceCountExceeded: 0 vCPU of G and VT spot", since=START, until=at(1800))
    job = story.job.model_copy(update={"wait": wait})
    letters = []
    for kind in NoticeKind:
        if kind is not NoticeKind.END:
            subject, body = letter_of(job, Notice(notice_id=f"{job.job_id}#{kind}", kind=kind, owed_at=START, attempt=1), STACK, at(3600))
            letters.append(f"Subject: {subject}\n\n{body}")
    return "\n----\n".join(letters)


@pytest.mark.parametrize("name", ENDS)
def test_the_letter_of_an_end_is_as_it_was_agreed(name: str) -> None:
    assert end_letter(name) == (GOLDEN / f"end-{name}.txt").read_text()


def test_the_other_letters_are_as_they_were_agreed() -> None:
    assert other_letters() == (GOLDEN / "others.txt").read_text()


def test_the_stories_end_as_their_names_say() -> None:
    ends = {name: make().state for name, make in ENDS.items()}
    assert ends == {
        "swept": JobState.STOPPED_BUDGET,
        "clean": JobState.SUCCEEDED,
        "interrupted-twice": JobState.SUCCEEDED,
        "stopped-by-budget": JobState.STOPPED_BUDGET,
        "failed": JobState.FAILED,
        "refused": JobState.REJECTED,
        "cancelled-before-it-began": JobState.CANCELLED,
    }


@pytest.mark.parametrize("name", ENDS)
def test_a_subject_fits_and_says_job_end_and_dollars(name: str) -> None:
    subject = end_letter(name).splitlines()[0].removeprefix("Subject: ")
    assert len(subject) <= MAX_SUBJECT
    assert subject.startswith("[Dropforge] tale ")
    assert ("$" in subject) is bool(ENDS[name]().attempts or ENDS[name]().children)


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for each in ENDS:
        (GOLDEN / f"end-{each}.txt").write_text(end_letter(each))
    (GOLDEN / "others.txt").write_text(other_letters())
