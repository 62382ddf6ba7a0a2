"""The page over all jobs: ``index_page(statuses, now)``."""

from datetime import datetime

from jobspec.status import Status
from pages.job import ENDS, environment


def index_page(statuses: list[Status], now: datetime, links: dict[str, str]) -> str:
    """One row a job, newest first. ``links``: by job id, where its own page is; a job without one has no link."""
    rows = sorted(statuses, key=lambda status: status.accepted_at, reverse=True)
    receipts = [status.receipt for status in rows if status.receipt is not None]
    return (
        environment()
        .get_template("index.html")
        .render(
            rows=rows,
            now=now,
            links=links,
            active=sum(status.state not in ENDS for status in rows),
            cost=sum(receipt.cost_usd for receipt in receipts),
            on_demand=sum(receipt.on_demand_usd for receipt in receipts),
        )
    )
