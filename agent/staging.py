"""Brings model and data into the run folder and finds bad input before the trainer, and so the GPU, does any work.

``control/staged.json`` lists what was fetched with size and sha256: an agent that was ended and started again fetches
only what is missing or different.
"""

import errno
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from pydantic import Field

from agent import hub, model_files
from agent.control import write_whole
from agent.digests import damage, digest_of
from agent.rows import BadRows, check_first_row
from agent.settings import Folders
from agent.store import Absent, Check, Found, Store
from jobspec.base import Document, FileDigest
from jobspec.marker import Failure, FailureCode
from jobspec.ticket import Ticket
from jobspec.wire import UnreadableDocument, dump, load

#: Left free beside what is downloaded: checkpoints, the result, logs.
RESERVE_BYTES = 1024**3
HUB_LOOK_S = 0.5

log = logging.getLogger(__name__)


class StagingFailed(Exception):
    def __init__(self, code: FailureCode, message: str) -> None:
        super().__init__(message)
        # What the user's own file says may be no text: half a surrogate pair, which JSON can hold and a document cannot.
        self.failure = Failure(code=code, message=message.encode("utf-8", "replace").decode()[:2000])


class Staged(Document):
    """Source (with the object's etag or the hub's revision) to the files that came from it, relative to the run folder."""

    sources: dict[str, tuple[FileDigest, ...]] = Field(default_factory=dict)


def split_location(location: str, bucket: str) -> tuple[str, str]:
    """Bucket and key of a manifest's location; a plain key lies in ``bucket``."""
    if location.startswith("s3://"):
        found, _, key = location.removeprefix("s3://").partition("/")
        return found, key
    return bucket, location


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
        data = self._ticket.manifest.data
        with_disk_full(lambda: self._data_file(data.train, "data/train.jsonl"))
        if data.eval is not None:
            location = data.eval
            with_disk_full(lambda: self._data_file(location, "data/eval.jsonl"))

    def stage_model(self) -> None:
        """Fetch the model. Raises StagingFailed, Summoned."""
        with_disk_full(self._model_from_s3 if self._ticket.manifest.model.s3 else self._model_from_hub)
        folder = self._folders.run / "model"
        if found := model_files.fault(folder):
            raise StagingFailed(FailureCode.MODEL_INVALID, f"the model {self._ticket.manifest.model.reference()} {found}")

    def _data_file(self, location: str, name: str) -> None:
        bucket, key = split_location(location, self._ticket.data_bucket)
        try:
            facts = self._store.facts(bucket, key)
        except Absent as error:
            raise StagingFailed(FailureCode.DATA_MISSING, f"the data file {error}; check data.train and data.eval in the manifest") from None
        if facts.size == 0:
            raise StagingFailed(FailureCode.DATA_EMPTY, f"the data file s3://{bucket}/{key} is empty; give a file with one JSON object a line")
        self._fetch(bucket, {name: facts})
        try:
            check_first_row(self._folders.run / name, self._ticket.manifest.data.format, f"the data file s3://{bucket}/{key}")
        except BadRows as error:
            raise StagingFailed(error.code, str(error)) from None

    def _model_from_s3(self) -> None:
        bucket, key = split_location(str(self._ticket.manifest.model.s3), self._ticket.data_bucket)
        prefix = key.rstrip("/") + "/"
        try:
            listed = list(self._store.list(bucket, prefix))
        except Absent as error:
            raise StagingFailed(FailureCode.MODEL_MISSING, f"the model {error}; check model.s3 in the manifest") from None
        found = {name: one for one in listed if model_files.is_allowed(name := one.key.removeprefix(prefix))}
        if not listed:
            raise StagingFailed(FailureCode.MODEL_MISSING, f"there is nothing at s3://{bucket}/{prefix}; check model.s3 in the manifest")
        if missing := model_files.lack(set(found)):
            raise StagingFailed(FailureCode.MODEL_INVALID, f"the model s3://{bucket}/{prefix} {missing}")
        self._fetch(bucket, {f"model/{name}": one for name, one in found.items()})

    def _fetch(self, bucket: str, wanted: dict[str, Found]) -> None:
        """Each wanted name in the run folder, from its object; what is there already and unchanged stays."""
        missing = {name: one for name, one in wanted.items() if not self._is_there(_source(bucket, one), name)}
        self._need_space(sum(one.size for one in missing.values()))
        for name, one in missing.items():
            self._check()
            try:
                self._store.download(bucket, one.key, self._folders.run / name, self._folders.incoming, self._check)
            except Absent as error:
                code = FailureCode.MODEL_MISSING if name.startswith("model/") else FailureCode.DATA_MISSING
                raise StagingFailed(code, str(error)) from None
            self._remember(_source(bucket, one), (digest_of(self._folders.run / name, name),))

    def _model_from_hub(self) -> None:
        model = self._ticket.manifest.model
        source = f"hub {model.reference()}"
        if self._is_there(source):
            return
        # How large a hub model is, is not known before; a full disk is noticed as such all the same.
        self._need_space(0)
        folder = self._folders.run / "model"
        self._run_hub(str(model.hub), str(model.revision), folder)
        names = sorted(path.name for path in folder.iterdir() if model_files.is_allowed(path.name))
        self._remember(source, tuple(digest_of(folder / name, f"model/{name}") for name in names))

    def _run_hub(self, repository: str, revision: str, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        # The image is offline for the trainer's sake; this one process is not.
        environment = {**os.environ, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HOME": str(self._folders.incoming / "hub")}
        command = [sys.executable, "-m", hub.__name__, repository, revision, str(folder)]
        # A file, not a pipe: whoever fills a pipe that nobody reads stands still, and a download of hours says much.
        with tempfile.TemporaryFile() as words:
            with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=words) as process:  # noqa: S603 - our own module; id and revision are held to patterns
                try:
                    while process.poll() is None:
                        self._check()
                        self._sleep(HUB_LOOK_S)
                except BaseException:
                    process.kill()
                    raise
            words.seek(max(0, words.seek(0, os.SEEK_END) - 4000))
            told = words.read(4000).decode("utf-8", "replace").strip()[-500:]
        if process.returncode == hub.EXIT_MISSING:
            raise StagingFailed(FailureCode.MODEL_MISSING, f"the hub has no public model {repository} at {revision}: {told}")
        if "No space left" in told:
            raise OSError(errno.ENOSPC, told)
        if process.returncode != 0:
            raise ConnectionError(f"the hub did not give {repository}@{revision}: {told}")

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
