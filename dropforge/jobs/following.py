"""A job followed to its end on the screen: what ``submit --wait`` and ``status --watch`` do."""

import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from jobspec.status import Status

LOOK_EVERY_S = 1.0
EXIT_INTERRUPTED = 130


def follow_to_end(stack_name: str, name: str, as_json: bool) -> None:
    """Show what happens until the job ends; exit 1 unless it succeeded."""
    from rich.console import Console

    from dropforge.jobs.follow import Follower
    from dropforge.jobs.screen import Screen
    from dropforge.jobs.view import live_line, status_view
    from dropforge.stack import find_stack

    follower, console = Follower(find_stack(stack_name), name), Console(stderr=as_json)
    try:
        with Screen(console, lambda at: f"{at.astimezone():%H:%M:%S}") as screen:
            while True:
                for line in follower.look():
                    screen.told(line)
                screen.waits(live_line(follower, datetime.now(UTC)))
                if follower.ended:
                    break
                time.sleep(LOOK_EVERY_S)
    except KeyboardInterrupt:
        click.echo(f"\nThe job goes on without you. Look again: dropforge status {name} --watch. End it: dropforge cancel {name}", err=as_json)
        sys.exit(EXIT_INTERRUPTED)
    found: Status | None = follower.status
    assert found is not None, "an ended job has a status"
    if as_json:
        click.echo(found.model_dump_json(indent=1))
    else:
        console.print(status_view(found), highlight=False, soft_wrap=True)
    sys.exit(0 if found.state == "SUCCEEDED" else 1)
