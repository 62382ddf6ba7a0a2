"""What the start of this attempt took, by stages: before the agent, as bootstrap.sh tells it, and in the trainer, as its lines do."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

from agent.progress import Told

#: Seconds since the kernel began, also in a container (proc_uptime(5)).
UPTIME = Path("/proc/uptime")
_BEFORE_AND_AFTER_THE_PULL = re.compile(r"(\d{1,7}) (\d{1,7})\s*")
#: The trainer's own, up to the line that says that its model is loaded; and after it.
UNTIL_LOADED, AFTER_LOADED = ("prepare", "import", "load"), ("measure", "first_step")


def before_agent(told: Path, now: datetime, uptime: Path | None = UPTIME) -> dict[str, float]:
    """Seconds by stage from the instance's boot to ``now``, when the ticket is there; nothing where ``told`` tells nothing.

    ``uptime``: None where the kernel's age is not that of the instance.
    """
    try:
        with told.open(encoding="ascii", errors="replace") as file:
            found = _BEFORE_AND_AFTER_THE_PULL.fullmatch(file.read(64))
        agent_s = max((now - datetime.fromtimestamp(told.stat().st_mtime, UTC)).total_seconds(), 0.0)
        age_s = float(uptime.read_text().split()[0]) if uptime is not None else 0.0
    except (OSError, ValueError, IndexError):
        return {}
    if found is None:
        return {}
    before_s, after_s = int(found[1]), int(found[2])
    stages_s = {"bootstrap": float(before_s), "pull": float(max(after_s - before_s, 0)), "agent": agent_s}
    return stages_s | ({"boot": max(age_s - agent_s - after_s, 0.0)} if uptime is not None else {})


def in_trainer(told: Told, asked_at: datetime | None) -> tuple[dict[str, float], datetime] | None:
    """Seconds by stage from the request for a trainer to the end of its first step, and when that was; None before it.

    ``trainer``, the start of its container and of Python, is what no stage of its own says.
    """
    if not told.stages_s or told.started_at is None:
        return None
    own = {name: told.stages_s[name] for name in (*UNTIL_LOADED, *AFTER_LOADED) if name in told.stages_s}
    until_loaded_s, after_s = (sum(own.get(name, 0.0) for name in names) for names in (UNTIL_LOADED, AFTER_LOADED))
    if asked_at is not None:
        own["trainer"] = max((told.started_at - asked_at).total_seconds() - until_loaded_s, 0.0)
    return own, told.started_at + timedelta(seconds=min(after_s, 10**8))
