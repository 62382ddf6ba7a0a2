"""The workflows: every action by its full SHA, no right that is not needed, and nothing a stranger writes meets a shell. zizmor looks at the rest."""

import re
from typing import Any

import pytest
import yaml

from tests.template.stack import ROOT, Stack

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
#: Every right that any job has, and what for.
RIGHTS = {
    "test.yml": {"contents": "read"},
    "build-push.yml": {"contents": "read", "id-token": "write", "attestations": "write"},
    "deploy.yml": {"contents": "read", "id-token": "write", "attestations": "read"},
}


def _jobs(name: str) -> dict[str, Any]:
    jobs: dict[str, Any] = yaml.safe_load((ROOT / ".github/workflows" / name).read_text())["jobs"]
    return jobs


def unpinned(text: str) -> list[str]:
    """Uses of an action that are not a full commit SHA with its version beside it."""
    used = re.findall(r"uses: *(.*)", text)
    return [use for use in used if not re.fullmatch(r"[\w-]+/[\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", use)]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_every_action_is_pinned(path: Any) -> None:
    assert unpinned(path.read_text()) == []
    assert "uses:" in path.read_text()


def test_an_action_by_its_tag_is_noticed() -> None:
    assert unpinned("      - uses: actions/checkout@v5\n") == ["actions/checkout@v5"]


def test_one_action_has_one_pin() -> None:
    pins = {use for path in WORKFLOWS for use in re.findall(r"uses: *(\S+)", path.read_text())}
    assert len({pin.partition("@")[0] for pin in pins}) == len(pins)


def test_every_right_is_a_jobs_own_and_listed_here() -> None:
    assert {path.name for path in WORKFLOWS} == RIGHTS.keys()
    for name, rights in RIGHTS.items():
        assert yaml.safe_load((ROOT / ".github/workflows" / name).read_text())["permissions"] == {}
        for job in _jobs(name).values():
            assert job["permissions"] == rights
            assert job["timeout-minutes"] <= 60


def test_no_expression_is_pasted_into_a_shell() -> None:
    for name in RIGHTS:
        for job in _jobs(name).values():
            assert [step["run"] for step in job["steps"] if "${{" in step.get("run", "")] == []


def test_who_pushes_and_deploys_is_who_the_roles_trust() -> None:
    roles = Stack(parameters={"GitHubRepository": "me/it", "GitHubRepositoryId": "1", "GitHubOwnerId": "2"})
    push, deploy = _jobs("build-push.yml")["build-push"], _jobs("deploy.yml")["deploy"]
    assert push["if"].startswith("github.ref == 'refs/heads/main'")
    assert deploy["if"] == "github.ref == 'refs/heads/main'"
    (trust,) = roles.properties("DeployRole")["AssumeRolePolicyDocument"]["Statement"]
    subjects = trust["Condition"]["StringEquals"]["token.actions.githubusercontent.com:sub"]
    assert all(subject.endswith(f":environment:{deploy['environment']}") for subject in subjects)


def test_the_image_is_pushed_by_sha_and_as_latest_attested_and_deployed_by_digest() -> None:
    steps = _jobs("build-push.yml")["build-push"]["steps"]
    agent, build = [step["with"] for step in steps if step.get("uses", "").startswith("docker/build-push-action@")]
    assert [line.rpartition("}}:")[2] for line in build["tags"].splitlines()] == ["${{ github.sha }}", "latest"]
    assert agent["tags"].splitlines() == [f"{tag}-agent" for tag in build["tags"].splitlines()], "as agent/bootstrap.sh looks for it"
    assert (agent.pop("target"), build.get("target")) == ("agent", None)
    assert {**agent, "tags": ""} == {**build, "tags": ""}
    assert (build["provenance"], build["sbom"], build["push"]) == ("mode=max", True, True)
    (attest,) = [step["with"] for step in steps if step.get("uses", "").startswith("actions/attest-build-provenance@")]
    assert (attest["subject-digest"], attest["push-to-registry"]) == ("${{ steps.build.outputs.digest }}", True)
    check = next(step["run"] for step in _jobs("deploy.yml")["deploy"]["steps"] if "digest" in step.get("name", ""))
    assert "^sha256:[0-9a-f]{64}$" in check


def test_the_page_says_of_each_pin_what_it_was_verified_against() -> None:
    rows = re.findall(r"^\| `([\w/-]+)` \| (v[\d.]+) \| `([0-9a-f]{12})` \|", (ROOT / "docs/github.md").read_text(), re.MULTILINE)
    pins = {use for path in WORKFLOWS for use in re.findall(r"uses: *([\w/-]+)@([0-9a-f]{12})[0-9a-f]* # (\S+)", path.read_text())}
    assert {(action, sha, version) for action, version, sha in rows} == pins
