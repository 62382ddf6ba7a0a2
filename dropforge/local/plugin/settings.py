"""What the command line tells the emulator's process, in one file that only its owner may read."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

SETTINGS_VARIABLE = "DROPFORGE_LOCAL_SETTINGS"


@dataclass(frozen=True, slots=True)
class OfferedType:
    """An instance type that can be launched: its share of the vCPU quota and its listed price, US dollars an hour."""

    vcpus: int
    on_demand_usd_per_h: float


@dataclass(frozen=True, slots=True)
class Settings:
    """``boot_s``: time in ``pending``. ``stop_grace_s``: from SIGTERM to SIGKILL. ``minute_s``: how long one minute of a
    rule's or schedule's rate lasts. ``notice_s``: the interruption notice, 120 on AWS."""

    home: Path
    port: int
    region: str
    control_token: str
    python: str
    lambda_python: str
    source: Path
    types: dict[str, OfferedType]
    #: Code of each vCPU quota in Service Quotas, to the market that it limits.
    quotas: dict[str, str] = field(default_factory=dict)
    boot_s: float = 0.3
    stop_grace_s: float = 3.0
    minute_s: float = 60.0
    notice_s: float = 120.0
    #: Variables of `dropforge local up` that instances get as well.
    passed_on: dict[str, str] = field(default_factory=dict)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def load() -> Settings:
    """The settings that ``dropforge local up`` wrote for this process."""
    raw = json.loads(Path(os.environ[SETTINGS_VARIABLE]).read_text())
    raw["types"] = {name: OfferedType(**offer) for name, offer in raw["types"].items()}
    return Settings(**{**raw, "home": Path(raw["home"]), "source": Path(raw["source"])})
