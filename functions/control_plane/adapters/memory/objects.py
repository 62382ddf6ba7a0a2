"""S3 in memory: versioned buckets, delete markers, and the checksums that S3 keeps of objects put in one piece."""

import hashlib
from dataclasses import dataclass

from control_plane.ports import ObjectFacts, StoredObject


@dataclass(frozen=True, slots=True)
class ObjectVersion:
    """One version of an object; ``body`` is None for a delete marker."""

    version_id: str
    body: bytes | None
    sha256: str | None


class MemoryObjects:
    """The Objects port over the named buckets, which are versioned. ``puts`` lists every put as (bucket, key)."""

    def __init__(self, *buckets: str) -> None:
        self._buckets: dict[str, dict[str, list[ObjectVersion]]] = {bucket: {} for bucket in buckets}
        self._next_version = 1
        self.puts: list[tuple[str, str]] = []

    def get(self, bucket: str, key: str, *, max_bytes: int) -> StoredObject | None:
        current = self._current(bucket, key)
        if current is None or current.body is None:
            return None
        return StoredObject(current.body[:max_bytes], current.version_id, len(current.body))

    def head(self, bucket: str, key: str) -> ObjectFacts | None:
        current = self._current(bucket, key)
        if current is None or current.body is None:
            return None
        return ObjectFacts(len(current.body), current.sha256)

    def put(self, bucket: str, key: str, body: bytes) -> None:
        self._append(bucket, key, bytes(body), hashlib.sha256(body).hexdigest())
        self.puts.append((bucket, key))

    def put_multipart(self, bucket: str, key: str, body: bytes) -> None:
        """As an instance uploads a large file: S3 then holds no sha256 of the whole object."""
        self._append(bucket, key, bytes(body), None)
        self.puts.append((bucket, key))

    def delete(self, bucket: str, key: str) -> None:
        """Put a delete marker: the object is gone for readers, its versions stay."""
        self._append(bucket, key, None, None)

    def versions(self, bucket: str, key: str) -> list[ObjectVersion]:
        """Every version, oldest first."""
        return list(self._bucket(bucket).get(key, []))

    def keys(self, bucket: str, prefix: str = "") -> list[str]:
        """Keys of the objects that are there now, sorted as S3 lists them."""
        return sorted(key for key, versions in self._bucket(bucket).items() if key.startswith(prefix) and versions[-1].body is not None)

    def _bucket(self, bucket: str) -> dict[str, list[ObjectVersion]]:
        if bucket not in self._buckets:
            raise LookupError(f"there is no bucket {bucket!r}; this world has {', '.join(self._buckets) or 'none'}")
        return self._buckets[bucket]

    def _current(self, bucket: str, key: str) -> ObjectVersion | None:
        versions = self._bucket(bucket).get(key)
        return versions[-1] if versions else None

    def _append(self, bucket: str, key: str, body: bytes | None, sha256: str | None) -> None:
        version = ObjectVersion(f"v{self._next_version:08d}", body, sha256)
        self._bucket(bucket).setdefault(key, []).append(version)
        self._next_version += 1
