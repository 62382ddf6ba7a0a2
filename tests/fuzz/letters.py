"""A job in every text of which a stranger had a hand, and the e-mail about it."""

from itertools import cycle

from control_plane.core.accept import rejected
from control_plane.core.letters import letter_of
from control_plane.core.records import AttemptEnd
from control_plane.core.state import Job, JobState, ManifestRef, Notice, NoticeKind, Wait, WaitKind
from jobspec.heartbeat import PublishedCheckpoint
from jobspec.status import ProblemLine
from tests.core.worlds import FIRST, STACK, START, Story, at, heartbeat, new_job

#: In every hostile text, at the start of a line of its own: what an injected header or a forged sentence would need.
CANARY = "CANARY"


def hostile(text: str) -> str:
    return f"{text}\n{CANARY}\r{CANARY}\u2028{CANARY}\x1b[2J\u202e{text}"


def text_of(body: bytes) -> str:
    """Any bytes as a text; half surrogate pairs included, for JSON can say them in an escape."""
    try:
        return body.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return body.decode("latin-1")


def job_about(body: bytes) -> Job:
    """The first byte chooses the state; the rest, cut at each ``|``, is put wherever a manifest, S3, EC2 or an instance can put a text."""
    texts = cycle(hostile(part)[:1500] for part in text_of(body[1:]).split("|"))
    state = list(JobState)[body[0] % len(JobState) if body else 0]
    # Documents are filled as the code fills them: from values that were validated before, or that nobody validates.
    ref = ManifestRef.model_construct(bucket="data", key=f"jobs/{next(texts)}.yaml", version_id=next(texts))
    problems = tuple(ProblemLine.model_construct(path=next(texts), line=n, message=next(texts), found=next(texts), allowed=next(texts)) for n in range(2))
    if state is JobState.REJECTED:
        return rejected("a-name", ref, problems, START)
    story = Story(new_job())
    story.running()
    attempt = story.job.attempt_of(FIRST)
    assert attempt is not None
    beat = heartbeat(story.job, FIRST, seq=2, step=20).model_copy(
        update={"message": next(texts), "checkpoint": PublishedCheckpoint.model_construct(key=next(texts), step=20, at=START)}
    )
    attempt = attempt.model_copy(
        update={"heartbeat": beat, "instance_type": next(texts), "zone": next(texts), "end": AttemptEnd.FAILED, "end_reason": next(texts)}
    )
    wait = Wait(kind=WaitKind.QUOTA, reason=next(texts).encode("utf-8", "replace").decode(), since=START, until=START)
    return story.job.with_attempt(attempt).model_copy(update={"state": state, "reason": next(texts), "manifest_ref": ref, "problems": problems, "wait": wait})


def letter_about(body: bytes) -> tuple[str, str, str]:
    """The kind of the notice, the e-mail's subject and its body; the second byte chooses the kind."""
    job = job_about(body)
    kind = NoticeKind.END if job.state is JobState.REJECTED or len(body) < 2 else list(NoticeKind)[body[1] % len(NoticeKind)]
    if kind is NoticeKind.END and not job.ended:
        job = job.model_copy(update={"state": JobState.FAILED})
    subject, text = letter_of(job, Notice(notice_id=f"{job.job_id}#{kind}", kind=kind, owed_at=START, attempt=1), STACK, at(100))
    return kind.value, subject, text
