"""What the agent is told by its environment, read once; and its pace, which tests shorten."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

IMDS_ENDPOINT = "http://169.254.169.254"


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds between two looks at something, and the longest waits."""

    #: A notice gives two minutes at best; AWS asks for no more than one look in five seconds but allows more.
    imds_s: float = 1.0
    watch_s: float = 0.5
    upload_s: float = 1.0
    ticket_s: float = 2.0
    #: The ticket is written right after the launch; an instance without one is a stray and must not work.
    ticket_wait_s: float = 600.0
    handover_s: float = 2.0
    #: The longest wait for the training image once all else is staged. As long as the control plane waits for a first heartbeat (``Rules.boot_s``):
    #: a pull that hangs costs what it did when nobody was there to tell of it.
    image_wait_s: float = 1200.0
    logs_s: float = 60.0
    #: bootstrap.sh asks the driver every 5 s.
    gpus_s: float = 2.5
    #: What a last save may need before anything was measured.
    save_s: float = 30.0
    #: Granted to a last save even where this machine's clock says that the time is over already: clocks can be wrong.
    least_save_s: float = 20.0
    #: Between two tries of a last word that S3 refuses: a role's policy reaches every host of IAM's within seconds.
    denied_s: float = 5.0
    #: Between two reports to a tracking service.
    report_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Settings:
    data_bucket: str
    outputs_bucket: str
    role_id: str
    imds_endpoint: str = IMDS_ENDPOINT
    #: An endpoint of one's own (the local cloud) needs path-style addresses; AWS does not.
    endpoint_url: str | None = None
    #: Where in Parameter Store the keys of tracking services lie; empty where the stack has none.
    tracking_path: str = ""
    pace: Pace = field(default_factory=Pace)


def from_environment(environment: Mapping[str, str]) -> Settings:
    """Settings from the variables that ``bootstrap.sh`` passes on. Raises KeyError with the name of a missing one."""
    return Settings(
        data_bucket=environment["DROPFORGE_DATA_BUCKET"],
        outputs_bucket=environment["DROPFORGE_OUTPUTS_BUCKET"],
        role_id=environment["DROPFORGE_ROLE_ID"],
        imds_endpoint=environment.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", IMDS_ENDPOINT).rstrip("/"),
        endpoint_url=environment.get("AWS_ENDPOINT_URL"),
        tracking_path=environment.get("DROPFORGE_TRACKING", ""),
    )


@dataclass(frozen=True, slots=True)
class Folders:
    """The shared folder (bootstrap.sh says who may touch what)."""

    root: Path

    @property
    def run(self) -> Path:
        return self.root / "run"

    @property
    def control(self) -> Path:
        return self.root / "control"

    @property
    def incoming(self) -> Path:
        """Downloads that are not whole yet; on the same file system as ``run``, out of the trainer's sight."""
        return self.root / "incoming"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def stages(self) -> Path:
        """Seconds of bootstrap.sh before and after it waited for the training image, if it did; written right before the agent starts."""
        return self.root / "stages"

    @property
    def gpus(self) -> Path:
        """What nvidia-smi last said of this machine's GPUs."""
        return self.root / "gpus.csv"
