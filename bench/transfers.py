"""To and from S3, and what a last save takes: ``python -m bench.transfers``. Side by side with ``aws s3 cp`` and s5cmd, where they are here.

The agent's own way - its check of the sha256 before a file leaves, the sums that S3 is given, the check of what came back - against peers that
check less, on a server that only moves bytes (bench/lean_s3.py). On a busy machine MB for each CPU second of the client's is the figure to look
at: ``aws`` and s5cmd are charged their start as well, as a script that calls them would be. Every file that comes back is compared.

The last table is an emergency save: a checkpoint of that size written, made durable, digested and published by the trainer's and the agent's own
code, against the 120 seconds of a spot warning; and its restore.
"""

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from agent.digests import digest_of, sha256_of
from agent.resume import Resumer
from agent.settings import Folders
from agent.store import Store, connect
from agent.uploader import Uploader
from bench import loopback, machine
from jobspec.base import FileDigest
from jobspec.checkpoint import Identity
from tests.agent.cloud import JOB, OUTPUTS, Cloud
from trainer.checkpoints import CheckpointStore

MB = 1e6
NOTICE_S = 120.0


@dataclass
class Taken:
    """Of one way, over the repeats: wall seconds, and CPU seconds of the client and its children."""

    walls: list[float] = field(default_factory=list)
    cpus: list[float] = field(default_factory=list)

    def time(self, work: Callable[[], object]) -> None:
        began, used = time.monotonic(), _cpu_s()
        work()
        self.walls.append(time.monotonic() - began)
        self.cpus.append(_cpu_s() - used)

    def rates(self, size: int) -> str:
        walls, cpus = ([size / MB / one for one in found] for found in (self.walls, self.cpus))
        return f"{machine.spread(walls, 0)} | {machine.spread(cpus, 0)}"


def _cpu_s() -> float:
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def _ignore() -> None:
    pass


def peers(endpoint: str) -> dict[str, list[str]]:
    """The command lines of the peers that are installed: each copies its last two arguments, the source and the target."""
    known = {"aws s3 cp": ["aws", "s3", "cp", "--only-show-errors"], "s5cmd cp": ["s5cmd", "--endpoint-url", endpoint, "cp"]}
    return {name: words for name, words in known.items() if shutil.which(words[0])}


def run(words: list[str]) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)  # noqa: S603 - a fixed list of words
    if done.returncode:
        sys.exit(f"{' '.join(words)} failed, nothing is reported: {done.stderr[-2000:]}")


def file_of(path: Path, size: int) -> Path:
    """Bytes that no client can make less of."""
    block = os.urandom(1024 * 1024)
    with path.open("wb") as file:
        for _ in range(size // len(block)):
            file.write(block)
    return path


def copies(store: Store, endpoint: str, base: Path, size: int, times: int) -> list[str]:
    """Lines of the first table for one size."""
    source, back = file_of(base / "source.bin", size), base / "back.bin"
    digest, found = digest_of(source, source.name), peers(endpoint)
    ways = {name: (Taken(), Taken()) for name in ("agent", *found)}
    for turn in range(times + 1):
        for name, taken in ways.items():
            # The first turn warms up.
            up, down = taken if turn else (Taken(), Taken())
            _there_and_back(store, found.get(name), f"copies/{turn}", (source, back), up, down, digest)
    lines = []
    for name, (up, down) in ways.items():
        ratios = [statistics.median(ways["agent"][at].cpus) / statistics.median(one.cpus) for at, one in enumerate((up, down))]
        lines.append(f"| {size / MB:.0f} MB, {name} | {up.rates(size)} | {down.rates(size)} | {ratios[0]:.2f}, {ratios[1]:.2f} |")
    return lines


def _there_and_back(store: Store, peer: list[str] | None, key: str, files: tuple[Path, Path], up: Taken, down: Taken, digest: FileDigest) -> None:
    """One copy to S3 and back, by the agent's store or a ``peer``'s command line. Raises SystemExit where other bytes come back."""
    (source, back), place = files, f"s3://{OUTPUTS}/{key}"
    if peer is None:
        up.time(lambda: store.upload(OUTPUTS, key, source, digest, _ignore))
        down.time(lambda: store.download(OUTPUTS, key, back, back.parent / "incoming", _ignore))
    else:
        up.time(lambda: run([*peer, str(source), place]))
        down.time(lambda: run([*peer, place, str(back)]))
    if sha256_of(back) != digest.sha256:
        sys.exit(f"{peer or 'agent'}: what came back is not what was sent, nothing is reported")
    back.unlink()


def last_save(cloud: Cloud, base: Path, size: int) -> str:
    """A line of the second table: a checkpoint of two files, as an adapter with its optimizer is, or a model with its."""
    folders, ticket = Folders(base), cloud.ticket()
    for folder in (folders.run, folders.control):
        folder.mkdir(parents=True)
    now = lambda: datetime.now(UTC)  # noqa: E731 - the one clock
    store = CheckpointStore(folders.run / "checkpoints", 1, now)
    store.open()
    identity = Identity(model_sha256="a" * 64, data_sha256="b" * 64, settings={}, libraries={})

    def write(folder: Path) -> None:
        file_of(folder / "adapter_model.safetensors", size // 3)
        file_of(folder / "optimizer.pt", size - size // 3)

    began = time.monotonic()
    store.publish(store.draft(job_id=JOB, step=1, total_steps=1, identity=identity), write)
    on_disk_s = time.monotonic() - began
    published: list[object] = []
    Uploader(Store(cloud.s3), ticket, folders, now, published.append).last()
    saved_s = time.monotonic() - began
    if not published:
        sys.exit("the checkpoint was not published, nothing is reported")
    other = Folders(base / "other")
    for folder in (other.run, other.control, other.incoming):
        folder.mkdir(parents=True)
    began = time.monotonic()
    if Resumer(Store(cloud.s3), ticket, other, _ignore).fetch() != 1:
        sys.exit("the checkpoint did not come back, nothing is reported")
    restored_s = time.monotonic() - began
    rate, back = size / MB / saved_s, size / MB / restored_s
    fits = f"{rate * NOTICE_S / 1000:.1f} GB"
    return f"| {size / MB:.0f} MB | {on_disk_s:.2f} | {saved_s:.2f} | {rate:.0f} | {fits} | {restored_s:.2f}, {back:.0f} MB/s |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, nargs="+", default=[32, 512], help="sizes to copy (default: 32 512)")
    parser.add_argument("--save-mib", type=int, nargs="+", default=[96, 512, 1536], help="sizes of last saves (default: 96 512 1536)")
    parser.add_argument("--times", type=int, default=5)
    asked = parser.parse_args()
    os.environ.update(loopback.CREDENTIALS)
    with tempfile.TemporaryDirectory(prefix="bench-transfers-") as name, loopback.s3_server(Path(name), lean=True) as endpoint:
        base = Path(name)
        os.environ["AWS_ENDPOINT_URL"] = endpoint
        cloud = Cloud(connect(endpoint))
        missing = [words for words in ("aws s3 cp", "s5cmd cp") if words not in peers(endpoint)]
        sys.stdout.write(machine.told("boto3", "botocore", "s3transfer") + "\n")
        sys.stdout.write(f"{asked.times} copies of each; not installed here, so not compared: {', '.join(missing) or 'none'}\n\n")
        sys.stdout.write("| file | up: MB/s | MB a CPU s | down: MB/s | MB a CPU s | agent's CPU s by the peer's, up, down |\n|---|---|---|---|---|---|\n")
        for mib in asked.mib:
            sys.stdout.write("\n".join(copies(Store(cloud.s3), endpoint, base, mib * 1024**2, asked.times)) + "\n")
            sys.stdout.flush()
        sys.stdout.write("\n| last save of | on the disk after s | in S3 after s | MB/s | would fit a warning | restore |\n|---|---|---|---|---|---|\n")
        for mib in asked.save_mib:
            sys.stdout.write(last_save(cloud, base / f"save-{mib}", mib * 1024**2) + "\n")
            sys.stdout.flush()
            shutil.rmtree(base / f"save-{mib}")
            for key in cloud.keys(""):
                cloud.s3.delete_object(Bucket=OUTPUTS, Key=key)
    return 0


if __name__ == "__main__":
    sys.exit(main())
