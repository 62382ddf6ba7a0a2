"""S3: bounded reads, facts, whole puts. "Not there" is None only where S3 says so; a 403 is an error, never an absence.

S3 answers 403 for a missing key where the role may not list the bucket: the functions' roles hold s3:ListBucket for this.
"""

import base64
import binascii
from collections.abc import Iterator
from typing import Any

from botocore.exceptions import ClientError

from control_plane.ports import Listed, ObjectFacts, StoredObject


class S3Objects:
    """The Objects port over a boto3 S3 client."""

    def __init__(self, s3: Any) -> None:
        self._s3 = s3

    def get(self, bucket: str, key: str, *, max_bytes: int) -> StoredObject | None:
        try:
            answer = self._s3.get_object(Bucket=bucket, Key=key, Range=f"bytes=0-{max_bytes - 1}")
        except ClientError as error:
            if _code(error) == "NoSuchKey":
                return None
            if _code(error) != "InvalidRange":
                raise
            # No first byte to give: the object is empty. Asked again without a range, for its version.
            return self._get_whole(bucket, key, max_bytes)
        return _stored(answer, max_bytes)

    def head(self, bucket: str, key: str) -> ObjectFacts | None:
        try:
            answer = self._s3.head_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED")
        except ClientError as error:
            # HEAD has no body to hold a code: S3's "NoSuchKey" arrives as the bare status.
            if _code(error) in ("404", "NoSuchKey", "NotFound"):
                return None
            raise
        return ObjectFacts(answer["ContentLength"], whole_sha256(answer))

    def put(self, bucket: str, key: str, body: bytes) -> None:
        self._s3.put_object(Bucket=bucket, Key=key, Body=body, ChecksumAlgorithm="SHA256")

    def replace(self, bucket: str, key: str, body: bytes, etag: str | None) -> str | None:
        condition = {"IfNoneMatch": "*"} if etag is None else {"IfMatch": etag}
        try:
            written: str = self._s3.put_object(Bucket=bucket, Key=key, Body=body, ChecksumAlgorithm="SHA256", **condition)["ETag"]
        except ClientError as error:
            # 409: another conditional write of this key is under way. 404: the object that should match was deleted.
            if _code(error) in ("PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey"):
                return None
            raise
        return written

    def list(self, bucket: str, prefix: str) -> Iterator[Listed]:
        for page in self._s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for entry in page.get("Contents", []):
                yield Listed(entry["Key"], entry["LastModified"])

    def _get_whole(self, bucket: str, key: str, max_bytes: int) -> StoredObject | None:
        try:
            return _stored(self._s3.get_object(Bucket=bucket, Key=key), max_bytes)
        except ClientError as error:
            if _code(error) == "NoSuchKey":
                return None
            raise


def whole_sha256(answer: dict[str, Any]) -> str | None:
    """Hexadecimal sha256 of the whole object out of a HeadObject answer; None where S3 holds none, or a composite one."""
    encoded = answer.get("ChecksumSHA256")
    # A composite checksum is the checksum of the parts' checksums and ends in "-<parts>".
    if not encoded or "-" in encoded or answer.get("ChecksumType") == "COMPOSITE":
        return None
    try:
        return base64.b64decode(encoded, validate=True).hex()
    except binascii.Error:
        return None


def _code(error: ClientError) -> str:
    return str(error.response["Error"].get("Code", ""))


def _stored(answer: dict[str, Any], max_bytes: int) -> StoredObject:
    """``ContentRange`` is "bytes 0-99/1234"; a whole answer has no such line."""
    total = answer.get("ContentRange", "").rpartition("/")[2]
    body: bytes = answer["Body"].read(max_bytes)
    version = answer.get("VersionId")
    # "null": the object was put while versioning was off.
    version_id = version if version and version != "null" else answer["ETag"].strip('"')
    return StoredObject(body, version_id, int(total) if total else answer["ContentLength"], answer["ETag"])
