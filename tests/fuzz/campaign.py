"""Starts the engine on a target and reads what it found."""

import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SEEDS = ROOT / "tests" / "fuzz" / "seeds"
#: Inputs that once broke a promise; an ordinary test tries them again for ever.
FOUND = ROOT / "tests" / "fuzz" / "found"
NO_ENGINE = "atheris is not installed here (it has wheels for Linux on x86-64, Python 3.11 to 3.13): `pip install -r requirements/dev.txt`"

MAX_BYTES = 4096
#: One input that takes longer is reported like a crash; the readers take milliseconds.
TIMEOUT_S = 10
MAX_RSS_MIB = 1024

_TOKEN = re.compile(rb'"[A-Za-z0-9_ :./-]{2,40}"|[a-z_]{3,30}(?=:)')
_LAST_LINE = re.compile(r"#(\d+)\s+(?:DONE|NEW|REDUCE|pulse|INITED)\s+cov: (\d+) ft: (\d+)")


@dataclass(frozen=True, slots=True)
class Result:
    """What a campaign did. ``crash``: the file of the input that broke a promise; ``said``: the engine's own words then."""

    target: str
    runs: int
    edges: int
    features: int
    crash: Path | None
    said: str


def has_engine() -> bool:
    return find_spec("atheris") is not None


def seeds_of(target: str) -> list[Path]:
    return sorted(path for path in (SEEDS / target).iterdir() if path.is_file())


def found_of(target: str) -> list[Path]:
    return sorted((FOUND / target).iterdir()) if (FOUND / target).is_dir() else []


def _dictionary(target: str) -> str:
    """Every key and word of the seeds, in libFuzzer's dictionary format: no mutation finds ``terminate_at`` by chance."""
    tokens = {token.strip(b'"') for path in seeds_of(target) for token in _TOKEN.findall(path.read_bytes())}
    hard = {b"\xe2\x80\xae", b"\\u202e", b"\\ud800", b"\\u0000", b"1e999", b"-1", b"NaN", b"9223372036854775808", b"null", b"[[[[", b'{"":', b"\r\n"}
    return "".join('"' + "".join(f"\\x{byte:02x}" for byte in token) + '"\n' for token in sorted(tokens | hard))


def fuzz(target: str, *, seed: int, runs: int | None = None, seconds: int | None = None, keep: Path = FOUND, path: tuple[Path, ...] = ()) -> Result:
    """Fuzz one target for a number of runs or of seconds. A crash's input is kept under ``keep``; ``path``: first on the engine's import path."""
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        (scratch / "new").mkdir()
        (scratch / "words").write_text(_dictionary(target))
        options = [f"-seed={seed}", f"-max_len={MAX_BYTES}", f"-timeout={TIMEOUT_S}", f"-rss_limit_mb={MAX_RSS_MIB}", f"-dict={scratch / 'words'}"]
        options += [f"-artifact_prefix={scratch}/", "-use_value_profile=0", "-len_control=0"]
        options += [f"-runs={runs}"] if runs is not None else [f"-max_total_time={seconds}"]
        folders = [str(scratch / "new"), str(SEEDS / target), *([str(FOUND / target)] if found_of(target) else [])]
        environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": os.pathsep.join(map(str, (*path, ROOT, ROOT / "functions")))}
        command = [sys.executable, "-m", "tests.fuzz.engine", target, *options, *folders]
        ran = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False)
        crash = _kept(scratch, keep / target)
    lines = _LAST_LINE.findall(ran.stdout)
    done, edges, features = map(int, lines[-1]) if lines else (0, 0, 0)
    if ran.returncode and crash is None:
        raise RuntimeError(f"the engine ended with exit status {ran.returncode} and left no input:\n{ran.stdout[-3000:]}")
    return Result(target, done, edges, features, crash, _why(ran.stdout) if crash else "")


def _kept(scratch: Path, folder: Path) -> Path | None:
    """The input that the engine left, moved to where the tests find it."""
    left = [path for path in scratch.iterdir() if path.name.startswith(("crash-", "timeout-", "oom-"))]
    if not left:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / left[0].name[:20]
    place.write_bytes(left[0].read_bytes())
    return place


def _why(output: str) -> str:
    """The Python exception and the lines before it, or the engine's own reason."""
    start = output.find("=== Uncaught Python exception: ===")
    return output[start : start + 2500] if start >= 0 else output[-1500:]
