"""``python -m dropforge.local.plugin``: ministack with the plugin in its process, until SIGTERM; then nothing is left."""

import asyncio
import importlib
import logging
import sys
from typing import Any

from dropforge.local.plugin import events, formation, lambdas, mail, objects, permissions, seams, settings
from dropforge.local.plugin.control import Control
from dropforge.local.plugin.describing import Describing
from dropforge.local.plugin.imds import MetadataServer
from dropforge.local.plugin.launching import Launching
from dropforge.local.plugin.machines import Machines
from dropforge.local.plugin.market import SpotMarket
from dropforge.local.plugin.quotas import Quotas

#: Seconds between two looks at what is due; ministack's own ten make a one-minute schedule late by as much.
SCHEDULE_LOOK_S = 1


def main() -> int:
    try:
        seams.check()
    except seams.SeamMissing as problem:
        sys.stderr.write(f"{problem}\n")
        return 2
    chosen = settings.load()
    market = SpotMarket(chosen.types)
    machines = Machines(chosen, MetadataServer)
    _install(chosen, machines, market)
    try:
        asyncio.run(_serve(chosen, Control(chosen, machines, market).around(Quotas(chosen.quotas, market).around(seams.app.app))))
    finally:
        machines.end_all()
        lambdas.end_all()
    return 0


def _install(chosen: settings.Settings, machines: Machines, market: SpotMarket) -> None:
    launching, describing = Launching(machines, market), Describing(machines, market)
    seams.ec2._ACTION_MAP.update(
        CreateFleet=launching.create_fleet,
        RunInstances=launching.run_instances,
        TerminateInstances=launching.terminate_instances,
        DescribeInstances=describing.describe_instances,
        DescribeInstanceTypeOfferings=describing.describe_instance_type_offerings,
        DescribeSpotPriceHistory=describing.describe_spot_price_history,
    )
    events.install()
    formation.install()
    lambdas.install(chosen)
    mail.install(chosen)
    objects.install()
    permissions.install()
    seams.eventbridge._SCHEDULER_TICK_INTERVAL = seams.scheduler._SCHEDULE_TICK_INTERVAL = SCHEDULE_LOOK_S
    seams.wrap("services.eventbridge", "_parse_rate_seconds", lambda original: lambda text: _scaled(original(text), chosen.minute_s))


def _scaled(seconds: int | None, minute_s: float) -> float | None:
    return None if seconds is None else seconds * minute_s / 60


async def _serve(chosen: settings.Settings, app: Any) -> None:
    # By name: hypercorn lives in .venv-cloud only, and the type checker in .venv.
    config = importlib.import_module("hypercorn.config").Config()
    config.bind = [f"127.0.0.1:{chosen.port}"]
    config.keep_alive_timeout = 75
    config.graceful_timeout = 1
    config.loglevel = "WARNING"
    logging.getLogger("hypercorn.access").disabled = True
    await importlib.import_module("hypercorn.asyncio").serve(app, config)


if __name__ == "__main__":
    raise SystemExit(main())
