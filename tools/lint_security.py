"""Security linters over what is deployed: ``python -m tools.lint_security``; any finding that is not accepted below is an exit status of 1.

checkov (translated template, workflows, Dockerfile), parliament and cloudsplaining (each IAM policy, its references filled in),
bandit (the Python code; what ruff's S rules have not), zizmor and jactionlint (workflows, their shell), hadolint (Dockerfile; it reads the
exceptions that stand in it). They live in ``.venv-lint`` and are run without network. An acceptance has its reason, names a place, and
is itself a finding once nothing needs it any more.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from dropforge.translation import NotTranslatable
from tools.lint_template import MACHINE_IMAGE
from tools.stack import Stack, arns_for
from tools.translate import translate

BIN = Path(".venv-lint/bin")
CODE = ("functions", "agent", "trainer", "dropforge", "tools", "demo", "bench")
WORKFLOWS = Path(".github/workflows")
DOCKERFILE = "Dockerfile.gpu"
_TIME_LIMIT_S = 300


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    tool: str
    rule: str
    #: A logical id, a policy's name, a file and line.
    where: str


@dataclass(frozen=True, slots=True)
class Accepted:
    tool: str
    rule: str
    #: May end in ``*``.
    where: str
    reason: str

    def covers(self, finding: Finding) -> bool:
        return (self.tool, self.rule) == (finding.tool, finding.rule) and fnmatchcase(finding.where, self.where)


ACCEPTED = (
    Accepted(
        "checkov",
        "CKV_AWS_18",
        "*Bucket",
        "access logs need a third bucket that only grows; CloudTrail data events are the account's choice (docs/security.md)",
    ),
    Accepted("checkov", "CKV_AWS_119", "JobTable", "encrypted with DynamoDB's key: a customer key adds a way to lock the table, and no secret is in it"),
    Accepted("checkov", "CKV_AWS_26", "*Topic", "with the AWS-managed key AWS Budgets and alarms publish in vain; no secret is in an e-mail"),
    Accepted("checkov", "CKV_AWS_27", "DeadLetters", "false: SqsManagedSseEnabled encrypts it; the rule looks for a KMS key only"),
    Accepted("checkov", "CKV_AWS_136", "Repository", "encrypted with AES-256; the image holds no secret"),
    Accepted("checkov", "CKV_AWS_51", "Repository", "every tag but `latest` is immutable; the rule knows only IMMUTABLE"),
    Accepted("checkov", "CKV_AWS_158", "*Logs", "CloudWatch encrypts log groups with its own key; logs hold no data of a user's by test"),
    Accepted("checkov", "CKV_AWS_116", "*Function", "every function has an on-failure destination, which keeps more than a bare queue; a test holds it"),
    Accepted("checkov", "CKV_AWS_117", "*Function", "functions call AWS's interfaces only; in a VPC they would need endpoints that are billed between jobs"),
    Accepted(
        "checkov",
        "CKV_AWS_115",
        "*Function",
        "a new account has ten concurrent executions and AWS refuses to reserve the last; the job table orders concurrent work",
    ),
    Accepted("checkov", "CKV_AWS_173", "*Function", "the variables are names, not secrets, and are encrypted with Lambda's key"),
    Accepted("checkov", "CKV_DOCKER_7", "*Dockerfile.gpu*", "false: the base is an ARG with a version; the rule does not read it"),
    Accepted(
        "parliament",
        "PRIVILEGE_ESCALATION",
        "LaunchPolicy",
        "launching with a role is the work; role, service, template, types and tags are conditions, held by tests",
    ),
    Accepted("parliament", "PERMISSIONS_MANAGEMENT_ACTIONS", "LaunchPolicy", "PassRole of one role to EC2, and EC2's two service-linked roles"),
    Accepted("parliament", "RESOURCE_MISMATCH", "LaunchPolicy", "RunInstances is allowed resource by resource, as the EC2 guide's examples do"),
    Accepted("parliament", "RESOURCE_MISMATCH", "PeerPolicy", "as above"),
    Accepted(
        "parliament",
        "NOTRESOURCE_WITH_ALLOW",
        "InstanceRole.instance",
        "all but tickets and status of the stack's and the named buckets; a Deny fences it, and a test holds it to be the only one",
    ),
    Accepted("parliament", "CREDENTIALS_EXPOSURE", "InstanceRole.instance", "ecr:GetAuthorizationToken: signing in to the registry to pull"),
    Accepted("parliament", "CREDENTIALS_EXPOSURE", "PushImageRole.push", "ecr:GetAuthorizationToken: signing in to the registry to push"),
    Accepted("cloudsplaining", "CREDENTIALS_EXPOSURE", "PushImageRole.push", "as above"),
    Accepted("parliament", "INVALID_ARN", "DeployRole.deploy", "false: the transform's ARN has `aws` for an account (CloudFormation guide)"),
    Accepted("parliament", "INVALID_ARN", "CloudFormationRole.change", "as above"),
    Accepted("bandit", "B301", "bench/lambda_start/inside/floor.py*", "what this benchmark wrote itself a moment ago"),
    Accepted("bandit", "B615", "bench/packing.py*", "false: it loads rows from a file of this machine, and no hub is asked"),
    Accepted("bandit", "B615", "demo/model.py*", "false: these load from a folder of this machine, and no hub is asked"),
    Accepted("bandit", "B310", "dropforge/local/*", "addresses on loopback that this program made itself"),
    Accepted("bandit", "B310", "dropforge/manifests/templates.py*", "the model hub's own address, fixed and https"),
)


def _policies() -> dict[str, Any]:
    """Every policy that allows something, ARNs filled in. The boundary allows nothing by itself: tests/template/test_github.py."""
    stack = Stack(
        parameters={
            "GitHubRepository": "owner/name",
            "GitHubRepositoryId": "1",
            "GitHubOwnerId": "2",
            "ReadBuckets": "shared-a,shared-b",
            "WebhookParameter": "/a/b",
        }
    )
    found = {name: policy["PolicyDocument"] for name, policy in stack.of_type("AWS::IAM::ManagedPolicy").items() if name != "Boundary"}
    for name, role in stack.of_type("AWS::IAM::Role").items():
        found |= {f"{name}.{policy['PolicyName']}": policy["PolicyDocument"] for policy in role.get("Policies", [])}
    return dict(arns_for(stack, found))


def _checkov(framework: str, *target: str) -> Iterator[Finding]:
    reports = json.loads(_output([str(BIN / "checkov"), "--framework", framework, "--skip-download", "--quiet", "--compact", "--output", "json", *target]))
    for report in reports if isinstance(reports, list) else [reports]:
        results = report.get("results", {})
        if results.get("parsing_errors"):
            yield Finding("checkov", "PARSING", ", ".join(results["parsing_errors"]))
        for check in results.get("failed_checks", []):
            # Boundary: see _policies.
            if check["resource"] != "AWS::IAM::ManagedPolicy.Boundary":
                yield Finding("checkov", check["check_id"], re.sub(r"^AWS::\w+::\w+\.", "", check["resource"]))


def _bandit() -> Iterator[Finding]:
    # From medium on: the low ones are ruff's S rules as well, and are accepted where they stand.
    for result in json.loads(_output([str(BIN / "bandit"), "--quiet", "--recursive", "-ll", "--format", "json", *CODE]))["results"]:
        yield Finding("bandit", result["test_id"], f"{result['filename'].removeprefix('./')}:{result['line_number']}")


def _zizmor() -> Iterator[Finding]:
    for result in json.loads(_output([str(BIN / "zizmor"), "--offline", "--persona", "pedantic", "--format", "json-v1", "--no-exit-codes", str(WORKFLOWS)])):
        location = next(place for place in result["locations"] if place["symbolic"]["kind"] == "Primary")
        where = location["symbolic"]["key"]["Local"]["given_path"], location["concrete"]["location"]["start_point"]["row"] + 1
        yield Finding("zizmor", result["ident"], f"{where[0]}:{where[1]}")


def _jactionlint() -> Iterator[Finding]:
    shellcheck = Path(sys.executable).parent / "shellcheck"
    workflows = sorted(map(str, WORKFLOWS.glob("*.yml")))
    for result in json.loads(_output([str(BIN / "jactionlint"), "--format", "json", f"--shellcheck={shellcheck}", *workflows])):
        yield Finding("jactionlint", result["id"], f"{result['filepath']}:{result['line']}")


def _hadolint() -> Iterator[Finding]:
    for result in json.loads(_output([str(BIN / "hadolint"), "--format", "json", DOCKERFILE])):
        yield Finding("hadolint", result["code"], f"{result['file']}:{result['line']}")


def findings() -> Iterator[Finding]:
    """Everything the tools said. Raises NotTranslatable, and RuntimeError for a tool that did not work."""
    with tempfile.TemporaryDirectory() as folder:
        template, policies = Path(folder) / "template.json", Path(folder) / "policies.json"
        template.write_text(json.dumps(translate(), indent=1))
        policies.write_text(json.dumps(_policies()))
        yield from _checkov("cloudformation", "--file", str(template))
        # -P: this folder must not shadow the packages' own modules.
        for tool, rule, where in json.loads(_output([str(BIN / "python"), "-P", "tools/policy_auditors.py", str(policies)])):
            yield Finding(tool, rule, where)
    yield from _checkov("cloudformation", "--file", str(MACHINE_IMAGE))
    yield from _checkov("dockerfile", "--file", DOCKERFILE)
    yield from _checkov("github_actions", "--directory", ".github")
    yield from _bandit()
    yield from _zizmor()
    yield from _jactionlint()
    yield from _hadolint()


def unaccepted(found: list[Finding], accepted: tuple[Accepted, ...] = ACCEPTED) -> list[str]:
    """A sentence for each finding that nothing accepts, and for each acceptance that nothing needs."""
    problems = [f"{f.tool} {f.rule}: {f.where}" for f in sorted(set(found)) if not any(a.covers(f) for a in accepted)]
    return problems + [
        f"{a.tool} {a.rule}: accepted for {a.where}, and not found there any more: remove it" for a in accepted if not any(a.covers(f) for f in found)
    ]


def _output(command: list[str]) -> str:
    """What the tool wrote. Their exit statuses also say that something was found, so only an empty answer is a failure."""
    environment = {**os.environ, "BC_SKIP_MAPPING": "TRUE", "LOG_LEVEL": "ERROR", "NO_COLOR": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=_TIME_LIMIT_S, env=environment, check=False)
    if not done.stdout.strip():
        raise RuntimeError(f"{' '.join(command[:4])} said nothing (exit {done.returncode}): {done.stderr[-1500:]}")
    return done.stdout


def main() -> int:
    if not BIN.exists():
        sys.stderr.write(f"lint_security: no {BIN.parent}: run `python3 tools/setup.py lint`\n")
        return 1
    try:
        problems = unaccepted(list(findings()))
    except (NotTranslatable, RuntimeError) as error:
        problems = [str(error)]
    for problem in problems:
        sys.stderr.write(problem + "\n")
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
