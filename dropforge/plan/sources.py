"""Where a plan's facts come from: files of this machine where they are given, else S3, else nothing, and then it says so."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar

import click
from botocore.exceptions import BotoCoreError, ClientError

from dropforge.refusals import explained
from dropforge.stack import Stack
from jobspec import keys
from jobspec.instances import PRICES_REGION
from jobspec.manifest import Manifest
from planning.estimate import JobPlan, plan_of
from planning.rows import Rows
from planning.shape import CannotTell, Shape
from planning.subject import MAX_CONFIG_BYTES, Absent, Look, Seen, data_rows, model_shape, rows_in, shape_in

T = TypeVar("T")
#: Of a local file everything is read: a person waits a second, and rows are then counted, not guessed.
MAX_LOCAL_BYTES = 2 * 1024**3


@dataclass(frozen=True, slots=True)
class Facts:
    """``unknown``: in sentences, what could not be told and what would help. ``home``: the stack's region, where it was looked into."""

    shape: Shape | None
    rows: Rows | None
    unknown: tuple[str, ...]
    home: str = PRICES_REGION


def facts_of(manifest: Manifest, find: Callable[[], Stack], model: Path | None = None, data: Path | None = None) -> Facts:
    """What can be known. ``find`` is called when a look at S3 is needed. Raises click.ClickException for what the manifest names and is not there."""
    found = cache(find)
    look = s3_look(found)
    shape, no_shape = _told(lambda: shape_in(_config_in(model)) if model is not None else model_shape(manifest, look))
    rows, no_rows = _told(lambda: rows_in(manifest, _whole(data), data.name) if data is not None else data_rows(manifest, look))
    unknown = [f"The model: {no_shape}. Give its configuration: --model PATH/config.json"] if shape is None else []
    unknown += [f"The data: {no_rows}. Give a copy: --data FILE"] if rows is None else []
    return Facts(shape, rows, tuple(unknown), found().region if found.cache_info().currsize else PRICES_REGION)


def plan_from(manifest: Manifest, facts: Facts, types: tuple[str, ...] | None = None) -> JobPlan | None:
    """None where the model is not known. Raises click.ClickException for a target module that it does not have."""
    if facts.shape is None:
        return None
    try:
        return plan_of(manifest, facts.shape, facts.rows, types, facts.home)
    except CannotTell as error:
        raise click.ClickException(f"adapter.target_modules: {error}.") from None


def s3_look(stack: Callable[[], Stack]) -> Look:
    """Reads beginnings of objects; a plain key lies in the stack's data bucket."""

    def look(location: str, most: int) -> Seen | None:
        bucket, key = keys.split_location(location, stack().data_bucket)
        try:
            answer = stack().s3.get_object(Bucket=bucket, Key=key, Range=f"bytes=0-{most - 1}")
        except ClientError as error:
            code = error.response["Error"].get("Code")
            if code == "InvalidRange":
                return Seen(b"", 0)
            if code in ("NoSuchKey", "404"):
                return None
            raise
        total = answer.get("ContentRange", "").rpartition("/")[2]
        return Seen(answer["Body"].read(most), int(total) if total else answer["ContentLength"])

    return look


def _told(look: Callable[[], T]) -> tuple[T | None, str]:
    try:
        return look(), ""
    except Absent as error:
        raise click.ClickException(f"{error.problem.path}: nothing lies at {error.problem.found}. Upload it first.") from None
    except CannotTell as error:
        return None, str(error)
    except click.ClickException as error:
        return None, error.format_message().rstrip(".")
    except (BotoCoreError, ClientError) as error:
        return None, explained(error).rstrip(".")


def _config_in(path: Path) -> Seen:
    file = path / "config.json" if path.is_dir() else path
    if not file.is_file():
        raise click.ClickException(f"--model {path}: there is no config.json.")
    with file.open("rb") as stream:
        return Seen(stream.read(MAX_CONFIG_BYTES), file.stat().st_size)


def _whole(path: Path) -> Seen:
    with path.open("rb") as stream:
        return Seen(stream.read(MAX_LOCAL_BYTES), path.stat().st_size)
