"""Where each source of rows lies in the run folder, for staging and for the run file."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from agent.digests import regular_files
from jobspec.data import Data, Source
from jobspec.runfile import RunSource

Role = Literal["train", "eval"]


def sources_of(data: Data) -> Iterator[tuple[Role, Source, str]]:
    """Each source with its place in the run folder: a file, or for a hub data set a folder of numbered files."""
    yield from _placed("train", data.train_sources())
    yield from _placed("eval", data.eval_sources())


def _placed(role: Role, sources: tuple[Source, ...]) -> Iterator[tuple[Role, Source, str]]:
    for at, source in enumerate(sources):
        name = f"data/{role}" if len(sources) == 1 else f"data/{role}-{at:02d}"
        yield role, source, f"{name}.jsonl" if source.path else name


def run_sources(role: Role, data: Data, run_folder: Path) -> tuple[RunSource, ...]:
    """The staged files of one role, as the trainer is told of them."""
    return tuple(_told(source, place, run_folder) for of, source, place in sources_of(data) if of == role)


def _told(source: Source, place: str, run_folder: Path) -> RunSource:
    files = (place,) if source.path else tuple(path.relative_to(run_folder).as_posix() for path in regular_files(run_folder / place))
    return RunSource(files=files, called=source.called(), weight=source.weight)
