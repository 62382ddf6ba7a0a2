"""Manifests that no event told us of: every quarter of an hour, those put lately are held against the jobs on record.

S3's events are at least once, but a queue between here and there may still drop one. Older manifests were counted many
times already; what even the census missed lies in the dead-letter queue and is put again by ``dropforge redrive``.
"""

import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from control_plane.core.state import Job
from control_plane.ports import Each, Listed
from control_plane.submission import Submission
from control_plane.tick import ROUND
from jobspec import keys

logger = logging.getLogger(__name__)

#: Minutes of the hour at which manifests are counted. The clock is all the state this needs.
EVERY_MIN = 15
#: A manifest put longer ago than this was seen by many a census.
LATELY = timedelta(hours=6)
#: By how much our clock and S3's, which tells whole seconds, may differ: a job accepted so soon after the object was put may be of
#: the version before.
CLOCKS = timedelta(seconds=5)
#: Events arrive within seconds; a manifest younger than this is still theirs.
SETTLES = timedelta(minutes=2)


def census(submission: Submission, bucket: str, each: Each, has_time: Callable[[], bool], *, tick_began: datetime) -> tuple[int, list[str]]:
    """Take up what has no job yet. How many were found, and what failed; the next census tries that again.

    ``tick_began`` decides whether it is due: by the time a long tick has driven its jobs, the minute may be over, each time.
    """
    if tick_began.minute % EVERY_MIN:
        return 0, []
    now = submission.driver.clock()
    try:
        listed = [one for one in submission.driver.objects.list(bucket, keys.MANIFEST_PREFIX) if SETTLES <= now - one.modified_at <= LATELY]
    except Exception as error:
        return 0, [f"census: {type(error).__name__}: {str(error)[:200]}"]
    # Each census begins a sixteenth further on: where time is short, no manifest stands behind the same slow ones for ever.
    first = int(tick_began.timestamp()) // (60 * EVERY_MIN) * max(1, len(listed) // ROUND) % max(1, len(listed))

    def counted(one: Listed) -> tuple[bool, str]:
        try:
            return has_time() and _is_news(submission, bucket, one, now), ""
        except Exception as error:
            logger.warning("manifest not taken up", extra={"key": one.key}, exc_info=True)
            return False, f"{one.key}: {type(error).__name__}: {str(error)[:200]}"

    done = list(each(counted, listed[first:] + listed[:first]))
    return sum(is_news for is_news, _ in done), [failure for _, failure in done if failure]


def _is_news(submission: Submission, bucket: str, one: Listed, now: datetime) -> bool:
    """Whether a job came of it only now."""
    store = submission.driver.store
    job_id = store.find(bucket=bucket, key=one.key)
    job = store.load(job_id) if job_id else None
    if job is not None and job.accepted_at >= one.modified_at + CLOCKS:
        return False
    taken = submission.look_at(bucket, one.key)
    # A manifest that was refused beside an active job has no job of its key: it is looked at again, and is no news.
    return isinstance(taken, Job) and taken.accepted_at >= now
