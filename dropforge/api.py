"""Jobs from Python, for notebooks and scripts: ``from dropforge import submit, status``.

The same as the commands of the same names: a manifest put into the bucket, a status object read from it. Account, region and
endpoint come from the usual AWS settings. Everything that goes wrong is a :class:`DropforgeError` with a sentence.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from dropforge.jobs import cancelling, order
from dropforge.jobs.fetch import fetch, model_of
from dropforge.jobs.find import the_status
from dropforge.jobs.follow import Follower, Line
from dropforge.manifests.checked import checked
from dropforge.refusals import explained
from dropforge.stack import find_stack
from jobspec import keys
from jobspec.status import Status

LOOK_EVERY_S = 1.0


class DropforgeError(Exception):
    """What was wrong, where, and what to do."""


@dataclass(frozen=True, slots=True)
class SubmittedJob:
    """A job that was put into a stack: its manifest's ``name``."""

    name: str
    stack: str

    def status(self) -> Status:
        """The newest status object of that name. Raises DropforgeError while there is none."""
        return status(self.name, stack=self.stack)

    def wait(self, timeout_s: float | None = None, news: Callable[[Line], None] | None = None) -> Status:
        """Follows the job to its end, whichever that is. ``news`` gets each line of its story.

        Raises DropforgeError where it is not over after ``timeout_s`` seconds; the job goes on.
        """
        until = None if timeout_s is None else time.monotonic() + timeout_s
        with _speaking():
            follower = Follower(find_stack(self.stack), self.name)
            while True:
                for line in follower.look():
                    if news is not None:
                        news(line)
                if follower.status is not None and follower.ended:
                    return follower.status
                if until is not None and time.monotonic() >= until:
                    raise DropforgeError(f"{self.name} is not over after {timeout_s:g} s; it goes on without you.")
                time.sleep(LOOK_EVERY_S)

    def cancel(self) -> None:
        """Cancels the job: its manifest is deleted; of a sweep's or a schedule's job, only this one ends. Raises DropforgeError where it is over already."""
        with _speaking():
            stack = find_stack(self.stack)
            cancelling.cancel(stack, cancelling.target(stack, self.name))

    def download(self, folder: str | Path) -> Path:
        """The finished model's files in ``folder``, each checked against its recorded sha256."""
        with _speaking():
            stack = find_stack(self.stack)
            fetch(stack, model_of(stack, the_status(stack, self.name)), Path(folder), force=False, progress=lambda _: None)
        return Path(folder)


def submit(manifest: str | Path | Mapping[str, Any], *, stack: str = "dropforge") -> SubmittedJob:
    """Checks a manifest - a file, or its content as a mapping - and puts it. Raises DropforgeError with every problem, and puts nothing then."""
    with _speaking():
        if isinstance(manifest, Mapping):
            body = json.dumps(manifest, default=str).encode()
            key = order.key_for(f"{keys.name_from_key(str(manifest.get('name', '')) + '.json')}.json")
        else:
            body, key = Path(manifest).read_bytes(), order.key_for(Path(manifest).name)
        parsed = checked(body, key, "the mapping" if isinstance(manifest, Mapping) else str(manifest))
        order.refuse_past_deadline(parsed, order.now())
        found = find_stack(stack)
        order.refuse_beside_active(found, parsed, key)
        order.put(found, key, body)
    return SubmittedJob(parsed.name, stack)


def status(job: str, *, stack: str = "dropforge") -> Status:
    """The status of a job: its name, the beginning of one, or a job id. Raises DropforgeError for none, or several."""
    with _speaking():
        return the_status(find_stack(stack), job)


@contextmanager
def _speaking() -> Iterator[None]:
    try:
        yield
    except DropforgeError:
        raise
    except click.ClickException as refusal:
        raise DropforgeError(refusal.message) from None
    except Exception as error:
        raise DropforgeError(explained(error)) from error
