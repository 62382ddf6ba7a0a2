"""What a figure was measured on, and how figures are told: medians with the least and the most, never one alone."""

import os
import platform
import statistics
import subprocess
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def told(*packages: str) -> str:
    """One line: cores, memory, load, Python, the versions of ``packages``, the commit."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3
    versions = ", ".join(f"{name} {_version(name)}" for name in packages)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()  # noqa: S607 - the checkout's own git
    return (
        f"{os.cpu_count()} x {_processor()}, {memory:.0f} GiB, load {os.getloadavg()[0]:.1f}; Python {platform.python_version()}; {versions}; "
        f"commit {commit or 'unknown'}"
    )


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def spread(values: Iterable[float], digits: int = 2) -> str:
    """``3.10 (2.90 to 3.40)``."""
    found = sorted(values)
    return f"{statistics.median(found):.{digits}f} ({found[0]:.{digits}f} to {found[-1]:.{digits}f})"
