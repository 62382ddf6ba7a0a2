"""Whether a manifest can work at all, from a look at what it names: refused before anything is paid, or told with what to expect.

Looks into the project's own buckets and those of the parameter ReadBuckets, and refuses any other: no instance could read it. What
cannot be read or understood (an unknown model, a bucket that says no, a passing fault) is no reason to refuse: then the instance finds out.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol, TypeVar

from control_plane.ports import StoredObject
from jobspec import keys
from jobspec.children import children_of
from jobspec.manifest import Manifest
from jobspec.problems import in_order
from jobspec.status import ProblemLine
from jobspec.sweep import told
from planning.estimate import plan_of
from planning.refusals import refusals, warnings
from planning.shape import CannotTell
from planning.subject import Absent, Seen, absent_eval, data_rows, model_shape, out_of_reach
from planning.words import expectation

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Readable(Protocol):
    """S3, as far as a look before a job goes."""

    def get(self, bucket: str, key: str, *, max_bytes: int) -> StoredObject | None: ...


@dataclass(frozen=True, slots=True)
class Verdict:
    """``problems``: why it is refused. ``remark``: what to expect, for the status and the e-mail; empty where nothing can be told."""

    problems: tuple[ProblemLine, ...] = ()
    remark: str = ""


@dataclass(frozen=True, slots=True)
class Feasibility:
    """Looks at one manifest at a time. ``own``: the project's buckets; the first is the one that plain keys lie in. ``others``: ReadBuckets.
    ``home``: the stack's region."""

    objects: Readable
    own: tuple[str, ...]
    home: str
    others: tuple[str, ...] = ()

    def judge(self, manifest: Manifest, now: datetime) -> Verdict:
        """Never raises: a plan is advice, and no job is held up for the lack of it. Of a sweep each job is judged, and one refuses all."""
        if manifest.sweep is None:
            return self._judged(manifest, now)
        children = children_of(manifest)
        with_memory = replace(self, objects=Remembering(self.objects))
        verdicts = [(child, with_memory._judged(child.manifest, now)) for child in children]
        problems = [
            problem.model_copy(update={"path": "sweep", "message": f"makes {child.name} ({told(child.choice)}): {problem.path} {problem.message}"[:2000]})
            for child, verdict in verdicts
            for problem in verdict.problems
        ]
        return Verdict(in_order(problems)) if problems else Verdict((), f"{len(children)} jobs; the first: {verdicts[0][1].remark}")

    def _judged(self, manifest: Manifest, now: datetime) -> Verdict:
        if outside := tuple(out_of_reach(manifest, self.own, self.others)):
            return Verdict(outside)
        absent: list[ProblemLine] = []
        shape = _told("model", lambda: model_shape(manifest, self._look), absent)
        rows = _told("data", lambda: data_rows(manifest, self._look), absent)
        absent += _told("held-out data", lambda: list(absent_eval(manifest, self._look)), absent) or []
        if absent:
            return Verdict(tuple(absent))
        plan = _told("plan", lambda: plan_of(manifest, shape, rows, home=self.home), absent) if shape is not None else None
        if plan is None:
            return Verdict()
        if found := refusals(plan, manifest, now):
            return Verdict(found)
        return Verdict((), " ".join((expectation(plan, manifest), *warnings(plan, manifest, now))))

    def _look(self, location: str, most: int) -> Seen | None:
        bucket, key = keys.split_location(location, self.own[0])
        found = self.objects.get(bucket, key, max_bytes=most)
        return Seen(found.body, found.size) if found is not None else None


class Remembering:
    """Reads each object once: the jobs of a sweep name the same ones. What could not be read is not tried again, either."""

    def __init__(self, objects: Readable) -> None:
        self._objects = objects
        self._found: dict[tuple[str, str, int], StoredObject | Exception | None] = {}

    def get(self, bucket: str, key: str, *, max_bytes: int) -> StoredObject | None:
        place = (bucket, key, max_bytes)
        if place not in self._found:
            try:
                self._found[place] = self._objects.get(bucket, key, max_bytes=max_bytes)
            except Exception as error:
                self._found[place] = error
        found = self._found[place]
        if isinstance(found, Exception):
            raise found
        return found


def _told(what: str, look: Callable[[], T], absent: list[ProblemLine]) -> T | None:
    """The answer; None, with a line in the log, where it cannot be told. What is missing goes to ``absent``."""
    try:
        return look()
    except Absent as error:
        absent.append(error.problem)
    except CannotTell as error:
        logger.info("not planned", extra={"what": what, "why": str(error)})
    except Exception:
        logger.warning("could not plan", extra={"what": what}, exc_info=True)
    return None
