"""What the pages tell a person to type is what the tools take; and what they promise to list is listed whole."""

import json
import os
import re
import shlex
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dropforge.cli import main
from dropforge.operate.checks_regions import checks_in
from dropforge.operate.doctor import CHECKS
from dropforge.quotas import QUOTAS
from dropforge.translation import read
from jobspec.operator import OperatorRequest, parse_request
from tests.cli.shell import NotACommand, check_dropforge, commands_of, read_aws, simple_commands

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("docs/*.md"), ROOT / "README.md", ROOT / "dropforge/local/README.md"])
COMMANDS = [(page.relative_to(ROOT), line) for page in PAGES for line in commands_of(page)]
#: As much of the SAM CLI as our pages use; held to its own help below, where it is installed.
SAM = {
    "build": set[str](),
    "deploy": {"--guided", "--stack-name", "--config-env", "--parameter-overrides"},
    "delete": {"--stack-name"},
    "validate": {"--lint"},
    "local": {"invoke", "-e"},
}


@pytest.mark.parametrize(("page", "line"), COMMANDS, ids=[f"{page}: {line[:70]}" for page, line in COMMANDS])
def test_every_command_in_the_pages_is_one_that_its_tool_takes(page: Path, line: str) -> None:
    for words in simple_commands(line.replace(".venv/bin/dropforge", "dropforge")):
        while words and (words[0] in ("eval", "xargs", "sudo") or re.fullmatch(r"[A-Z_]+=.*", words[0])):
            words = words[1:]
        match words[:1]:
            case ["aws"]:
                read_aws(words)
            case ["dropforge"]:
                check_dropforge(words, main)
            case ["sam"]:
                unknown = {word for word in words[2:] if word.startswith("-")} - SAM.get(words[1], set())
                assert words[1] in SAM, f"sam has no {words[1]}"
                assert not unknown, f"{page}: {line}: {unknown}"


@pytest.mark.parametrize("command", SAM)
def test_sam_itself_takes_what_its_table_says(command: str) -> None:
    sam = ROOT / ".venv-sam/bin/sam"
    if not sam.exists():
        pytest.skip("no .venv-sam: `make lint` makes it")
    options = {word for word in SAM[command] if word.startswith("-")}
    words = [command, *(SAM[command] - options), "--help"]
    shown = subprocess.run([str(sam), *words], env={**os.environ, "SAM_CLI_TELEMETRY": "0"}, capture_output=True, text=True, timeout=300, check=True).stdout
    assert options <= set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", shown)), shown


def test_the_pages_have_many_commands_and_a_wrong_one_would_be_seen() -> None:
    assert len(COMMANDS) > 60
    assert {str(page) for page, _ in COMMANDS} >= {"docs/operations.md", "docs/deployment.md", "docs/troubleshooting.md", "README.md"}
    with pytest.raises(NotACommand):
        read_aws(shlex.split("aws ec2 terminate-instances --instance-id I"))


def test_the_hold_by_hand_is_a_request_that_the_control_plane_takes() -> None:
    (line,) = [line for page, line in COMMANDS if str(page) == "docs/operations.md" and "put-events" in line]
    call = read_aws(shlex.split(line))
    assert call is not None
    (entry,) = call.parameters["Entries"]
    detail = json.loads(entry["Detail"].replace("YYYY-MM-DDTHH:MM:SSZ", datetime.now(UTC).isoformat()))
    asked = parse_request({"source": entry["Source"], "detail-type": entry["DetailType"], "detail": detail}, "STACK")
    assert isinstance(asked, OperatorRequest)
    assert asked.action == "pause"


def test_the_deployment_page_explains_each_parameter_of_the_template() -> None:
    table = re.findall(r"^\| (`[A-Z]\w+`(?:, `\w+`)*) \|", (ROOT / "docs/deployment.md").read_text(), re.MULTILINE)
    explained = {name for row in table for name in re.findall(r"`(\w+)`", row)}
    assert explained == set(read(ROOT / "template.yaml")["Parameters"])


def test_the_deployment_page_names_each_quota_with_its_code() -> None:
    rows = re.findall(r"^\| (spot|on-demand) \| .* \| (.*) \| `(L-[0-9A-F]+)` \|$", (ROOT / "docs/deployment.md").read_text(), re.MULTILINE)
    assert set(rows) == {(quota.market, quota.name, quota.code) for quota in QUOTAS}


def test_the_operations_page_explains_each_line_of_doctor() -> None:
    page = (ROOT / "docs/operations.md").read_text()
    table = page[page.index("| line |") : page.index("The launch line proves")]
    explained = {name.strip() for row in re.findall(r"^\| ([a-z, -]+) \|", table, re.MULTILINE) for name in row.split(",")}
    assert explained - {"line"} == {check.name for check in (*CHECKS, *checks_in("us-west-2"))}


def test_what_is_frozen_by_hand_is_every_function_that_may_launch() -> None:
    template = read(ROOT / "template.yaml")
    page = (ROOT / "docs/operations.md").read_text()
    named = set(re.findall(r"`(\w+)FunctionName`", page[page.index("### With the AWS") : page.index("## Dead letters")]))
    launching = {
        name.removesuffix("Role")
        for name, resource in template["Resources"].items()
        if resource["Type"] == "AWS::IAM::Role" and {"Ref": "LaunchPolicy"} in list(resource["Properties"].get("ManagedPolicyArns", []))
    }
    assert named == launching


def test_the_operations_page_explains_each_alarm() -> None:
    page = (ROOT / "docs/operations.md").read_text()
    table = page[page.index("| alarm | it rings when") : page.index("### Idle GPUs")]
    explained = set(re.findall(r"`(\w+Alarm)`", table))
    assert explained == {name for name, resource in read(ROOT / "template.yaml")["Resources"].items() if resource["Type"] == "AWS::CloudWatch::Alarm"}


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_every_link_in_the_pages_leads_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / link).exists(), link
