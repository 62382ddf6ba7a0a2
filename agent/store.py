"""S3 as the agent needs it: small documents, whole files verified both ways, and one write that happens once.

Retries with back-off are botocore's (adaptive mode); what still fails after them is raised and the caller decides.
A file becomes visible under its name, here and there, only when it is whole.
"""

import base64
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
TRANSFER = TransferConfig(multipart_threshold=WHOLE_PUT_BYTES, multipart_chunksize=32 * 1024 * 1024, max_concurrency=10)
CONFLICT_TRIES = 5
#: What the calls below raise when S3 cannot be reached or refuses.
S3_ERRORS = (ClientError, BotoCoreError, Boto3Error, OSError)

log = logging.getLogger(__name__)


class Absent(Exception):
    """No such object or bucket, or no permission to see it (S3 says 403 for a missing key to those who may not list)."""


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
    return make("s3", config=Config(connect_timeout=5, read_timeout=30, max_pool_connections=25, **options))


class Store:
    def __init__(self, s3: Any) -> None:
        self._s3 = s3

    def read(self, bucket: str, key: str) -> bytes | None:
        """A small document, or None where there is none. A longer one is cut one byte past the limit, so that it is refused."""
        try:
            answer = self._s3.get_object(Bucket=bucket, Key=key)
        except ClientError as error:
            # A missing key is 403 to a role that may not list the prefix.
            if _status(error) in (403, 404):
                return None
            raise
        body: bytes = answer["Body"].read(MAX_DOCUMENT_BYTES + 1)
        answer["Body"].close()
        return body

    def write(self, bucket: str, key: str, body: bytes) -> None:
        self._s3.put_object(Bucket=bucket, Key=key, Body=body, ContentType="application/json", ChecksumAlgorithm="SHA256")

    def write_once(self, bucket: str, key: str, body: bytes) -> bool:
        """True if this call wrote the object, False if it was there. A racing write (409) is tried again."""
        for _ in range(CONFLICT_TRIES):
            try:
                self._s3.put_object(Bucket=bucket, Key=key, Body=body, ContentType="application/json", ChecksumAlgorithm="SHA256", IfNoneMatch="*")
            except ClientError as error:
                if _status(error) == 412:
                    return False
                if _status(error) != 409:
                    raise
                log.warning("racing write of %s; trying again", key)
            else:
                return True
        raise TimeoutError(f"s3://{bucket}/{key}: {CONFLICT_TRIES} racing writes")

    def list(self, bucket: str, prefix: str) -> Iterator[Found]:
        """Objects below ``prefix`` in the order of their keys. Raises Absent."""
        try:
            for page in self._s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
                for found in page.get("Contents", []):
                    yield Found(found["Key"], found["Size"], found["ETag"])
        except ClientError as error:
            raise _absent(error, bucket, prefix) from None

    def facts(self, bucket: str, key: str) -> Found:
        """Raises Absent."""
        try:
            answer = self._s3.head_object(Bucket=bucket, Key=key)
        except ClientError as error:
            raise _absent(error, bucket, key) from None
        return Found(key, answer["ContentLength"], answer["ETag"])

    def download(self, bucket: str, key: str, target: Path, incoming: Path, check: Check) -> None:
        """``target`` appears whole or not at all. ``check`` is called as bytes arrive and may raise. Raises Absent, OSError."""
        incoming.mkdir(parents=True, exist_ok=True)
        partial = incoming / f"{target.name}.part"
        try:
            self._s3.download_file(bucket, key, str(partial), Callback=lambda _bytes: check(), Config=TRANSFER)
            target.parent.mkdir(parents=True, exist_ok=True)
            partial.replace(target)
        except ClientError as error:
            raise _absent(error, bucket, key) from None
        finally:
            partial.unlink(missing_ok=True)

    def upload(self, bucket: str, key: str, path: Path, file: FileDigest, check: Check) -> None:
        """Upload ``path``, which must be what ``file`` says. Raises NotAsDescribed, NotAFile, ClientError."""
        if sha256_of(path, check) != file.sha256:
            raise NotAsDescribed(f"{file.path} changed or was damaged on this instance's disk")
        facts = {"Metadata": {"sha256": file.sha256}}
        if file.size <= WHOLE_PUT_BYTES:
            body = path.read_bytes()
            self._s3.put_object(Bucket=bucket, Key=key, Body=body, ChecksumSHA256=base64.b64encode(bytes.fromhex(file.sha256)).decode(), **facts)
            return
        self._s3.upload_file(str(path), bucket, key, ExtraArgs={"ChecksumAlgorithm": "SHA256", **facts}, Callback=lambda _bytes: check(), Config=TRANSFER)

    def delete(self, bucket: str, key: str) -> None:
        self._s3.delete_object(Bucket=bucket, Key=key)


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _absent(error: ClientError, bucket: str, key: str) -> Exception:
    if _status(error) == 404:
        return Absent(f"s3://{bucket}/{key} does not exist")
    if _status(error) == 403:
        return Absent(f"s3://{bucket}/{key} does not exist, or the instance role may not read it")
    return error
