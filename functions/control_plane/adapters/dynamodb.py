"""The job store over DynamoDB: every read by key is consistent, every write conditional. What lies in the table: ``items``.

The index ``open`` (hash ``open``, range ``place``, keys only) is sparse: it holds the unsettled jobs and nothing else, so that
a tick's work does not grow with history, and it holds them in the order of ``core.turns``. An index is eventually consistent,
as ``unsettled`` and the line may be; the number of turns is not: it is kept by the transaction.
"""

from bisect import bisect_left
from collections.abc import Iterator
from threading import Lock
from typing import Any, NamedTuple

from botocore.exceptions import ClientError

from control_plane.adapters import items
from control_plane.adapters.errors import InstanceTaken
from control_plane.adapters.items import Item
from control_plane.adapters.recent import Recent
from control_plane.adapters.spend import DynamoSpend
from control_plane.core.state import Job
from control_plane.core.turns import WAITING, turn_of
from control_plane.ports import Clock, Held, NameTaken, NoTurn, StaleVersion

OPEN_INDEX = "open"
#: Rounds of a create that others outrun; each round someone made progress.
_MAX_ROUNDS = 5
#: Jobs whose last version is kept in memory: those that are driven side by side, and some ticks of a small project.
_MOST_NOTED = 100


class Line(NamedTuple):
    """How many turns are free, and the places of so many that wait, the first first."""

    free: int
    places: list[str]


class DynamoStore:
    """A JobStore, and the project's Turns, over a boto3 DynamoDB client and a table's name."""

    def __init__(self, dynamodb: Any, table_name: str, max_concurrent_jobs: int, now: Clock) -> None:
        self._dynamodb = dynamodb
        self._table = table_name
        self._max_jobs = max_concurrent_jobs
        self._spend = DynamoSpend(dynamodb, table_name)
        #: What was last read or written of some jobs: a version is written once, so this is true of it for ever.
        self._last: dict[str, Job] = {}
        self._noting = Lock()
        self._line = Recent(self._read_line, now)

    def load(self, job_id: str) -> Job | None:
        item = items.read(self._dynamodb, self._table, items.job_pk(job_id))
        return None if item is None else self._noted(items.job_of(item))

    def create(self, job: Job) -> Job | Held | None:
        """Raises StaleVersion where other creators kept winning: deliver the event again."""
        pointers = {} if job.refused_beside else {"name": items.name_pk(job.name), "key": items.key_pk(job.manifest_ref.bucket, job.manifest_ref.key)}
        new = self._put(items.item_of(job), "attribute_not_exists(pk)")
        # Most manifests are new, and so are their names: then this one write is all. Where it fails, DynamoDB says what stood in its way.
        old_ids: dict[str, str | None] = dict.fromkeys(pointers.values())
        for _ in range(_MAX_ROUNDS):
            stood = self._outrun([new, *(self._take(pk, job.job_id, old_id) for pk, old_id in old_ids.items())], tells=True)
            if stood is None:
                self._noted(job)
                return None
            existing = self.load(job.job_id) if stood[0] is not None else None
            if existing is not None:
                return existing
            old_ids = {pk: old_id if item is None else self._named_by(item, pk) for (pk, old_id), item in zip(old_ids.items(), stood[1:], strict=True)}
            # The name and the key of a manifest that was put again are one job's.
            holders = {old_id: self.load(old_id) for old_id in dict.fromkeys(old_ids.values()) if old_id is not None}
            for what, pk in pointers.items():
                holder = holders.get(old_ids[pk] or "")
                if holder is not None and holder.is_schedule and holder.manifest_ref == job.manifest_ref:
                    # A schedule that was changed by this very version, and may have ended since.
                    return holder
                if holder is not None and not holder.ended:
                    return Held(holder, what)
        raise StaleVersion(f"job {job.job_id}: others took its name or key {_MAX_ROUNDS} times in a row while it was created")

    def save(self, job: Job, births: tuple[Job, ...] = ()) -> Job:
        saved = job.model_copy(update={"version": job.version + 1})
        put = self._put(items.item_of(saved), "version = :loaded", {":loaded": {"N": str(job.version)}})
        mine = {":mine": {"S": job.job_id}}
        # Pointers and turns are written when they change, not with each of a hundred saves.
        before = self._before(job)
        new = [i.instance_id for a in job.attempts for i in a.instances if before.attempt_of(i.instance_id) is None]
        pointers = [self._put(items.pointer(items.instance_pk(i), job.job_id), "attribute_not_exists(pk) OR job_id = :mine", mine) for i in new]
        turn = [] if before.occupies is job.occupies else [self._turn(job)]
        # A settled job is saved for the last time: every instance is gone, so its cost is what it will ever be.
        shared = [*turn, *(self._spend.settling(job, job.updated_at) if job.settled else ())]
        outrun = self._outrun_at([put, *shared, *pointers, *(write for birth in births for write in self._birth(birth))])
        if outrun is None:
            if turn:
                self._line.forget()
            return self._noted(saved)
        if len(shared) < outrun <= len(shared) + len(pointers):
            raise InstanceTaken(job.job_id, [new[outrun - 1 - len(shared)]])
        raise StaleVersion(f"job {job.job_id}: version {job.version}, or what it shares with other jobs, is not the stored one any more")

    def _birth(self, job: Job) -> list[Item]:
        """The writes that create a job with its parent. The manifest's key stays the parent's."""
        pk = items.name_pk(job.name)
        old_id = self._pointed(pk)
        holder = self.load(old_id) if old_id else None
        if holder is not None and not holder.ended:
            raise NameTaken(job.name, holder.job_id)
        return [self._put(items.item_of(job), "attribute_not_exists(pk)"), self._take(pk, job.job_id, old_id)]

    def find(self, *, instance_id: str = "", bucket: str = "", key: str = "", name: str = "") -> str | None:
        if instance_id:
            return self._pointed(items.instance_pk(instance_id))
        return self._pointed(items.name_pk(name) if name else items.key_pk(bucket, key))

    def unsettled(self) -> Iterator[str]:
        pages = self._dynamodb.get_paginator("query").paginate(
            TableName=self._table,
            IndexName=OPEN_INDEX,
            KeyConditionExpression="#open = :yes",
            ExpressionAttributeNames={"#open": "open"},
            ExpressionAttributeValues={":yes": {"S": "1"}},
        )
        for page in pages:
            for item in page["Items"]:
                yield item["pk"]["S"].removeprefix("JOB#")

    def refusal(self, job: Job) -> str | None:
        """See ports.Turns. The line is read from the index: who came a moment ago may be overlooked, who waits long is not.

        A moment-old reading may say no, for thousands may wait, and the next tick asks again. Only a fresh one says yes.
        """
        kept = self._line.kept()
        return (self._refusal(job, kept) if kept is not None else None) or self._refusal(job, self._line.anew())

    def _refusal(self, job: Job, line: Line) -> str | None:
        if line.free <= 0:
            return self._all_taken()
        # Places sort as the jobs are to be taken, so the first of the line say it for all.
        ahead = bisect_left(line.places, turn_of(job))
        return "others wait longer or with priority" if ahead >= line.free else None

    def _read_line(self) -> Line:
        _, holders = self._holders()
        free = self._max_jobs - len(holders)
        if free <= 0:
            return Line(free, [])
        answer = self._dynamodb.query(
            TableName=self._table,
            IndexName=OPEN_INDEX,
            KeyConditionExpression="#open = :yes AND begins_with(place, :waiting)",
            ExpressionAttributeNames={"#open": "open"},
            ExpressionAttributeValues={":yes": {"S": "1"}, ":waiting": {"S": WAITING}},
            Limit=free,
        )
        return Line(free, [item["place"]["S"] for item in answer["Items"]])

    def _before(self, job: Job) -> Job:
        """The stored job that ``job`` is to follow. Raises StaleVersion where another does already."""
        last = self._last.get(job.job_id)
        if last is None or last.version != job.version:
            last = self.load(job.job_id)
        if last is None or last.version != job.version:
            raise StaleVersion(f"job {job.job_id}: version {job.version} is not the stored one any more")
        return last

    def _noted(self, job: Job) -> Job:
        """The oldest goes first: a tick's threads still need what they have just read."""
        with self._noting:
            self._last.pop(job.job_id, None)
            self._last[job.job_id] = job
            if len(self._last) > _MOST_NOTED:
                del self._last[next(iter(self._last))]
        return job

    def _all_taken(self) -> str:
        return f"{self._max_jobs} jobs run, as many as may (MaxConcurrentJobs)"

    def _holders(self) -> tuple[int, list[str]]:
        """Version and holders of the turns; version 0 before the first was taken."""
        item = items.read(self._dynamodb, self._table, "PROJECT#turns")
        return (0, []) if item is None else (int(item["version"]["N"]), [entry["S"] for entry in item["holders"]["L"]])

    def _turn(self, job: Job) -> Item:
        """The write that takes a turn for the job, or gives its turn back. Raises NoTurn."""
        version, holders = self._holders()
        others = [holder for holder in holders if holder != job.job_id]
        if job.occupies and len(others) >= self._max_jobs:
            raise NoTurn(self._all_taken())
        after = [*others, job.job_id] if job.occupies else others
        item = {"pk": {"S": "PROJECT#turns"}, "version": {"N": str(version + 1)}, "holders": {"L": [{"S": holder} for holder in after]}}
        if not version:
            return self._put(item, "attribute_not_exists(pk)")
        return self._put(item, "version = :loaded", {":loaded": {"N": str(version)}})

    def _pointed(self, pk: str) -> str | None:
        item = items.read(self._dynamodb, self._table, pk)
        return None if item is None else str(item["job_id"]["S"])

    def _named_by(self, item: Item, pk: str) -> str | None:
        """Whom the pointer names, by the item that DynamoDB told of, or by a look where it told of none."""
        return str(item["job_id"]["S"]) if item else self._pointed(pk)

    def _take(self, pk: str, job_id: str, old_id: str | None) -> Item:
        """Point ``pk`` at the job, if it still points where it was read to point."""
        item = items.pointer(pk, job_id)
        if old_id is None:
            return self._put(item, "attribute_not_exists(pk)")
        return self._put(item, "job_id = :old", {":old": {"S": old_id}})

    def _put(self, item: Item, condition: str, values: Item | None = None) -> Item:
        put: Item = {"TableName": self._table, "Item": item, "ConditionExpression": condition}
        return put | {"ExpressionAttributeValues": values} if values else put

    def _outrun_at(self, puts: list[Item]) -> int | None:
        """``_outrun``'s answer as the place of the first put that somebody else's write forbade."""
        stood = self._outrun(puts)
        return None if stood is None else next(place for place, item in enumerate(stood) if item is not None)

    def _outrun(self, puts: list[Item], *, tells: bool = False) -> list[Item | None] | None:
        """Write all or nothing: None once written; else, put by put, None or the item that forbade it, empty where that is not told (``tells`` asks for it).

        A transaction even for a single put: botocore gives it a request token, so that its retry after a lost answer is answered
        as the first, where a plain conditional put would find its own write and call it somebody else's.
        """
        asked: Item = {"ReturnValuesOnConditionCheckFailure": "ALL_OLD"} if tells else {}
        try:
            self._dynamodb.transact_write_items(TransactItems=[{"Put": put | asked} for put in puts])
        except ClientError as error:
            reasons: list[Any] = error.response.get("CancellationReasons", [])
            codes = [reason.get("Code") for reason in reasons]
            if "TransactionConflict" in codes:
                # Another transaction holds one of the items, so the job is being written: the same news as a lost condition on it.
                return [{} for _ in puts]
            if "ConditionalCheckFailed" in codes:
                return [reason.get("Item", {}) if code == "ConditionalCheckFailed" else None for code, reason in zip(codes, reasons, strict=True)]
            raise
        return None
