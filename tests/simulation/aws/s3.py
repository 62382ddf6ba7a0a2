"""S3: versioned buckets, delete markers, events, and the checksums that S3 keeps of objects put in one piece."""

import base64
import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from tests.simulation.aws.faults import aws_error
from tests.simulation.aws.pages import Paginator

if TYPE_CHECKING:
    from tests.simulation.aws.account import Account


@dataclass(frozen=True, slots=True)
class Version:
    """One version of an object; ``body`` is None for a delete marker, ``sha256`` (base64) where S3 holds one."""

    version_id: str
    body: bytes | None
    sha256: str | None
    modified_at: datetime

    @property
    def etag(self) -> str:
        """S3's is the MD5 of the content: the same content has the same."""
        return _etag(self.body or b"")


@lru_cache(maxsize=256)
def _etag(body: bytes) -> str:
    return f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'


def _range(text: str, size: int) -> tuple[int, int]:
    """First and last byte of ``bytes=0-99`` or of ``bytes=-100``, the last hundred."""
    first, _, last = text.removeprefix("bytes=").partition("-")
    return (int(first), min(int(last), size - 1)) if first else (max(0, size - int(last)), size - 1)


class S3:
    """A client, and below it the hands of users and instances (``write``, ``read``, ``remove``), who pass no gate."""

    def __init__(self, account: "Account") -> None:
        self._account = account
        self._buckets: dict[str, dict[str, list[Version]]] = {}
        self._count = 0
        #: Keys in a page of answers; see Ec2.
        self.page_rows = 3

    def make_bucket(self, bucket: str) -> None:
        self._buckets[bucket] = {}

    # The client.

    def get_object(self, *, Bucket: str, Key: str, Range: str = "", VersionId: str = "") -> dict[str, Any]:
        def read() -> dict[str, Any]:
            version = self._current(Bucket, Key)
            if VersionId:
                version = next((one for one in self.versions(Bucket, Key) if one.version_id == VersionId), None)
                if version is None:
                    raise aws_error("NoSuchVersion", "The specified version does not exist.", "GetObject")
            if version is None or version.body is None:
                raise aws_error("NoSuchKey", "The specified key does not exist.", "GetObject")
            body, answer = version.body, {"VersionId": version.version_id, "ETag": version.etag, "ContentLength": len(version.body)}
            if Range:
                if not body:
                    raise aws_error("InvalidRange", "The requested range is not satisfiable", "GetObject")
                first, last = _range(Range, len(body))
                answer |= {"ContentRange": f"bytes {first}-{last}/{len(body)}", "ContentLength": last - first + 1}
                body = body[first : last + 1]
            return answer | {"Body": io.BytesIO(body)}

        return self._call("get_object", Bucket, Key, read)

    def head_object(self, *, Bucket: str, Key: str, ChecksumMode: str = "") -> dict[str, Any]:
        def read() -> dict[str, Any]:
            version = self._current(Bucket, Key)
            if version is None or version.body is None:
                raise aws_error("404", "Not Found", "HeadObject")
            checksum = {"ChecksumSHA256": version.sha256, "ChecksumType": "FULL_OBJECT"} if version.sha256 and ChecksumMode == "ENABLED" else {}
            return {"ContentLength": len(version.body), "VersionId": version.version_id, "ETag": version.etag, **checksum}

        return self._call("head_object", Bucket, Key, read)

    def put_object(
        self, *, Bucket: str, Key: str, Body: bytes, ChecksumAlgorithm: str = "", IfMatch: str = "", IfNoneMatch: str = "", ContentType: str = ""
    ) -> dict[str, Any]:
        def put() -> dict[str, Any]:
            version = self._current(Bucket, Key)
            there = version is not None and version.body is not None
            if IfMatch and not there:
                raise aws_error("NoSuchKey", "The specified key does not exist.", "PutObject")
            if (IfNoneMatch and there) or (IfMatch and version is not None and version.etag != IfMatch):
                raise aws_error("PreconditionFailed", "At least one of the pre-conditions you specified did not hold", "PutObject")
            return {"VersionId": self.write(Bucket, Key, Body), "ETag": _etag(bytes(Body))}

        return self._call("put_object", Bucket, Key, put)

    def list_objects_v2(self, *, Bucket: str, Prefix: str = "", _start: int = 0) -> dict[str, Any]:
        def read() -> dict[str, Any]:
            found = self.keys(Bucket, Prefix)
            rows = [{"Key": key, "LastModified": self._buckets[Bucket][key][-1].modified_at} for key in found[_start : _start + self.page_rows]]
            return {"Contents": rows, "_next": _start + self.page_rows if len(found) > _start + self.page_rows else None}

        return self._call("list_objects_v2", Bucket, Prefix, read)

    def get_paginator(self, operation: str) -> Any:
        assert operation == "list_objects_v2"
        return Paginator(self.list_objects_v2)

    # The hands of users and instances.

    def write(self, bucket: str, key: str, body: bytes, *, multipart: bool = False) -> str:
        """Put an object; its version id. Of a multipart upload S3 holds no sha256 of the whole."""
        checksum = None if multipart else base64.b64encode(hashlib.sha256(body).digest()).decode()
        version_id = self._append(bucket, key, bytes(body), checksum)
        self._tell("Object Created", bucket, key, {"size": len(body), "version-id": version_id, "sequencer": f"{self._count:016X}"}, "PutObject")
        return version_id

    def write_once(self, bucket: str, key: str, body: bytes) -> bool:
        """Put with ``If-None-Match: *``; False where the key is taken."""
        if self.read(bucket, key) is not None:
            return False
        self.write(bucket, key, body)
        return True

    def read(self, bucket: str, key: str) -> bytes | None:
        version = self._current(bucket, key)
        return None if version is None else version.body

    def remove(self, bucket: str, key: str) -> None:
        """Put a delete marker: the object is gone for readers, its versions stay."""
        version_id = self._append(bucket, key, None, None)
        self._tell("Object Deleted", bucket, key, {"version-id": version_id, "sequencer": f"{self._count:016X}"}, "DeleteObject")

    def versions(self, bucket: str, key: str) -> list[Version]:
        """Every version, oldest first."""
        return list(self._buckets[bucket].get(key, []))

    def keys(self, bucket: str, prefix: str = "") -> list[str]:
        """Keys of the objects that are there now, sorted as S3 lists them."""
        return sorted(key for key, versions in self._buckets[bucket].items() if key.startswith(prefix) and versions[-1].body is not None)

    def _call(self, operation: str, bucket: str, key: str, effect: Callable[[], Any]) -> dict[str, Any]:
        if bucket not in self._buckets:
            raise aws_error("NoSuchBucket", f"there is no bucket {bucket!r}", operation)
        answer: dict[str, Any] = self._account.call(f"s3.{operation}", key, effect)
        return answer

    def _current(self, bucket: str, key: str) -> Version | None:
        versions = self._buckets[bucket].get(key)
        return versions[-1] if versions else None

    def _append(self, bucket: str, key: str, body: bytes | None, sha256: str | None) -> str:
        self._count += 1
        version = Version(f"v{self._count:08d}", body, sha256, self._account.now().replace(microsecond=0))
        self._buckets[bucket].setdefault(key, []).append(version)
        return version.version_id

    def _tell(self, kind: str, bucket: str, key: str, facts: dict[str, Any], reason: str) -> None:
        self._account.emit("aws.s3", kind, {"version": "0", "bucket": {"name": bucket}, "object": {"key": key, **facts}, "reason": reason})
