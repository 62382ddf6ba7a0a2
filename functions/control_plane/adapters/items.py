"""What lies in the job table, and how a job becomes an item and is read from one.

Items, by their key ``pk``::

    JOB#<job id>            version (N), state, name, instances (L of ids), occupies (BOOL), open "1" and place until settled, and the document:
                            body (S, JSON), or packed (B, zlib of it) where it is long: plans of a hundred attempts repeat themselves
    NAME#<name>             job_id      whose the name is, ended or not
    KEY#<bucket>/<key>      job_id      whose the manifest is
    INSTANCE#<id>           job_id      appears in the same write as the attempt
    PROJECT#hold            body (S, JSON)
    PROJECT#turns           version (N), holders (L of job ids): written in the same transaction as the job that takes or gives a turn
    SPEND#<month>           see adapters.spend: written in the same transaction as the job that is settled
    NOTICE#<notice id>      messages (SS of SNS message ids), expires_at (TTL): the publish ledger
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

from control_plane.adapters.errors import JobTooLarge

if TYPE_CHECKING:
    # Imported where an item is a job's: doors that read a hold or a notice start without its models.
    from control_plane.core.state import Job

#: A DynamoDB item ends at 400 KB; the rest is for the other attributes (a hundred instance ids are 3 KB).
MAX_BODY_BYTES = 380_000
#: Up to here a person can read the document in the console, and compressing would save no write unit worth having.
MAX_PLAIN_BYTES = 32_000

Item = dict[str, Any]


def job_pk(job_id: str) -> str:
    return f"JOB#{job_id}"


def key_pk(bucket: str, key: str) -> str:
    return f"KEY#{bucket}/{key}"


def name_pk(name: str) -> str:
    return f"NAME#{name}"


def instance_pk(instance_id: str) -> str:
    return f"INSTANCE#{instance_id}"


def pointer(pk: str, job_id: str) -> Item:
    """The item that says whose a name, a manifest's key or an instance is."""
    return {"pk": {"S": pk}, "job_id": {"S": job_id}}


def read(dynamodb: Any, table_name: str, pk: str, *, only: str = "") -> Item | None:
    """The item as it is stored now (a consistent read), or its attribute ``only``; None where there is none."""
    request: Item = {"TableName": table_name, "Key": {"pk": {"S": pk}}, "ConsistentRead": True}
    if only:
        request["ProjectionExpression"] = only
    item: Item | None = dynamodb.get_item(**request).get("Item")
    return item


def item_of(job: Job) -> Item:
    """The whole item of the job, with what the index and a person in the console look for beside the document. Raises JobTooLarge."""
    from control_plane.core.turns import place_of

    item: Item = {
        "pk": {"S": job_pk(job.job_id)},
        "version": {"N": str(job.version)},
        "state": {"S": job.state.value},
        "name": {"S": job.name},
        "instances": {"L": [{"S": i.instance_id} for a in job.attempts for i in a.instances]},
        "occupies": {"BOOL": job.occupies},
    }
    if not job.settled:
        item |= {"open": {"S": "1"}, "place": {"S": place_of(job)}}
    return item | document_of(job)


def document_of(job: Job) -> Item:
    """The attribute that holds the whole job. Raises JobTooLarge."""
    body = job.model_dump_json().encode()
    if len(body) <= MAX_PLAIN_BYTES:
        return {"body": {"S": body.decode()}}
    packed = zlib.compress(body)
    if len(packed) > MAX_BODY_BYTES:
        raise JobTooLarge(job.job_id, len(packed), MAX_BODY_BYTES, len(job.attempts))
    return {"packed": {"B": packed}}


def job_of(item: Item) -> Job:
    """The job in an item that ``item_of`` made, now or before an update. Raises pydantic's ValidationError for any other."""
    from control_plane.core.state import Job

    if "packed" in item:
        return Job.model_validate_json(zlib.decompress(item["packed"]["B"]))
    return Job.model_validate_json(item["body"]["S"])
