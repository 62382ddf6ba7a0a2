"""The state folder: what a running local cloud is known by. ``.dropforge/local`` here, or ``$DROPFORGE_LOCAL_HOME``.

::

    cloud.json            pid, port, credentials, control token, stack outputs (owner-only)
    settings.json         what the emulator's process was told (owner-only)
    emulator.log          its output
    instances/<id>/       an instance's root folder; console.log is its serial console
    logs/<function>.jsonl one line an invocation
    mail/NNNN-*.txt       e-mails
"""

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

HOME_VARIABLE = "DROPFORGE_LOCAL_HOME"


class LocalCloudError(Exception):
    """A sentence for the user: what was wrong, where, what to do."""


@dataclass(frozen=True, slots=True)
class CloudState:
    """A cloud that was started. ``started_at_ticks`` tells its process from a later one with the same pid."""

    pid: int
    started_at_ticks: int
    port: int
    region: str
    access_key_id: str
    secret_access_key: str
    control_token: str
    stack: str
    outputs: dict[str, str] = field(default_factory=dict)
    #: Other regions of the same cloud, in which a stack of region.yaml stands.
    peers: tuple[str, ...] = ()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """What the stock AWS command line and SDKs need to talk to this cloud."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret_access_key,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_ENDPOINT_URL": self.endpoint,
        }


def home() -> Path:
    """The state folder's absolute path; it need not exist."""
    return Path(os.environ.get(HOME_VARIABLE) or ".dropforge/local").absolute()


def save(folder: Path, state: CloudState) -> None:
    write_private(folder / "cloud.json", json.dumps(asdict(state), indent=1))


def load(folder: Path) -> CloudState | None:
    """The state that was saved, or None where no cloud was started; it says nothing about whether it still runs."""
    try:
        raw = json.loads((folder / "cloud.json").read_text())
        return CloudState(**{**raw, "peers": tuple(raw["peers"])})
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as problem:
        raise LocalCloudError(f"{folder} cannot be read ({problem.strerror}). Set DROPFORGE_LOCAL_HOME to a folder of yours.") from None
    except (KeyError, TypeError, ValueError) as problem:
        raise LocalCloudError(f"{folder / 'cloud.json'} is damaged ({problem}). Run `dropforge local down`, then `dropforge local up`.") from None


def write_private(path: Path, text: str) -> None:
    """Owner-only from the first byte, and whole or not at all."""
    part = path.with_suffix(".part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.write(text)
    part.rename(path)


def start_ticks(pid: int) -> int | None:
    """When the process started, in clock ticks since boot (proc(5), field 22); None where there is none or it is a corpse."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[19])


def runs(state: CloudState) -> bool:
    """Whether the emulator's own process is alive."""
    return start_ticks(state.pid) == state.started_at_ticks
