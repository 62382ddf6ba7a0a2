"""parliament and cloudsplaining over policies: ``.venv-lint/bin/python tools/policy_auditors.py POLICIES.json``, findings as JSON.

Runs in ``.venv-lint``, which has these two and not this repository; so it takes and gives plain JSON:
``{name: policy document}`` in, ``[[tool, rule, name], ...]`` out. What to make of a finding is ``tools.lint_security``'s business.
"""

import json
import logging
import sys
from pathlib import Path
from typing import Any


def _parliament(name: str, document: dict[str, Any]) -> set[tuple[str, str, str]]:
    from parliament import analyze_policy_string  # type: ignore[import-not-found]  # it is in .venv-lint only

    policy = analyze_policy_string(json.dumps(document), include_community_auditors=True)
    return {("parliament", finding.issue, name) for finding in policy.findings}


def _cloudsplaining(name: str, document: dict[str, Any]) -> set[tuple[str, str, str]]:
    from cloudsplaining.scan.policy_document import PolicyDocument  # type: ignore[import-not-found]  # as above

    policy = PolicyDocument(document)
    found = {
        "PRIVILEGE_ESCALATION": policy.allows_privilege_escalation,
        "DATA_EXFILTRATION": policy.allows_data_exfiltration_actions,
        "PERMISSIONS_MANAGEMENT": policy.permissions_management_without_constraints,
        "CREDENTIALS_EXPOSURE": policy.credentials_exposure,
        "SERVICE_WILDCARD": policy.service_wildcard,
    }
    return {("cloudsplaining", rule, name) for rule, what in found.items() if what}


def main() -> int:
    logging.disable(logging.CRITICAL)
    policies: dict[str, dict[str, Any]] = json.loads(Path(sys.argv[1]).read_text())
    found: set[tuple[str, str, str]] = set()
    for name, document in policies.items():
        found |= _parliament(name, document) | _cloudsplaining(name, document)
    json.dump(sorted(found), sys.stdout)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
