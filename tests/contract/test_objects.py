"""Objects: the same on both sides, and what only S3 can answer."""

import base64
import hashlib
from typing import Any

import pytest
from botocore.exceptions import ClientError

from control_plane.adapters.s3 import S3Objects, whole_sha256
from control_plane.ports import ObjectFacts, Objects
from tests.contract.sides import InMemorySide, MotoSide, Side


class ObjectWorld:
    """A versioned bucket, and what others than the port do to it."""

    def __init__(self, side: Side) -> None:
        self.s3 = side.client("s3")
        self.bucket = side.bucket("data-bucket")
        self.objects: Objects = S3Objects(self.s3)
        self._in_memory = side.account.s3 if isinstance(side, InMemorySide) else None

    def delete(self, key: str) -> None:
        if self._in_memory:
            self._in_memory.remove(self.bucket, key)
        else:
            self.s3.delete_object(Bucket=self.bucket, Key=key)

    def put_multipart(self, key: str, body: bytes) -> None:
        if self._in_memory:
            self._in_memory.write(self.bucket, key, body, multipart=True)
            return
        where = {"Bucket": self.bucket, "Key": key}
        upload = {"UploadId": self.s3.create_multipart_upload(**where)["UploadId"]}
        part = self.s3.upload_part(**where, **upload, PartNumber=1, Body=body)
        self.s3.complete_multipart_upload(**where, **upload, MultipartUpload={"Parts": [{"ETag": part["ETag"], "PartNumber": 1}]})


@pytest.fixture
def world(side: Side) -> ObjectWorld:
    return ObjectWorld(side)


def test_what_is_not_there_is_none(world: ObjectWorld) -> None:
    assert world.objects.get(world.bucket, "jobs/demo.yaml", max_bytes=100) is None
    assert world.objects.head(world.bucket, "jobs/demo.yaml") is None


def test_what_was_put_is_read_back(world: ObjectWorld) -> None:
    world.objects.put(world.bucket, "jobs/demo.yaml", b"name: demo\n")
    found = world.objects.get(world.bucket, "jobs/demo.yaml", max_bytes=100)
    assert found is not None
    assert (found.body, found.size) == (b"name: demo\n", 11)


@pytest.mark.parametrize(("max_bytes", "read"), [(4, b"0123"), (10, b"0123456789"), (11, b"0123456789")])
def test_no_more_than_asked_for_is_read_and_the_whole_size_is_told(world: ObjectWorld, max_bytes: int, read: bytes) -> None:
    world.objects.put(world.bucket, "key", b"0123456789")
    found = world.objects.get(world.bucket, "key", max_bytes=max_bytes)
    assert found is not None
    assert (found.body, found.size) == (read, 10)


def test_an_empty_object_is_there_and_empty(world: ObjectWorld) -> None:
    world.objects.put(world.bucket, "key", b"")
    found = world.objects.get(world.bucket, "key", max_bytes=100)
    assert found is not None
    assert (found.body, found.size) == (b"", 0)
    assert found.version_id
    assert world.objects.head(world.bucket, "key") == ObjectFacts(0, hashlib.sha256(b"").hexdigest())


def test_the_newest_version_is_read_under_its_own_id(world: ObjectWorld) -> None:
    seen = []
    for body in (b"one", b"two", b"two"):
        world.objects.put(world.bucket, "key", body)
        found = world.objects.get(world.bucket, "key", max_bytes=100)
        assert found is not None
        assert found.body == body
        again = world.objects.get(world.bucket, "key", max_bytes=1)
        assert again is not None
        assert again.version_id == found.version_id
        seen.append(found.version_id)
    assert len(set(seen)) == 3


def test_a_deleted_object_is_none_and_may_come_back(world: ObjectWorld) -> None:
    world.objects.put(world.bucket, "key", b"one")
    world.delete("key")
    assert world.objects.get(world.bucket, "key", max_bytes=100) is None
    assert world.objects.head(world.bucket, "key") is None
    world.objects.put(world.bucket, "key", b"two")
    assert world.objects.head(world.bucket, "key") is not None


def test_head_tells_size_and_sha256_of_what_was_put_whole(world: ObjectWorld) -> None:
    world.objects.put(world.bucket, "key", b"weights")
    assert world.objects.head(world.bucket, "key") == ObjectFacts(7, hashlib.sha256(b"weights").hexdigest())


def test_a_multipart_upload_has_a_size_and_no_sha256_of_the_whole(world: ObjectWorld) -> None:
    world.put_multipart("key", b"weights")
    assert world.objects.head(world.bucket, "key") == ObjectFacts(7, None)


def test_a_bucket_that_does_not_exist_is_an_error_not_an_absence(world: ObjectWorld) -> None:
    with pytest.raises(ClientError, match="NoSuchBucket"):
        world.objects.get(f"{world.bucket}-missing", "key", max_bytes=100)
    with pytest.raises(ClientError, match="NoSuchBucket"):
        world.objects.put(f"{world.bucket}-missing", "key", b"")


def test_the_current_objects_below_a_prefix_are_listed_with_their_time_page_by_page(world: ObjectWorld) -> None:
    for n in range(5):
        world.objects.put(world.bucket, f"jobs/{n}.yaml", b"name: demo")
    world.objects.put(world.bucket, "jobs/2.yaml", b"again")
    world.objects.put(world.bucket, "status/a.json", b"{}")
    world.delete("jobs/3.yaml")
    listed = list(world.objects.list(world.bucket, "jobs/"))
    assert [one.key for one in listed] == ["jobs/0.yaml", "jobs/1.yaml", "jobs/2.yaml", "jobs/4.yaml"]
    assert all(one.modified_at.tzinfo is not None and one.modified_at.microsecond == 0 for one in listed)
    assert list(world.objects.list(world.bucket, "runs/")) == []


def test_an_object_is_replaced_only_while_it_is_the_one_that_was_read(world: ObjectWorld) -> None:
    assert world.objects.replace(world.bucket, "key", b"one", None)
    assert not world.objects.replace(world.bucket, "key", b"another", None), "there is one now"
    first = world.objects.get(world.bucket, "key", max_bytes=100)
    assert first is not None
    assert world.objects.replace(world.bucket, "key", b"two", first.etag)
    assert not world.objects.replace(world.bucket, "key", b"three", first.etag), "it is another one now"
    found = world.objects.get(world.bucket, "key", max_bytes=100)
    assert found is not None
    assert found.body == b"two"


def test_what_was_deleted_can_be_put_anew_and_not_replaced(world: ObjectWorld) -> None:
    world.objects.put(world.bucket, "key", b"one")
    found = world.objects.get(world.bucket, "key", max_bytes=100)
    assert found is not None
    world.delete("key")
    assert not world.objects.replace(world.bucket, "key", b"two", found.etag)
    assert world.objects.head(world.bucket, "key") is None
    assert world.objects.replace(world.bucket, "key", b"two", None)


def test_the_same_bytes_have_the_same_etag(world: ObjectWorld) -> None:
    """So a status that did not change may be written by two at a time, and neither is told of the other."""
    etags = []
    for _ in range(2):
        world.objects.put(world.bucket, "key", b"same")
        found = world.objects.get(world.bucket, "key", max_bytes=100)
        assert found is not None
        etags.append(found.etag)
    assert etags[0] == etags[1]


@pytest.fixture
def s3_world(aws: MotoSide) -> ObjectWorld:
    return ObjectWorld(aws)


def test_a_refused_read_is_an_error_not_an_absence(s3_world: ObjectWorld) -> None:
    def refuse(model: Any, **_: Any) -> None:
        raise ClientError({"Error": {"Code": "403" if model.name == "HeadObject" else "AccessDenied", "Message": "Forbidden"}}, model.name)

    s3_world.s3.meta.events.register("before-call.s3", refuse)
    with pytest.raises(ClientError, match="AccessDenied"):
        s3_world.objects.get(s3_world.bucket, "key", max_bytes=100)
    with pytest.raises(ClientError, match="403"):
        s3_world.objects.head(s3_world.bucket, "key")


@pytest.mark.parametrize("code", ["ConditionalRequestConflict", "PreconditionFailed"])
def test_a_conditional_write_that_meets_another_is_not_made(s3_world: ObjectWorld, code: str) -> None:
    """S3 answers 409 while another conditional write of the key is under way (S3 guide, "Conditional writes"); moto never does."""

    def refuse(**_: Any) -> None:
        raise ClientError({"Error": {"Code": code, "Message": "S3's words."}}, "PutObject")

    s3_world.s3.meta.events.register("before-call.s3.PutObject", refuse)
    assert not s3_world.objects.replace(s3_world.bucket, "key", b"body", None)


def test_a_refused_write_is_an_error_and_not_a_lost_race(s3_world: ObjectWorld) -> None:
    def refuse(**_: Any) -> None:
        raise ClientError({"Error": {"Code": "AccessDenied", "Message": "S3's words."}}, "PutObject")

    s3_world.s3.meta.events.register("before-call.s3.PutObject", refuse)
    with pytest.raises(ClientError, match="AccessDenied"):
        s3_world.objects.replace(s3_world.bucket, "key", b"body", None)


@pytest.mark.parametrize("version_id", [None, "null"])
def test_without_versioning_the_etag_stands_for_the_version_as_in_s3s_events(s3_world: ObjectWorld, version_id: str | None) -> None:
    """S3 names no version where versioning was never on, and "null" where it was suspended; moto names none for both."""

    def rename(parsed: dict[str, Any], **_: Any) -> None:
        parsed.update({"VersionId": version_id} if version_id else {})

    s3_world.s3.create_bucket(Bucket="plain-bucket")
    s3_world.s3.meta.events.register("after-call.s3.GetObject", rename)
    s3_world.objects.put("plain-bucket", "key", b"body")
    found = s3_world.objects.get("plain-bucket", "key", max_bytes=100)
    assert found is not None
    assert found.version_id == hashlib.md5(b"body", usedforsecurity=False).hexdigest()


def test_the_range_is_asked_of_s3_and_not_cut_after_a_whole_download(s3_world: ObjectWorld) -> None:
    asked: list[str] = []
    s3_world.s3.meta.events.register("before-parameter-build.s3.GetObject", lambda params, **_: asked.append(params["Range"]))
    s3_world.objects.put(s3_world.bucket, "key", b"0123456789")
    s3_world.objects.get(s3_world.bucket, "key", max_bytes=4)
    assert asked == ["bytes=0-3"]


_SHA = base64.b64encode(hashlib.sha256(b"x").digest()).decode()


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"ChecksumSHA256": _SHA, "ChecksumType": "FULL_OBJECT"}, hashlib.sha256(b"x").hexdigest()),
        ({"ChecksumSHA256": _SHA}, hashlib.sha256(b"x").hexdigest()),
        ({"ChecksumSHA256": _SHA, "ChecksumType": "COMPOSITE"}, None),
        ({"ChecksumSHA256": _SHA + "-3"}, None),
        ({"ChecksumSHA256": "not base64!"}, None),
        ({"ChecksumCRC32": "AAAAAA=="}, None),
    ],
)
def test_only_a_checksum_of_the_whole_object_counts(answer: dict[str, Any], expected: str | None) -> None:
    assert whole_sha256(answer) == expected
