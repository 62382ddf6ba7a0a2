"""Every linter, one after the other, all of them even if one complains: ``python -m tools.lint``. Exit 1 if any did."""

import subprocess
import sys
import time
from pathlib import Path

BIN = Path(sys.executable).parent
PYTHON = sys.executable
#: What must be typed throughout; tests are read by ruff and by people.
TYPED = ("functions/jobspec", "functions/pages", "functions/planning", "functions/control_plane", "agent", "trainer", "dropforge", "tools", "demo")

#: The local cloud's stand-ins that are shell scripts.
SHIMS = ("aws", "docker", "ip6tables", "iptables", "shutdown", "sysctl")

CHECKS: tuple[tuple[str, list[str]], ...] = (
    ("ruff check", [str(BIN / "ruff"), "check", "."]),
    ("ruff format", [str(BIN / "ruff"), "format", "--check", "."]),
    ("mypy --strict", [str(BIN / "mypy"), *TYPED]),
    ("import directions", [str(BIN / "lint-imports"), "--no-cache"]),
    ("schemas", [PYTHON, "-m", "tools.schema", "--check"]),
    ("state machine", [PYTHON, "-m", "tools.state_machine", "--check"]),
    ("command line", [PYTHON, "-m", "tools.cli_reference", "--check"]),
    ("reference pages", [PYTHON, "-m", "tools.reference", "--check"]),
    ("rooms", [PYTHON, "-m", "tools.rooms", "--check"]),
    ("diagrams", [PYTHON, "-m", "tools.diagrams", "--check"]),
    ("instance types", [PYTHON, "-m", "tools.instance_types", "--check"]),
    ("user data", [PYTHON, "-m", "tools.embed_bootstrap", "--check"]),
    ("shell", [str(BIN / "shellcheck"), "agent/bootstrap.sh", *(f"dropforge/local/shims/{name}" for name in SHIMS)]),
    ("documents' site", [".venv-docs/bin/mkdocs", "build", "--strict", "--quiet"]),
    ("template", [PYTHON, "-m", "tools.lint_template"]),
    ("security", [PYTHON, "-m", "tools.lint_security"]),
)


def main() -> int:
    failed = []
    for name, command in CHECKS:
        started = time.monotonic()
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            done = subprocess.CompletedProcess(command, 1, "", f"{command[0]} is missing: python3 tools/setup.py lint")
        print(f"{'ok  ' if done.returncode == 0 else 'FAIL'} {name} ({time.monotonic() - started:.1f} s)", flush=True)
        if done.returncode:
            failed.append(name)
            print(done.stdout + done.stderr, flush=True)
    print(f"linters: {len(CHECKS) - len(failed)} passed, {len(failed)} failed" + (f": {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
