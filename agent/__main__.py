"""``python -m agent FOLDER``: wait for this instance's ticket, then do what it says. Exit statuses: attempt.AgentExit."""

import logging
import os
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from agent.attempt import Attempt
from agent.imds import Imds, ImdsUnreachable
from agent.parameters import Parameters
from agent.parameters import connect as connect_parameters
from agent.settings import Folders, from_environment
from agent.store import S3_ERRORS, Denied, Store, connect
from agent.world import AgentExit, World
from jobspec.keys import ticket_key, writer_of
from jobspec.ticket import Ticket
from jobspec.wire import UnreadableDocument, load

log = logging.getLogger("agent")


class OneLine(logging.Formatter):
    """A record's message on one printable line: it may quote what a stranger wrote. A traceback below it keeps its lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in record.message)
        return super().formatMessage(record)


def await_ticket(world: World) -> Ticket | None:
    """This instance's own ticket, or None once the wait is over: an instance on nobody's record must not work. Raises Denied then."""
    settings = world.settings
    until = world.now() + timedelta(seconds=settings.pace.ticket_wait_s)
    while True:
        try:
            writer = writer_of(settings.role_id, world.imds.instance_id())
            body = world.store.read(settings.data_bucket, ticket_key(writer))
            if body is not None:
                ticket = load(Ticket, body)
                if ticket.writer == writer:
                    return ticket
                log.error("the ticket is for %s, this is %s", ticket.writer, writer)
        except Denied as error:
            if world.now() >= until:
                raise
            log.warning("no ticket yet: %s", error)
        except (ImdsUnreachable, UnreadableDocument, *S3_ERRORS) as error:
            log.warning("no ticket yet: %s", error)
        if world.now() >= until:
            return None
        world.sleep(settings.pace.ticket_s)


def run(world: World) -> AgentExit:
    try:
        ticket = await_ticket(world)
    except Denied as denied:
        log.error("denied: %s; the instance role's policy is not the template's", denied)
        return AgentExit.DENIED
    if ticket is None:
        log.error("no ticket in %.0f s: this instance is on nobody's record", world.settings.pace.ticket_wait_s)
        return AgentExit.NO_TICKET
    log.info("job %s, attempt %d", ticket.job_id, ticket.attempt)
    return Attempt(world, ticket).run()


def main() -> None:
    logging.Formatter.converter = time.gmtime
    console = logging.StreamHandler(sys.stdout)
    console.setFormatter(OneLine("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[console])
    settings = from_environment(os.environ)
    now = lambda: datetime.now(UTC)  # noqa: E731 - the one clock, made where the program starts
    world = World(
        settings=settings,
        store=Store(connect(settings.endpoint_url)),
        imds=Imds(settings.imds_endpoint, now),
        parameters=Parameters(lambda: connect_parameters(settings.endpoint_url), settings.tracking_path),
        folders=Folders(Path(sys.argv[1])),
        now=now,
        sleep=time.sleep,
    )
    raise SystemExit(run(world))


if __name__ == "__main__":
    main()
