"""Brings model and data into the run folder and finds bad input before the trainer, and so the GPU, does any work.

``control/staged.json`` lists what was fetched with size and sha256: an agent that was ended and started again fetches
only what is missing or different.
"""

import errno
import logging
import shutil
from collections.abc import Callable
from concurrent.futures import Future
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path

from pydantic import Field

from agent import hub, model_files
from agent.control import write_whole
from agent.digests import damage, digest_of, hashers, regular_files
from agent.rows import BadRows, check_first_row
from agent.settings import Folders
from agent.sources import sources_of
from agent.store import Absent, Check, Denied, Found, Store
from jobspec import keys
from jobspec.base import Document, FileDigest
from jobspec.chain import Start
from jobspec.data import Source
from jobspec.marker import Failure, FailureCode
from jobspec.runfile import MAX_FILES
from jobspec.ticket import Ticket
from jobspec.wire import UnreadableDocument, dump, load

#: Left free beside what is downloaded: checkpoints, the result, logs.
RESERVE_BYTES = 1024**3
#: Where an adapter to go on with lies in the run folder.
START_FOLDER = "start"

log = logging.getLogger(__name__)


class StagingFailed(Exception):
    def __init__(self, code: FailureCode, message: str) -> None:
        super().__init__(message)
        # What the user's own file says may be no text: half a surrogate pair, which JSON can hold and a document cannot.
        self.failure = Failure(code=code, message=message.encode("utf-8", "replace").decode()[:2000])


class Staged(Document):
    """Source (with the object's etag or the hub's revision) to the files that came from it, relative to the run folder."""

    sources: dict[str, tuple[FileDigest, ...]] = Field(default_factory=dict)


def free_bytes(folder: Path) -> int:
    return shutil.disk_usage(folder).free


class Stager:
    """``check`` raises once the instance is asked to end; ``free`` gives the bytes free on the disk of a folder."""

    def __init__(
        self, store: Store, ticket: Ticket, folders: Folders, check: Check, sleep: Callable[[float], None], free: Callable[[Path], int] = free_bytes
    ) -> None:
        self._store = store
        self._ticket = ticket
        self._folders = folders
        self._check = check
        self._sleep = sleep
        self._free = free
        self._memory = folders.control / "staged.json"
        self._staged = self._remembered()

    def _remembered(self) -> Staged:
        try:
            return load(Staged, self._memory.read_bytes())
        except (OSError, UnreadableDocument):
            return Staged()

    def stage_data(self) -> None:
        """Fetch and look at the data. First, for it is small, and where people err. Raises StagingFailed, Summoned."""
        for role, source, place in sources_of(self._ticket.manifest.data):
            stage = self._data_from_s3 if source.path else self._data_from_hub
            with_disk_full(partial(stage, role, source, place))

    def stage_model(self) -> None:
        """Fetch the model, and the adapter to go on with where there is one. Raises StagingFailed, Summoned."""
        start, model = self._ticket.start, self._ticket.manifest.model
        if start is not None and start.use == "model":
            with_disk_full(partial(self._model_from_s3, self._ticket.outputs_bucket, start.prefix))
        elif model.s3:
            with_disk_full(partial(self._model_from_s3, *keys.split_location(model.s3, self._ticket.data_bucket)))
        else:
            with_disk_full(self._model_from_hub)
        if found := model_files.fault(self._folders.run / "model"):
            raise StagingFailed(FailureCode.MODEL_INVALID, f"the model {model_reference(self._ticket)} {found}")
        if start is not None and start.use == "adapter":
            with_disk_full(partial(self._adapter, start))

    def _data_from_s3(self, role: str, source: Source, place: str) -> None:
        bucket, key = keys.split_location(str(source.path), self._ticket.data_bucket)
        called = f"the data file s3://{bucket}/{key}"
        try:
            facts = self._store.facts(bucket, key)
        except Denied as error:
            raise self._denied(error, bucket) from None
        except Absent as error:
            raise StagingFailed(FailureCode.DATA_MISSING, f"the data file {error}; check data.{role} in the manifest") from None
        if facts.size == 0:
            raise StagingFailed(FailureCode.DATA_EMPTY, f"{called} is empty; give a file with one JSON object a line")
        self._fetch(bucket, {place: facts})
        self._look_at(place, called)

    def _data_from_hub(self, role: str, source: Source, place: str) -> None:
        """The files of a hub data set, under numbers: what they are called there is not ours to choose."""
        known = f"hub dataset {source.hub}@{source.revision} {source.file} {place}"
        if not self._is_there(known):
            self._need_space(0)
            aside = self._folders.incoming / place
            self._from_hub("dataset", FailureCode.DATA_MISSING, str(source.hub), str(source.revision), aside, (str(source.file),))
            found = sorted(path for path in regular_files(aside) if fnmatchcase(path.relative_to(aside).as_posix(), str(source.file)))
            if not found or len(found) > MAX_FILES:
                shutil.rmtree(aside)
                raise StagingFailed(
                    FailureCode.DATA_MISSING, f"the hub data set {source.called()} has {len(found)} such files, wanted are 1 to {MAX_FILES}; check data.{role}"
                )
            shutil.rmtree(self._folders.run / place, ignore_errors=True)
            (self._folders.run / place).mkdir(parents=True)
            names = [f"{place}/{at:03d}" for at in range(len(found))]
            for path, name in zip(found, names, strict=True):
                path.rename(self._folders.run / name)
            shutil.rmtree(aside)
            self._remember(known, tuple(digest_of(self._folders.run / name, name) for name in names))
        for file in self._staged.sources[known]:
            self._look_at(file.path, f"the hub data set {source.called()}")

    def _look_at(self, name: str, called: str) -> None:
        manifest = self._ticket.manifest
        try:
            check_first_row(self._folders.run / name, manifest.method, manifest.data, called)
        except BadRows as error:
            raise StagingFailed(error.code, str(error)) from None

    def _adapter(self, start: Start) -> None:
        """The finished adapter of another job, as its instance left it."""
        bucket = self._ticket.outputs_bucket
        try:
            wanted = {f"{START_FOLDER}/{name}": self._store.facts(bucket, start.prefix + name) for name in model_files.ADAPTER_FILES}
        except Denied as error:
            raise self._denied(error, bucket) from None
        except Absent as error:
            raise StagingFailed(FailureCode.MODEL_MISSING, f"the adapter of {start.job_id}: {error}; it was removed since that job ended") from None
        self._fetch(bucket, wanted)

    def _model_from_s3(self, bucket: str, key: str) -> None:
        prefix = key.rstrip("/") + "/"
        try:
            listed = list(self._store.list(bucket, prefix))
        except Denied as error:
            raise self._denied(error, bucket) from None
        except Absent as error:
            raise StagingFailed(FailureCode.MODEL_MISSING, f"the model {error}; check model.s3 in the manifest") from None
        found = {name: one for one in listed if model_files.is_allowed(name := one.key.removeprefix(prefix))}
        if not listed:
            raise StagingFailed(FailureCode.MODEL_MISSING, f"there is nothing at s3://{bucket}/{prefix}; check model.s3 in the manifest")
        if missing := model_files.lack(set(found)):
            raise StagingFailed(FailureCode.MODEL_INVALID, f"the model s3://{bucket}/{prefix} {missing}")
        self._fetch(bucket, {f"model/{name}": one for name, one in found.items()})

    def _denied(self, error: Denied, bucket: str) -> StagingFailed:
        """What to do about a refusal: another sentence for the stack's own buckets than for somebody's."""
        if bucket in (self._ticket.data_bucket, self._ticket.outputs_bucket):
            remedy = "models and rows lie under models/ and data/ by custom; status/, receipts/ and tickets/ are not for jobs"
        else:
            remedy = (
                f"the stack's parameter ReadBuckets must name {bucket} beside those that it names already "
                f"(sam deploy --parameter-overrides ReadBuckets=...,{bucket}), and neither that bucket's policy nor its encryption key may refuse the role"
            )
        return StagingFailed(FailureCode.ACCESS_DENIED, f"{error}; {remedy}")

    def _fetch(self, bucket: str, wanted: dict[str, Found]) -> None:
        """Each wanted name in the run folder, from its object; what is there already and unchanged stays."""
        missing = {name: one for name, one in wanted.items() if not self._is_there(_source(bucket, one), name)}
        self._need_space(sum(one.size for one in missing.values()))
        # One file after the other, each in parts on all connections; its digest is computed while the next one arrives.
        with hashers(len(missing)) as pool:
            digests: dict[str, Future[FileDigest]] = {}
            for name, one in missing.items():
                self._check()
                self._download(bucket, one, name)
                digests[_source(bucket, one)] = pool.submit(digest_of, self._folders.run / name, name)
                for source in [source for source, digest in digests.items() if digest.done()]:
                    self._remember(source, (digests.pop(source).result(),))
            for source, digest in digests.items():
                self._remember(source, (digest.result(),))

    def _download(self, bucket: str, one: Found, name: str) -> None:
        try:
            self._store.download(bucket, one.key, self._folders.run / name, self._folders.incoming, self._check)
        except Denied as error:
            raise self._denied(error, bucket) from None
        except Absent as error:
            code = FailureCode.MODEL_MISSING if name.startswith("model/") else FailureCode.DATA_MISSING
            raise StagingFailed(code, str(error)) from None

    def _model_from_hub(self) -> None:
        model = self._ticket.manifest.model
        source = f"hub {model.reference()}"
        if self._is_there(source):
            return
        # How large a hub model is, is not known before; a full disk is noticed as such all the same.
        self._need_space(0)
        folder = self._folders.run / "model"
        self._from_hub("model", FailureCode.MODEL_MISSING, str(model.hub), str(model.revision), folder, model_files.ALLOWED_PATTERNS)
        names = sorted(path.name for path in folder.iterdir() if model_files.is_allowed(path.name))
        self._remember(source, tuple(digest_of(folder / name, f"model/{name}") for name in names))

    def _from_hub(self, kind: str, missing: FailureCode, repository: str, revision: str, folder: Path, patterns: tuple[str, ...]) -> None:
        try:
            hub.fetch(kind, repository, revision, folder, patterns, self._folders.incoming / "hub", self._check, self._sleep)
        except Absent as error:
            raise StagingFailed(missing, str(error)) from None

    def _is_there(self, source: str, name: str | None = None) -> bool:
        files = self._staged.sources.get(source, ())
        named = name is None or [file.path for file in files] == [name]
        return bool(files) and named and damage(self._folders.run, files, self._check) is None

    def _remember(self, source: str, files: tuple[FileDigest, ...]) -> None:
        self._staged = Staged(sources={**self._staged.sources, source: files})
        write_whole(self._memory, dump(self._staged))

    def _need_space(self, size: int) -> None:
        free = self._free(self._folders.run)
        if size + RESERVE_BYTES > free:
            raise OSError(errno.ENOSPC, f"{size / 1e9:.1f} GB to download and {RESERVE_BYTES / 1e9:.1f} GB to work with, but {free / 1e9:.1f} GB free")


def model_reference(ticket: Ticket) -> str:
    """How the base model is named in results: the manifest's, or the one that another job made."""
    start = ticket.start
    return f"s3://{ticket.outputs_bucket}/{start.prefix}" if start is not None and start.use == "model" else ticket.manifest.model.reference()


def _source(bucket: str, found: Found) -> str:
    return f"s3://{bucket}/{found.key} {found.etag}"


def with_disk_full(work: Callable[[], None]) -> None:
    """Does ``work``; a full disk becomes a StagingFailed that says so."""
    try:
        work()
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise StagingFailed(
            FailureCode.DISK_FULL, f"the instance's disk is too small: {error.strerror}; raise the volume size of the launch template"
        ) from None
