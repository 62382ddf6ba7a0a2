"""S3 as the page of a job needs it: the last bytes of an object, in a version, and a page that replaces only the one that was seen before."""

from typing import Any

from botocore.exceptions import ClientError

#: Nothing to read: gone, never there, empty (no last bytes to give of nothing), or a version whose name is none.
_NOTHING = frozenset({"NoSuchKey", "NoSuchVersion", "InvalidRange", "InvalidArgument", "404"})
#: 409: another conditional write of this key is under way. 404: the object that should match was deleted.
_OVERTAKEN = frozenset({"PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey"})


class S3Pages:
    """The Pages port over a boto3 S3 client."""

    def __init__(self, s3: Any) -> None:
        self._s3 = s3

    def last_bytes(self, bucket: str, key: str, version: str, max_bytes: int) -> bytes | None:
        asked: dict[str, str] = {"Bucket": bucket, "Key": key, "Range": f"bytes=-{max_bytes}"} | ({"VersionId": version} if version else {})
        try:
            body: bytes = self._s3.get_object(**asked)["Body"].read(max_bytes)
        except ClientError as error:
            if error.response["Error"].get("Code") in _NOTHING:
                return None
            raise
        return body

    def etag(self, bucket: str, key: str) -> str | None:
        try:
            return str(self._s3.head_object(Bucket=bucket, Key=key)["ETag"])
        except ClientError as error:
            if error.response["Error"].get("Code") in _NOTHING:
                return None
            raise

    def replace(self, bucket: str, key: str, page: bytes, etag: str | None) -> bool:
        condition = {"IfNoneMatch": "*"} if etag is None else {"IfMatch": etag}
        try:
            self._s3.put_object(Bucket=bucket, Key=key, Body=page, ContentType="text/html; charset=utf-8", ChecksumAlgorithm="SHA256", **condition)
        except ClientError as error:
            if error.response["Error"].get("Code") in _OVERTAKEN:
                return False
            raise
        return True
