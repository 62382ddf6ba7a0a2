"""Lints the template in both its forms: ``python -m tools.lint_template``; any finding is an exit status of 1.

cfn-lint on ``template.yaml``, cfn-lint on its translation (a cycle or a policy that SAM writes is only there), that the
bootstrap in it is ``agent/bootstrap.sh``, and `sam validate --lint` where ``.venv-sam`` is; cfn-lint on ``machine-image.yaml`` and ``region.yaml``.
No suppression is in use; one that must be is a ``Metadata: cfn-lint`` on its resource with the reason beside it.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from dropforge.translation import NotTranslatable
from tools import embed_bootstrap
from tools.translate import TEMPLATE, translate

#: The recipe of the baked machine image, a stack of its own.
MACHINE_IMAGE = Path("machine-image.yaml")
#: Another region of a project, a stack of its own there.
REGION = Path("region.yaml")
SAM = Path(".venv-sam/bin/sam")
_TIME_LIMIT_S = 300
#: cfn-lint resolves zones and types against one region; the template itself names none.
_REGION = "us-east-1"


def lint(template: Path = TEMPLATE) -> list[str]:
    """Every finding as one text, in the order of the checks; empty when the template is clean."""
    findings = _cfn_lint(template)
    try:
        translated = translate(template)
    except NotTranslatable as error:
        return [*findings, str(error)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "translated.json"
        path.write_text(json.dumps(translated, indent=1))
        findings += _cfn_lint(path)
    return findings + _sam_validate(template)


def _cfn_lint(template: Path) -> list[str]:
    return _run([sys.executable, "-c", "from cfnlint.runner import main; main()", "--regions", _REGION, "--format", "parseable", "--template", str(template)])


def _sam_validate(template: Path) -> list[str]:
    if not SAM.exists():
        sys.stderr.write(f"lint_template: no {SAM}, so `sam validate --lint` was left out (`make setup` makes it)\n")
        return []
    return _run([str(SAM), "validate", "--lint", "--template", str(template), "--region", _REGION])


def _run(command: list[str]) -> list[str]:
    """What the command said, when it failed."""
    environment = {**os.environ, "SAM_CLI_TELEMETRY": "0"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=_TIME_LIMIT_S, env=environment, check=False)
    return [] if done.returncode == 0 else [f"{' '.join(command[:4])}:\n{done.stdout}{done.stderr}".rstrip()]


def main() -> int:
    findings = [*lint(), *_cfn_lint(MACHINE_IMAGE), *_cfn_lint(REGION)]
    for finding in findings:
        sys.stderr.write(finding + "\n")
    return 1 if embed_bootstrap.main(["--check"]) or findings else 0


if __name__ == "__main__":
    raise SystemExit(main())
