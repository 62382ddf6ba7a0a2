"""How much memory this host can still give: what /proc says, or less where a control group bounds the container."""

from pathlib import Path

_MEMINFO = Path("/proc/meminfo")
_GROUP = Path("/sys/fs/cgroup")


def free_memory_bytes(meminfo: Path = _MEMINFO, group: Path = _GROUP) -> int:
    """Bytes that can be taken without pushing anything out: ``MemAvailable`` (proc_meminfo(5)), and what is left of ``memory.max`` (cgroup v2)."""
    available = int(_fields(meminfo)["MemAvailable:"]) * 1024
    try:
        most, used = (group / "memory.max").read_text().strip(), int((group / "memory.current").read_text())
        if most == "max":
            return available
        # Pages of files that nobody maps are counted as used, and given up when asked for.
        return min(available, int(most) - used + int(_fields(group / "memory.stat")["inactive_file"]))
    except (OSError, KeyError, ValueError):
        return available


def _fields(path: Path) -> dict[str, str]:
    return {name: value for name, value, *_ in (line.split() for line in path.read_text().splitlines())}
