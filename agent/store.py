"""S3 as the agent needs it: small documents, whole files verified both ways, and one write that happens once.

Retries with back-off are botocore's (adaptive mode); what still fails after them is raised and the caller decides.
A file becomes visible under its name, here and there, only when it is whole.
"""

import base64
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import boto3
from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from agent.digests import sha256_of
from jobspec.base import FileDigest
from jobspec.wire import MAX_DOCUMENT_BYTES

Check = Callable[[], None]

#: Up to here one PutObject with the sha256 of the whole: S3 then refuses a damaged body and can tell the sum later.
#: Beyond, parts (S3 keeps only a sum of their sums), with our sha256 beside the object as metadata.
WHOLE_PUT_BYTES = 64 * 1024 * 1024
CONNECTIONS = 20
#: S3 gives a connection some 90 MB/s, so 20 fill 10 Gbit/s; reads of 1 MiB spare the interpreter a fifth of its work (docs/benchmarks.md), and
#: the queue before a slow disk is then bounded by bytes that a small host has.
TRANSFER = TransferConfig(
    multipart_threshold=WHOLE_PUT_BYTES, multipart_chunksize=32 * 1024 * 1024, max_concurrency=CONNECTIONS, io_chunksize=1024 * 1024, max_io_queue=128
)
CONFLICT_TRIES = 5
#: What the calls below raise when S3 cannot be reached or refuses.
S3_ERRORS = (ClientError, BotoCoreError, Boto3Error, OSError)

#: 403 as well, but of the clock or the credentials, and over when they are right again (S3 API reference, error codes).
PASSING_REFUSALS = frozenset({"RequestTimeTooSkewed", "ExpiredToken", "InvalidToken", "InvalidAccessKeyId", "SignatureDoesNotMatch"})

log = logging.getLogger(__name__)


class Absent(Exception):
    """No such object or bucket."""


class Denied(Absent):
    """S3 refuses this instance's role. Of a missing key it says so too, to a role that may not list; ours may (template.yaml)."""


class NotAsDescribed(Exception):
    """A file that does not have the size or sha256 that its manifest gives."""


@dataclass(frozen=True, slots=True)
class Found:
    key: str
    size: int
    etag: str


def connect(endpoint_url: str | None) -> Any:
    """An S3 client, typed Any: boto3 makes its classes at run time."""
    options: Any = {"retries": {"mode": "adaptive", "total_max_attempts": 8}, "s3": {"addressing_style": "path" if endpoint_url else "auto"}}
    make: Any = boto3.client  # its stubs name every service but S3, which comes in a package of its own
    return make("s3", config=Config(connect_timeout=5, read_timeout=30, max_pool_connections=CONNECTIONS + 10, **options))


class Store:
    """``read_bytes`` and ``written_bytes`` count what this process has moved: between regions it is paid for."""

    def __init__(self, s3: Any) -> None:
        self._s3 = s3
        self._lock = threading.Lock()
        self.read_bytes = 0
        self.written_bytes = 0

    def _moved(self, *, read: int = 0, written: int = 0) -> None:
        # Transfers in parts report from several threads.
        with self._lock:
            self.read_bytes += read
            self.written_bytes += written

    def read(self, bucket: str, key: str) -> bytes | None:
        """A small document, or None where there is none. A longer one is cut one byte past the limit, so that it is refused. Raises Denied."""
        try:
            with _refusals(bucket, key):
                answer = self._s3.get_object(Bucket=bucket, Key=key)
        except Denied:
            raise
        except Absent:
            return None
        body: bytes = answer["Body"].read(MAX_DOCUMENT_BYTES + 1)
        answer["Body"].close()
        self._moved(read=len(body))
        return body

    def write(self, bucket: str, key: str, body: bytes) -> None:
        """Raises Denied."""
        with _refusals(bucket, key, "write"):
            self._s3.put_object(Bucket=bucket, Key=key, Body=body, ContentType="application/json", ChecksumAlgorithm="SHA256", **_expiry(key))
        self._moved(written=len(body))

    def write_once(self, bucket: str, key: str, body: bytes) -> bool:
        """True if this call wrote the object, False if it was there. A racing write (409) is tried again. Raises Denied."""
        for _ in range(CONFLICT_TRIES):
            try:
                with _refusals(bucket, key, "write"):
                    self._s3.put_object(Bucket=bucket, Key=key, Body=body, ContentType="application/json", ChecksumAlgorithm="SHA256", IfNoneMatch="*")
            except ClientError as error:
                if _status(error) == 412:
                    return False
                if _status(error) != 409:
                    raise
                log.warning("racing write of %s; trying again", key)
            else:
                self._moved(written=len(body))
                return True
        raise TimeoutError(f"s3://{bucket}/{key}: {CONFLICT_TRIES} racing writes")

    def list(self, bucket: str, prefix: str) -> Iterator[Found]:
        """Objects below ``prefix`` in the order of their keys. Raises Absent."""
        with _refusals(bucket, prefix):
            for page in self._s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
                for found in page.get("Contents", []):
                    yield Found(found["Key"], found["Size"], found["ETag"])

    def facts(self, bucket: str, key: str) -> Found:
        """Raises Absent."""
        with _refusals(bucket, key):
            answer = self._s3.head_object(Bucket=bucket, Key=key)
        return Found(key, answer["ContentLength"], answer["ETag"])

    def download(self, bucket: str, key: str, target: Path, incoming: Path, check: Check) -> None:
        """``target`` appears whole or not at all. ``check`` is called as bytes arrive and may raise. Raises Absent, OSError."""
        incoming.mkdir(parents=True, exist_ok=True)
        partial = incoming / f"{target.name}.part"

        def arrived(count: int) -> None:
            self._moved(read=count)
            check()

        try:
            with _refusals(bucket, key):
                self._s3.download_file(bucket, key, str(partial), Callback=arrived, Config=TRANSFER)
            target.parent.mkdir(parents=True, exist_ok=True)
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)

    def upload(self, bucket: str, key: str, path: Path, file: FileDigest, check: Check) -> None:
        """Upload ``path``, which must be what ``file`` says. Raises NotAsDescribed, NotAFile, Denied, ClientError, Boto3Error."""
        if sha256_of(path, check) != file.sha256:
            raise NotAsDescribed(f"{file.path} changed or was damaged on this instance's disk")
        facts = {"Metadata": {"sha256": file.sha256}} | _expiry(key)

        def sent(count: int) -> None:
            self._moved(written=count)
            check()

        with _refusals(bucket, key, "write"):
            if file.size <= WHOLE_PUT_BYTES:
                sha256 = base64.b64encode(bytes.fromhex(file.sha256)).decode()
                self._s3.put_object(Bucket=bucket, Key=key, Body=path.read_bytes(), ChecksumSHA256=sha256, **facts)
                self._moved(written=file.size)
            else:
                options = {"ChecksumAlgorithm": "SHA256", **facts}
                self._s3.upload_file(str(path), bucket, key, ExtraArgs=options, Callback=sent, Config=TRANSFER)

    def delete(self, bucket: str, key: str) -> None:
        self._s3.delete_object(Bucket=bucket, Key=key)


def _expiry(key: str) -> dict[str, Any]:
    """The tag by which the bucket's lifecycle (template.yaml) tells a checkpoint, which expires, from a model, which does not."""
    return {"Tagging": "dropforge%3Akind=checkpoint"} if "/checkpoints/" in key else {}


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


@contextmanager
def _refusals(bucket: str, key: str, verb: Literal["read", "write"] = "read") -> Iterator[None]:
    """A refusal of the role becomes Denied, a missing object or bucket Absent; whatever else S3 says stays as it is."""
    try:
        yield
    except (ClientError, Boto3Error) as error:
        # boto3 wraps what a transfer in parts met.
        answer = error if isinstance(error, ClientError) else error.__context__
        if not isinstance(answer, ClientError):
            raise
        if _status(answer) == 403 and answer.response.get("Error", {}).get("Code") not in PASSING_REFUSALS:
            place = f"s3://{bucket}/{key}"
            raise Denied(
                f"the instance role may not write {place}" if verb == "write" else f"{place} does not exist, or the instance role may not read it"
            ) from None
        if _status(answer) == 404:
            raise Absent(f"s3://{bucket}/{key} does not exist") from None
        raise
