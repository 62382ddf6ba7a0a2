"""The functions' environment, read once into a frozen value; a missing name is said at the first start, in one sentence."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from control_plane.core.events import Rules


class MissingSetting(RuntimeError):
    """The template did not give the function a variable that it needs."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What template.yaml tells every function. Seconds where a name ends in ``_s``."""

    project: str
    table_name: str
    data_bucket: str
    outputs_bucket: str
    topic_arn: str
    instance_role_id: str
    launch_template_id: str
    launch_template_version: str
    subnet_ids: tuple[str, ...]
    heartbeat_s: float
    notice_s: float
    stray_grace_s: float
    max_concurrent_jobs: int
    pause_on_budget: bool
    monthly_cap_usd: float
    volume_gib: int
    #: Other buckets that jobs may read from (parameter ReadBuckets).
    read_buckets: tuple[str, ...] = ()
    #: Name of the parameter that holds the webhook's address; given to the webhook's function alone.
    webhook_parameter: str = ""
    #: Other regions with a stack of region.yaml for this project (parameter PeerRegions).
    peer_regions: tuple[str, ...] = ()

    @property
    def rules(self) -> Rules:
        """Ten missed heartbeats are a silence; five minutes at least, for S3 and clocks have bad minutes too."""
        return Rules(notice_s=self.notice_s, stale_s=max(300.0, 10 * self.heartbeat_s))


def settings_from(environment: Mapping[str, str] = os.environ) -> Settings:
    """The settings in the environment. Raises MissingSetting with the names of all that are absent."""
    names = (
        *("PROJECT", "TABLE_NAME", "DATA_BUCKET", "OUTPUTS_BUCKET", "TOPIC_ARN", "INSTANCE_ROLE_ID", "LAUNCH_TEMPLATE_ID", "LAUNCH_TEMPLATE_VERSION"),
        *("SUBNET_IDS", "HEARTBEAT_SECONDS", "NOTICE_SECONDS", "STRAY_GRACE_SECONDS", "MAX_CONCURRENT_JOBS", "BUDGET_ACTION"),
        *("MONTHLY_CAP_USD", "VOLUME_GIB"),
    )
    missing = [name for name in names if not environment.get(name)]
    if missing:
        raise MissingSetting(f"not set: {', '.join(missing)}; template.yaml gives them to every function (Globals, Environment)")
    return Settings(
        project=environment["PROJECT"],
        table_name=environment["TABLE_NAME"],
        data_bucket=environment["DATA_BUCKET"],
        outputs_bucket=environment["OUTPUTS_BUCKET"],
        topic_arn=environment["TOPIC_ARN"],
        instance_role_id=environment["INSTANCE_ROLE_ID"],
        launch_template_id=environment["LAUNCH_TEMPLATE_ID"],
        launch_template_version=environment["LAUNCH_TEMPLATE_VERSION"],
        subnet_ids=_listed(environment["SUBNET_IDS"]),
        heartbeat_s=float(environment["HEARTBEAT_SECONDS"]),
        notice_s=float(environment["NOTICE_SECONDS"]),
        stray_grace_s=float(environment["STRAY_GRACE_SECONDS"]),
        max_concurrent_jobs=int(environment["MAX_CONCURRENT_JOBS"]),
        pause_on_budget=environment["BUDGET_ACTION"] == "pause",
        monthly_cap_usd=float(environment["MONTHLY_CAP_USD"]),
        volume_gib=int(environment["VOLUME_GIB"]),
        read_buckets=_listed(environment.get("READ_BUCKETS", "")),
        webhook_parameter=environment.get("WEBHOOK_PARAMETER", ""),
        peer_regions=_listed(environment.get("PEER_REGIONS", "")),
    )


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())
