"""What a manifest speaks of, looked at through the caller's eyes: the model's shape and the beginning of the data.

``Look`` is the only way out: a function of the caller's that reads the beginning of an object. Nothing here knows S3.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from jobspec import keys
from jobspec.data import Source
from jobspec.manifest import Manifest
from jobspec.problems import problem
from jobspec.status import ProblemLine
from planning.known_models import shape_of_hub
from planning.rows import LOOK_BYTES, Rows, rows_of, together
from planning.shape import CannotTell, Shape, shape_of

#: A config.json is a few kilobytes.
MAX_CONFIG_BYTES = 256 * 1024
_PAIRS = ("dpo", "orpo", "reward")


@dataclass(frozen=True, slots=True)
class Seen:
    """The beginning of an object, and its whole size in bytes."""

    body: bytes
    size: int


#: Reads at most so many bytes of what lies at a manifest's location; None: there is nothing. Raises CannotTell where it may not look.
Look = Callable[[str, int], Seen | None]


class Absent(Exception):
    """What the manifest names is not there, or is an object without a byte; carries the problem to report."""

    def __init__(self, found: ProblemLine) -> None:
        super().__init__(f"{found.path} {found.message}: {found.found}")
        self.problem = found


def model_shape(manifest: Manifest, look: Look) -> Shape:
    """Raises CannotTell, Absent."""
    model = manifest.model
    if model.hub is not None:
        return shape_of_hub(model.hub)
    location = f"{str(model.s3).rstrip('/')}/config.json"
    return shape_in(_looked(look, location, MAX_CONFIG_BYTES, ("model", "s3")))


def shape_in(config: Seen) -> Shape:
    """The shape that the bytes of a config.json describe. Raises CannotTell."""
    if config.size > MAX_CONFIG_BYTES:
        raise CannotTell("config.json is too large to be one")
    try:
        parsed = json.loads(config.body)
    except (ValueError, RecursionError):
        raise CannotTell("config.json is no JSON") from None
    return shape_of(parsed)


def data_rows(manifest: Manifest, look: Look) -> Rows:
    """All sources of training rows as one. Raises CannotTell, Absent."""
    data = manifest.data
    sources = [(source, _seen(source, look, ("data", "train"))) for source in data.train_sources()]
    return together([(rows_in(manifest, seen, str(source.path)), source.weight) for source, seen in sources])


def rows_in(manifest: Manifest, seen: Seen, name: str) -> Rows:
    """Rows of one file from its beginning. Raises CannotTell."""
    return rows_of(seen.body, seen.size, name, manifest.data.columns, pairs=manifest.method in _PAIRS)


def absent_eval(manifest: Manifest, look: Look) -> Iterator[ProblemLine]:
    """Held-out files that are not there."""
    for source in manifest.data.eval_sources():
        try:
            _seen(source, look, ("data", "eval"), 1)
        except Absent as error:
            yield error.problem
        except CannotTell:
            pass


def out_of_reach(manifest: Manifest, own: tuple[str, ...], others: tuple[str, ...]) -> Iterator[ProblemLine]:
    """Locations in buckets that no instance may read. ``own``: the stack's buckets; the first is the one of plain keys. ``others``: ReadBuckets.

    Each is told the command that lets the stack read all of them.
    """
    placed = [(path, location, keys.split_location(location, own[0])[0]) for path, location in _locations(manifest)]
    outside = [(path, location, bucket) for path, location, bucket in placed if bucket not in (*own, *others)]
    wanted = dict.fromkeys((*others, *(bucket for _, _, bucket in outside)))
    for path, location, bucket in outside:
        yield problem(
            path,
            f"lies in the bucket {bucket}, which this stack may not read",
            found=location,
            allowed=f"a copy in s3://{own[0]}/, or the bucket in the stack's parameter ReadBuckets: "
            f"sam deploy --parameter-overrides ReadBuckets={','.join(wanted)}",
        )


def _locations(manifest: Manifest) -> Iterator[tuple[tuple[str, ...], str]]:
    """Everything in S3 that a manifest names, with its place in the manifest."""
    if manifest.model.s3 is not None:
        yield ("model", "s3"), manifest.model.s3
    for role, sources in (("train", manifest.data.train_sources()), ("eval", manifest.data.eval_sources())):
        for source in sources:
            if source.path is not None:
                yield ("data", role), source.path


def _seen(source: Source, look: Look, path: tuple[str, ...], most: int = LOOK_BYTES) -> Seen:
    if source.path is None:
        raise CannotTell(f"{source.called()} lies on the hub, and is not looked at")
    return _looked(look, source.path, most, path)


def _looked(look: Look, location: str, most: int, path: tuple[str, ...]) -> Seen:
    seen = look(location, most)
    if seen is None:
        raise Absent(problem(path, "is not there", found=location, allowed="upload it first, then put the manifest again"))
    if seen.size == 0:
        raise Absent(problem(path, "is empty: the object has no byte", found=location, allowed="upload it again, then put the manifest again"))
    return seen
