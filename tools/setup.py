"""Makes the environments this repository needs: ``python3 tools/setup.py [all|test|lint|docs]``. Standard library only.

* ``.venv``         tests, command line, trainer, benchmarks (requirements/dev.txt)
* ``.venv-cloud``   the local cloud's emulator, which pins its own boto3 (requirements/cloud.txt)
* ``.venv-lambda``  exactly what the Lambda functions have (requirements/lambda.txt), on Python 3.13 where there is one
* ``.venv-lint``    security linters that pin what the others need newer (requirements/lint.txt); only with ``lint`` or ``all``
* ``.venv-sam``     the SAM CLI, for linting and deploying (requirements/sam.txt); only with ``lint`` or ``all``
* ``.venv-docs``    what builds the documents' site (requirements/docs.txt); only with ``docs``, ``lint`` or ``all``
* ``.cache/firewall``  Debian's iptables, where the machine has none and this is root: a gang's rules are then tested in a kernel

Each is made once and made anew when its requirements change; nothing outside this folder is touched. Packages come from the
index that pip is configured for.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OLDEST = (3, 11)
#: A line at least this often while pip works, so that nobody wonders whether it still does.
NEWS_EVERY_S = 5.0


@dataclass(frozen=True)
class Environment:
    name: str
    requirements: str
    purpose: str
    #: Interpreters to look for, best first; none of them: the one that runs this file.
    pythons: tuple[str, ...] = ("python3.11", "python3.12", "python3.13")
    #: Installed on its own first: everything else must take the CPU build that satisfies it, not a larger one.
    first: tuple[str, ...] = ()
    #: Pins of packages that are installed without what they ask for.
    carried: str | None = None
    #: This repository itself, in editable form.
    with_project: bool = False


ENVIRONMENTS = {
    "dev": Environment(
        ".venv", "requirements/dev.txt", "tests, command line, trainer", first=("torch",), carried="requirements/carried.txt", with_project=True
    ),
    "cloud": Environment(".venv-cloud", "requirements/cloud.txt", "the local cloud's emulator"),
    "lambda": Environment(".venv-lambda", "requirements/lambda.txt", "the Lambda functions", pythons=("python3.13", "python3.12", "python3.11")),
    "lint": Environment(".venv-lint", "requirements/lint.txt", "security linters"),
    "sam": Environment(".venv-sam", "requirements/sam.txt", "the SAM CLI"),
    "docs": Environment(".venv-docs", "requirements/docs.txt", "the documents' site"),
}
FIREWALL_PACKAGES = ("iptables", "libxtables12", "libmnl0", "libnftnl11")
#: Seconds for all of it: a machine that reaches the package index only is not to wait for Debian's mirrors.
FIREWALL_WITHIN_S = 60
GROUPS = {
    "demo": ("dev", "cloud", "lambda"),
    "test": ("dev", "cloud", "lambda"),
    "lint": ("dev", "sam", "lint", "docs"),
    "docs": ("docs",),
    "all": tuple(ENVIRONMENTS),
}


def _works(python: str) -> bool:
    """True for an interpreter of a fit age that can make environments; a version manager's shim may answer for none."""
    probe = f"import sys, venv, ensurepip; sys.exit(sys.version_info < {OLDEST})"
    try:
        return subprocess.run([python, "-c", probe], capture_output=True, check=False, timeout=60).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _interpreters(name: str) -> list[str]:
    """Candidates of that name: on PATH, and below pyenv's versions, which its shims hide unless chosen."""
    found = [path] if (path := shutil.which(name)) else []
    version = name.removeprefix("python")
    below_pyenv = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/{name}"), reverse=True)
    return found + [str(path) for path in below_pyenv]


def interpreter(environment: Environment) -> str:
    """The best interpreter for the environment. Raises SystemExit with what to install where there is none."""
    for name in environment.pythons:
        for path in _interpreters(name):
            if _works(path):
                return path
    if _works(sys.executable):
        return sys.executable
    raise SystemExit(
        f"{environment.name} needs Python {OLDEST[0]}.{OLDEST[1]} or newer with venv and ensurepip; "
        "none was found on PATH. On Debian or Ubuntu: apt-get install python3 python3-venv"
    )


def _with_included(requirements: Path) -> list[Path]:
    """The file, and those that it includes by ``-r``, theirs too."""
    found = [requirements]
    for line in requirements.read_text().splitlines():
        if line.startswith("-r "):
            found += _with_included(requirements.parent / line.removeprefix("-r ").strip())
    return found


def stamp_of(environment: Environment) -> str:
    """What the environment was made from: changes when its requirements or this project's packaging do."""
    parts = [
        *_with_included(ROOT / environment.requirements),
        *([ROOT / environment.carried] if environment.carried else []),
        *([ROOT / "pyproject.toml"] if environment.with_project else []),
    ]
    return hashlib.sha256(b"".join(part.read_bytes() for part in parts)).hexdigest()


def _run(command: list[str], what: str) -> None:
    """Runs the command, its output kept aside; says every few seconds that it still runs, and shows the output if it fails."""
    log = ROOT / ".cache" / "setup.log"
    log.parent.mkdir(exist_ok=True)
    started, told = time.monotonic(), time.monotonic()
    with log.open("wb") as sink:
        process = subprocess.Popen(command, stdout=sink, stderr=subprocess.STDOUT, cwd=ROOT)
        while process.poll() is None:
            time.sleep(0.1)
            if time.monotonic() - told >= NEWS_EVERY_S:
                told = time.monotonic()
                print(f"    {what}: {told - started:.0f} s", flush=True)
    if process.returncode:
        print(log.read_text(errors="replace")[-4000:], file=sys.stderr)
        raise SystemExit(f"{what} failed (exit {process.returncode}); the end of its output is above, all of it in .cache/setup.log")


def make(environment: Environment) -> None:
    """Makes the environment, or does nothing if it is there as its requirements want it."""
    folder, stamp = ROOT / environment.name, ROOT / environment.name / ".made-from"
    wanted = stamp_of(environment)
    if stamp.exists() and stamp.read_text() == wanted:
        print(f"  {environment.name}: ready ({environment.purpose})")
        return
    started, python = time.monotonic(), interpreter(environment)
    print(f"  {environment.name}: making it with {Path(python).name} from {environment.requirements} ({environment.purpose})", flush=True)
    _run([python, "-m", "venv", "--clear", str(folder)], "venv")
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--progress-bar", "off"]
    pins = (ROOT / environment.requirements).read_text().splitlines()
    for name in environment.first:
        _run([*pip, next(line for line in pins if line.startswith(f"{name}=="))], f"pip install {name}")
    _run([*pip, "-r", environment.requirements], f"pip install -r {environment.requirements}")
    if environment.carried is not None:
        _run([*pip, "--no-deps", "-r", environment.carried], f"pip install -r {environment.carried}")
    if environment.with_project:
        _run([*pip, "--no-deps", "--no-build-isolation", "--editable", "."], "pip install --editable .")
    stamp.write_text(wanted)
    print(f"  {environment.name}: made in {time.monotonic() - started:.0f} s", flush=True)


def unpack_firewall() -> None:
    """Debian's iptables, unpacked below ``.cache``: nothing is installed. Where it cannot be had, the tests that want it are skipped, and say so."""
    folder = ROOT / ".cache" / "firewall"
    apt_get, dpkg = shutil.which("apt-get"), shutil.which("dpkg")
    if shutil.which("iptables") or os.geteuid() != 0 or apt_get is None or dpkg is None:
        return
    if not (folder / "bin").exists():
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "packages").mkdir(parents=True)
        try:
            fetched = subprocess.run(
                [apt_get, "download", *FIREWALL_PACKAGES], cwd=folder / "packages", capture_output=True, text=True, check=False, timeout=FIREWALL_WITHIN_S
            )
        except subprocess.TimeoutExpired:
            print(f"  .cache/firewall: Debian's mirrors did not answer within {FIREWALL_WITHIN_S} s; the tests of a gang's rules in a kernel are left out")
            return
        packages = sorted((folder / "packages").glob("*.deb"))
        if fetched.returncode or any(subprocess.run([dpkg, "-x", str(package), str(folder)], check=False).returncode for package in packages):
            print(f"  .cache/firewall: Debian's iptables could not be had, and its tests are left out: {fetched.stderr.strip()[-200:]}")
            return
        _write_commands(folder)
    print("  .cache/firewall: ready (Debian's iptables, for a gang's rules in network namespaces)")


def _write_commands(folder: Path) -> None:
    """``bin/iptables`` and ``bin/ip6tables``, which find their own libraries."""
    (libraries,) = {path.parent for path in folder.rglob("libxtables.so.*")}
    program = folder / "usr/sbin/xtables-nft-multi"
    (folder / "bin.new").mkdir()
    for name in ("iptables", "ip6tables"):
        command = folder / "bin.new" / name
        command.write_text(f'#!/bin/sh\nLD_LIBRARY_PATH={libraries} XTABLES_LIBDIR={libraries}/xtables exec {program} {name} "$@"\n')
        command.chmod(0o755)
    (folder / "bin.new").rename(folder / "bin")


def main() -> None:
    group = sys.argv[1] if len(sys.argv) > 1 else "all"
    if group not in GROUPS:
        raise SystemExit(f"{group}: no such group; one of {', '.join(GROUPS)}")
    print(f"Setting up ({group}): {', '.join(ENVIRONMENTS[name].name for name in GROUPS[group])}", flush=True)
    for name in GROUPS[group]:
        make(ENVIRONMENTS[name])
    if group in ("test", "all"):
        unpack_firewall()


if __name__ == "__main__":
    main()
