"""Functions run as on AWS: the real runtime client (awslambdaric) behind the Runtime API, in an environment of their own.

ministack already speaks the Runtime API for custom runtimes; this makes it the way of every Python function. A function
sees its own variables, its own role's credentials and Lambda's reserved variables, and nothing of the emulator's. A
timeout ends its whole process group. Events from EventBridge are asynchronous invocations: two retries, then the
function's dead-letter queue or failure destination. At most AT_ONCE run side by side, the others wait their turn.
Packages that `sam build` put into the bundle are for Lambda's machine (Linux on arm64): they are set aside, and those of
``.venv-lambda``, pinned to the same versions, are used.
"""

import contextlib
import json
import os
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any

from dropforge.local.plugin import seams
from dropforge.local.plugin.settings import Settings

#: Each function is a process of some 50 MB that wants a core while it starts. On AWS each has a processor of its own; here a burst of 300 manifests
#: was 250 processes on two cores, each slower by all the others, and a laptop out of memory.
AT_ONCE = max(4, 2 * (os.cpu_count() or 1))

_BOOTSTRAP = """#!/bin/sh
# setsid: a timeout ends everything that the handler started.
exec setsid {python} -m awslambdaric "$_HANDLER"
"""


def install(settings: Settings) -> None:
    seams.lambda_svc._execute_function_warm = seams.lambda_svc._execute_function_provided_warm
    seams.lambda_runtime._worker_class_for = lambda config: seams.lambda_runtime.ProvidedWorker
    seams.wrap("services.lambda_svc", "_execute_function", _in_turn)
    seams.wrap("services.lambda_svc", "_provided_runtime_code_dir", lambda original: lambda code_zip: _with_bootstrap(original(code_zip), settings))
    seams.wrap("services.lambda_svc", "_provided_worker_env", lambda original: _with_own_environment(original, settings))
    seams.wrap("services.lambda_svc", "_emit_lambda_logs", lambda original: _also_to_files(original, settings.home / "logs"))
    seams.wrap("core.lambda_runtime", "_signal", lambda original: _signal_group)
    seams.wrap("core.lambda_runtime", "_collect", _ending_group)
    seams.wrap("services.eventbridge", "_dispatch_to_lambda", lambda original: _invoke_asynchronously)
    worker = seams.lambda_runtime.ProvidedWorker
    worker._await_init = _naming_init_errors(worker._await_init)


def _in_turn(original: Any) -> Any:
    """No more than AT_ONCE invocations at a time. None of them waits for another: no function here invokes one synchronously."""
    places, inside = threading.BoundedSemaphore(AT_ONCE), threading.local()

    def execute(func: dict[str, Any], event: Any) -> Any:
        if getattr(inside, "waited", False):  # the emulator calls itself, to go on in the function's own region
            return original(func, event)
        with places:
            inside.waited = True
            try:
                return original(func, event)
            finally:
                inside.waited = False

    return execute


def end_all() -> None:
    """End every warm function process."""
    seams.lambda_runtime.reset()


#: Functions of one bundle share its folder, and some start at the same moment.
_PREPARING = threading.Lock()


def _with_bootstrap(code_dir: str, settings: Settings) -> str:
    bootstrap = Path(code_dir) / "bootstrap"
    with _PREPARING:
        if not bootstrap.exists():
            _set_packages_aside(Path(code_dir))
            bootstrap.write_text(_BOOTSTRAP.format(python=settings.lambda_python))
            bootstrap.chmod(0o755)
    return code_dir


def _set_packages_aside(code_dir: Path) -> None:
    """Remove whatever an installed package's RECORD lists (PyPA, "Recording installed projects"): at its top level, as pip put it there."""
    for record in code_dir.glob("*.dist-info/RECORD"):
        for name in {line.partition("/")[0].partition(",")[0] for line in record.read_text().splitlines()} - {"", ".."}:
            found = code_dir / name
            if found.is_dir():
                shutil.rmtree(found)
            else:
                found.unlink(missing_ok=True)


#: What the emulator's environment for a function may keep: Lambda's reserved variables (Lambda guide, "Defined runtime
#: environment variables"); everything else is the emulator's own.
_RESERVED = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_LAMBDA_FUNCTION_NAME",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
    "AWS_LAMBDA_FUNCTION_VERSION",
    "AWS_LAMBDA_LOG_STREAM_NAME",
    "AWS_LAMBDA_RUNTIME_API",
    "LAMBDA_TASK_ROOT",
    "_HANDLER",
)


def _with_own_environment(original: Any, settings: Settings) -> Any:
    def worker_environment(config: dict[str, Any], code_dir: str, port: int) -> dict[str, str]:
        reserved: dict[str, str] = {key: value for key, value in original(config, code_dir, port).items() if key in _RESERVED}
        variables: dict[str, str] = seams.lambda_svc._runtime_env_vars(config)
        return variables | _fixed(config, settings) | reserved

    return worker_environment


def _fixed(config: dict[str, Any], settings: Settings) -> dict[str, str]:
    name = config.get("FunctionName", "")
    return {
        "AWS_ENDPOINT_URL": settings.endpoint,
        "AWS_EXECUTION_ENV": f"AWS_Lambda_{config.get('Runtime', 'python')}",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_LAMBDA_LOG_FORMAT": (config.get("LoggingConfig") or {}).get("LogFormat") or "Text",
        "AWS_LAMBDA_LOG_GROUP_NAME": (config.get("LoggingConfig") or {}).get("LogGroup") or f"/aws/lambda/{name}",
        "LANG": "en_US.UTF-8",
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "TZ": ":UTC",
    }


def _signal_group(process: Any) -> None:
    if process is not None and process.poll() is None:
        _to_group(process, signal.SIGTERM)


def _ending_group(original: Any) -> Any:
    def collect(process: Any, deadline: float) -> None:
        original(process, deadline)
        if process is not None:
            _to_group(process, signal.SIGKILL)

    return collect


def _to_group(process: Any, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _naming_init_errors(original: Any) -> Any:
    """An import error of a handler keeps its own type (``Runtime.ImportModuleError``), as Lambda reports it."""

    def await_init(worker: Any, init_timeout: float | None = None) -> None:
        try:
            original(worker, init_timeout)
        except RuntimeError:
            reported = worker._init_error
            if isinstance(reported, dict) and reported.get("errorType"):
                raise seams.lambda_runtime.ProvidedRuntimeError(str(reported.get("errorMessage", "")), str(reported["errorType"])) from None
            raise

    return await_init


def _also_to_files(original: Any, folder: Path) -> Any:
    """One JSON line an invocation in ``logs/<function>.jsonl``, for ``dropforge local logs`` and the demo's time line."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = threading.Lock()

    def emit(func: dict[str, Any], request_id: str, log_text: str, error: bool, duration_ms: int, **more: Any) -> None:
        text = log_text.replace("\r", "\n")  # the runtime client joins the lines of one message with carriage returns
        original(func, request_id, text, error, duration_ms, **more)
        name = (func.get("config") or func).get("FunctionName", "unknown")
        entry = {"at": time.time(), "function": name, "request_id": request_id, "duration_ms": duration_ms, "error": error, "lines": text.splitlines()}
        with lock, (folder / f"{name}.jsonl").open("a") as out:
            out.write(json.dumps(entry) + "\n")

    return emit


def _invoke_asynchronously(arn: str, payload: str) -> None:
    func, config, _ = seams.lambda_svc._get_func_record_for_ref(arn)
    if func and config:
        seams.lambda_svc.invoke_async_with_retry(seams.lambda_svc._execution_record_for_config(func, config), json.loads(payload))
