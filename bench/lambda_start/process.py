"""One function's process: the real runtime client, in an environment such as Lambda gives, from its start to its end."""

import os
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.lambda_start.layout import Layout
from bench.lambda_start.runtime_api import FunctionFailed, RuntimeApi
from bench.lambda_start.story import CREDENTIALS
from bench.lambda_start.tape import Tape

INSIDE = Path(__file__).parent / "inside"
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Run:
    """Seconds from the process's start to its first answer, by the clock and of the processor; of later answers; peak memory in MiB."""

    cold_s: float
    cold_cpu_s: float
    warm_s: tuple[float, ...]
    memory_mib: float


def run(layout: Layout, handler: str, event: Any, settings: Mapping[str, str], tape: Tape, *, warm: int, log: Path) -> Run:
    """Start, answer once and ``warm`` times more, end. Raises FunctionFailed, also where AWS was asked what is not on the tape."""
    api = RuntimeApi()
    environment = {
        **settings,
        **CREDENTIALS,
        "AWS_ENDPOINT_URL": tape.address,
        "AWS_EXECUTION_ENV": "AWS_Lambda_python3.13",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
        "AWS_LAMBDA_FUNCTION_NAME": "bench",
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_LAMBDA_LOG_FORMAT": "JSON",
        "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/bench",
        "AWS_LAMBDA_LOG_STREAM_NAME": "bench",
        "AWS_LAMBDA_RUNTIME_API": api.address,
        "AWS_REGION": "us-east-1",
        "LAMBDA_TASK_ROOT": str(layout.task),
        "LANG": "en_US.UTF-8",
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "PYTHONPATH": os.pathsep.join(map(str, (layout.task, layout.runtime, INSIDE))),
        # /var/task cannot be written to.
        "PYTHONDONTWRITEBYTECODE": "1",
        "TZ": ":UTC",
        "_HANDLER": handler,
    }
    began = time.perf_counter()
    with log.open("ab") as out:
        process = subprocess.Popen([layout.python, "-S", "-m", "awslambdaric", handler], cwd=layout.task, env=environment, stdout=out, stderr=out)
    try:
        cold_s = _answered(api, event, tape, began)
        cold_cpu_s = _cpu_s(process.pid)
        warm_s = tuple(_answered(api, event, tape, time.perf_counter()) for _ in range(warm))
        return Run(cold_s, cold_cpu_s, warm_s, _peak_mib(process.pid))
    except FunctionFailed as failed:
        raise FunctionFailed(f"{handler}: {failed}; its log: {log.read_text(errors='replace')[-3000:]}") from None
    finally:
        process.kill()
        process.wait()
        api.close()


def _answered(api: RuntimeApi, event: Any, tape: Tape, began: float) -> float:
    if not tape.taping:
        tape.begin(taping=False)
    api.give(event)
    api.answer()
    took_s = time.perf_counter() - began
    if tape.unknown:
        raise FunctionFailed(f"AWS was asked what was not taped: {', '.join(tape.unknown[:5])}")
    return took_s


def _cpu_s(pid: int) -> float:
    """User and system time so far (proc(5), /proc/pid/stat fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _peak_mib(pid: int) -> float:
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024
