"""What there is to tell of a job: its status, its manifest, and what its attempts' trainers wrote down, line by line."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from jobspec import keys, wire
from jobspec.runfile import Progress, ProgressKind
from jobspec.status import Status

#: Of each attempt's progress lines the newest so many bytes; the agent itself uploads no more than a few.
MAX_PROGRESS_BYTES = 4 * 1024 * 1024
MAX_MANIFEST_BYTES = 64 * 1024
#: Attempts whose lines are read; of a job with more, the newest.
MAX_ATTEMPTS = 30
PROGRESS_NAME = "progress.jsonl"

#: ``read(bucket, key, version, max_bytes)``: the object's bytes, or None where there is none. An empty version means the current one.
Read = Callable[[str, str, str, int], bytes | None]


@dataclass(frozen=True, slots=True)
class Point:
    """One logged value of one attempt."""

    attempt: int
    step: int
    value: float


@dataclass(frozen=True, slots=True)
class Story:
    """A job, read. ``lines``: by attempt number, in the order they were written."""

    status: Status
    manifest: str
    lines: dict[int, tuple[Progress, ...]]

    def points(self, kind: ProgressKind, field: str) -> list[Point]:
        """A field of every line of that kind: later attempts come after earlier ones, and may begin at an earlier step."""
        return [
            Point(number, line.step, value)
            for number, lines in sorted(self.lines.items())
            for line in lines
            if line.kind is kind and (value := getattr(line, field)) is not None
        ]

    def of_kind(self, *kinds: ProgressKind) -> list[tuple[int, Progress]]:
        return [(number, line) for number, lines in sorted(self.lines.items()) for line in lines if line.kind in kinds]


def read_story(status: Status, outputs_bucket: str, writers: Iterable[str], read: Read) -> Story:
    """Reads the manifest in the version that the job ran, and each attempt's lines. ``writers``: who wrote below the job's runs.

    What is not there, or is not what it should be, is left out: a page with a gap is better than none.
    """
    by_instance = {keys.instance_of(writer): writer for writer in writers}
    lines: dict[int, tuple[Progress, ...]] = {}
    for attempt in status.attempts[-MAX_ATTEMPTS:]:
        writer = by_instance.get(attempt.instance_id or "")
        body = read(outputs_bucket, keys.logs_prefix(status.job_id, writer) + PROGRESS_NAME, "", MAX_PROGRESS_BYTES) if writer else None
        if body is not None:
            lines[attempt.number] = tuple(parsed(body))
    bucket, _, key = status.manifest.removeprefix("s3://").partition("/")
    manifest = read(bucket, key, status.manifest_version, MAX_MANIFEST_BYTES)
    return Story(status, manifest.decode("utf-8", "replace") if manifest is not None else "", lines)


def parsed(body: bytes) -> Iterable[Progress]:
    """The lines that are whole; a first one that was cut off, or one that says too much, is passed over."""
    for raw in body.splitlines():
        try:
            yield wire.load(Progress, raw)
        except (wire.UnreadableDocument, json.JSONDecodeError):
            continue
