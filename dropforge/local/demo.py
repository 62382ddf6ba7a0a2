"""``dropforge local demo``: Dropforge's main job on this machine, start to e-mail, with one spot interruption in the middle.

A real pretrained model (SmolLM2-135M-Instruct), real rows, the real template, handlers, agent and trainer; only AWS is played.
"""

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from boto3.s3.transfer import TransferConfig
from rich.console import Console

from dropforge.jobs.follow import Follower
from dropforge.jobs.screen import NEWS_EVERY_S, Screen
from dropforge.jobs.view import live_line
from dropforge.local import cloud as clouds
from dropforge.local import deploy
from dropforge.local.market import Market
from dropforge.local.state import CloudState, LocalCloudError, home
from dropforge.stack import Stack
from jobspec import keys
from jobspec.heartbeat import Phase
from jobspec.reading import Refusal, read_manifest
from jobspec.status import AttemptStatus

MATERIAL = clouds.REPOSITORY / ".cache" / "demo"
MANIFEST = clouds.REPOSITORY / "events" / "manifests" / "demo.yaml"
#: EC2 gives 120 seconds; a job of two minutes would not see them end.
NOTICE_S = 25
#: A minute of the tick lasts this long, so that a short job sees several.
MINUTE_S = 15
#: The share of its steps after which the first instance is taken back.
INTERRUPT_AT = 0.4
GIVE_UP_AFTER_S = 900.0
LOOK_EVERY_S = 0.5
_PART = 16 * 1024 * 1024


def run(console: Console, *, keep: bool) -> bool:
    """The whole demonstration. True when the job succeeded and nothing is left running."""
    started = time.monotonic()
    _section(console, "1. A real model and real rows")
    _material()
    _section(console, "2. A cloud on this machine, and the unchanged template.yaml in it")
    plan = clouds.Plan(home(), parameters={"HeartbeatSeconds": "1"}, notice_s=NOTICE_S, minute_s=MINUTE_S)
    state = clouds.up(plan)
    console.print(f"Up at {state.endpoint}; state, logs and e-mails in {home()}")
    try:
        succeeded = _job(console, state)
    finally:
        if not keep:
            clouds.down(home())
    console.print(
        f"\nAll of it took {time.monotonic() - started:.0f} s. "
        + ("The local cloud stays up: dropforge local down ends it." if keep else "The local cloud is down; no process of it is left.")
    )
    return succeeded


def _job(console: Console, state: CloudState) -> bool:
    stack = Stack(state.stack, state.outputs["DataBucketName"], state.outputs["OutputsBucketName"], deploy.client_of(state, "s3"))
    _section(console, "3. The manifest dropped into S3")
    _upload(console, stack)
    body = MANIFEST.read_bytes()
    manifest = read_manifest(body, key=f"{keys.MANIFEST_PREFIX}{MANIFEST.name}")
    if isinstance(manifest, Refusal):
        raise LocalCloudError(f"{MANIFEST} is not valid: dropforge validate {MANIFEST}")
    began = datetime.now(UTC)
    stack.s3.put_object(Bucket=stack.data_bucket, Key=f"{keys.MANIFEST_PREFIX}{MANIFEST.name}", Body=body)
    console.print(f"aws s3 cp {MANIFEST.name} s3://{stack.data_bucket}/{keys.MANIFEST_PREFIX}")
    _section(console, "4. What happens")
    follower = Follower(stack, manifest.name)
    with Screen(console, lambda at: f"{max(0.0, (at - began).total_seconds()):6.1f} s") as screen:
        warned_at = _follow(screen, follower, Market(state))
    _section(console, "5. What came of it")
    return _told(console, state, follower, began, warned_at)


def _follow(screen: Screen, follower: Follower, market: Market) -> datetime | None:
    """Tell everything until the job is over and its e-mail is written; interrupt the first instance on the way. When it was warned."""
    warned_at: datetime | None = None
    give_up_at = time.monotonic() + GIVE_UP_AFTER_S
    while not (follower.ended and _end_mail() is not None and not any(machine.state != "terminated" for machine in market.instances())):
        for line in follower.look():
            screen.told(line)
        first = _due(follower) if warned_at is None else None
        if first is not None and first.instance_id is not None:
            warned_at = datetime.now(UTC)
            market.interrupt(first.instance_id)
            screen.line(warned_at, "EC2", f"spot interruption warning for {first.instance_id}: {NOTICE_S} s", style="yellow")
        screen.waits(_rest(market) if follower.ended else live_line(follower, datetime.now(UTC)))
        if time.monotonic() > give_up_at:
            raise LocalCloudError(f"The job is not over after {GIVE_UP_AFTER_S:.0f} s. See `dropforge local logs` and `dropforge local status`.")
        time.sleep(LOOK_EVERY_S)
    for line in follower.look():
        screen.told(line)
    return warned_at


def _due(follower: Follower) -> AttemptStatus | None:
    """The first attempt, once it has taken its share of the steps."""
    beat = follower.heartbeats.get(1)
    if follower.status is None or beat is None or beat.phase is not Phase.TRAINING or not beat.total_steps:
        return None
    return follower.status.attempts[0] if beat.step >= INTERRUPT_AT * beat.total_steps else None


def _rest(market: Market) -> str:
    live = sum(machine.state != "terminated" for machine in market.instances())
    return f"waiting for {live} instance(s) to end" if live else "waiting for the e-mail"


def _end_mail() -> Path | None:
    """The e-mail of the job's end."""
    mails = sorted((home() / "mail").glob("*.txt"))
    return next((path for path in reversed(mails) if "#end" in path.read_text(errors="replace")), None)


def _told(console: Console, state: CloudState, follower: Follower, began: datetime, warned_at: datetime | None) -> bool:
    status, mail = follower.status, _end_mail()
    assert status is not None
    if mail is not None:
        console.print(f"[bold]The e-mail[/bold] ({mail}):\n", highlight=False)
        console.print(mail.read_text(), markup=False, highlight=False, soft_wrap=True)
    if status.state != "SUCCEEDED" or status.model is None:
        console.print(f"[red]The job ended {status.state}: {status.reason}[/red]")
        return False
    where = _download(follower.stack, status.model, home().parent / "demo")
    for name, what in (("README.md", "Model card, with an answer before and after"), ("loss.png", "Loss plot"), ("adapter_model.safetensors", "The adapter")):
        if (where / name).exists():
            console.print(f"{what}: {where / name}", highlight=False)
    for label, start, line in (
        ("Manifest put to launch recorded", began, status.attempts[0].launched_at),
        ("Warning to replacement recorded", warned_at, status.attempts[-1].launched_at if len(status.attempts) > 1 else None),
    ):
        if start is not None and line is not None:
            console.print(f"{label}: {(line - start).total_seconds():.1f} s", highlight=False)
    lost = sum(max(0, (before.last_step or 0) - (after.first_step or 0)) for before, after in zip(status.attempts, status.attempts[1:], strict=False))
    console.print(f"Steps lost at the interruption: {lost}", highlight=False)
    live = [machine.instance_id for machine in Market(state).instances() if machine.state != "terminated"]
    console.print("Instances left: " + (", ".join(live) or "none"), highlight=False)
    return not live


def _download(stack: Stack, location: str, folder: Path) -> Path:
    """The finished model's files below ``folder``."""
    prefix = location.removeprefix(f"s3://{stack.outputs_bucket}/")
    for item in stack.s3.list_objects_v2(Bucket=stack.outputs_bucket, Prefix=prefix).get("Contents", []):
        target = folder / item["Key"].removeprefix(prefix)
        target.parent.mkdir(parents=True, exist_ok=True)
        stack.s3.download_file(stack.outputs_bucket, item["Key"], str(target))
    return folder


def _material() -> None:
    done = subprocess.run([sys.executable, "-m", "demo.material", "--to", str(MATERIAL)], cwd=clouds.REPOSITORY, check=False)  # noqa: S603 - our own module
    if done.returncode:
        raise LocalCloudError("The demonstration's model and rows could not be made; the reason is above.")


def _upload(console: Console, stack: Stack) -> None:
    """Model and rows into the data bucket."""
    files = [path for part in ("models", "data") for path in sorted((MATERIAL / part).rglob("*")) if path.is_file()]
    total = sum(path.stat().st_size for path in files)
    console.print(f"Model and rows to s3://{stack.data_bucket} ({total / 1e6:.0f} MB)")
    with _ticking(lambda: console.print("  still uploading", style="dim")):
        for path in files:
            transfer = TransferConfig(multipart_threshold=_PART, multipart_chunksize=_PART, max_concurrency=2)
            stack.s3.upload_file(str(path), stack.data_bucket, path.relative_to(MATERIAL).as_posix(), Config=transfer)


class _ticking:
    """Says something every few seconds while its block runs."""

    def __init__(self, say: Callable[[], None]) -> None:
        self._say, self._done = say, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._done.wait(NEWS_EVERY_S):
            self._say()


def _section(console: Console, title: str) -> None:
    console.print(f"\n[bold]{title}[/bold]", highlight=False)
