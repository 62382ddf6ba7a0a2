"""Pages on this machine: one job's, or the list of all, made of what the bucket has (``functions/pages``)."""

from datetime import datetime
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from dropforge.jobs.find import all_statuses, writers_on_record
from dropforge.stack import Stack
from jobspec.status import Status
from pages.index import index_page
from pages.job import job_page
from pages.story import Story, read_story


def story_of(stack: Stack, status: Status) -> Story:
    """The job as the bucket tells it now."""

    def read(bucket: str, key: str, version: str, max_bytes: int) -> bytes | None:
        asked: dict[str, Any] = {"Bucket": bucket, "Key": key, "Range": f"bytes=-{max_bytes}"} | ({"VersionId": version} if version else {})
        try:
            body: bytes = stack.s3.get_object(**asked)["Body"].read()
        except ClientError as error:
            # Gone, or empty: S3 has no last bytes to give of nothing.
            if error.response["Error"].get("Code") in ("NoSuchKey", "NoSuchVersion", "404", "InvalidRange"):
                return None
            raise
        return body

    return read_story(status, stack.outputs_bucket, writers_on_record(stack, status.job_id), read)


def write_job(stack: Stack, status: Status, target: Path, now: datetime) -> Path:
    """The job's page as a file. Returns it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(job_page(story_of(stack, status), now), encoding="utf-8")
    return target


def write_index(stack: Stack, target: Path, now: datetime) -> tuple[Path, int]:
    """The list of all jobs as a file, and a page for each beside it. Returns the file and how many jobs there are."""
    statuses = [row.status for row in all_statuses(stack) if not row.beside]
    links = {status.job_id: f"{status.job_id}.html" for status in statuses}
    for status in statuses:
        write_job(stack, status, target.parent / links[status.job_id], now)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(index_page(statuses, now, links), encoding="utf-8")
    return target, len(statuses)
