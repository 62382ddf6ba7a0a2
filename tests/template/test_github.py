"""What a workflow may do: who it must prove to be, what it gets, and that it cannot give itself more."""

import json
from typing import Any

import pytest

from tests.template.stack import Stack, listed, role_statements

GITHUB = {"GitHubRepository": "me/it", "GitHubRepositoryId": "123", "GitHubOwnerId": "45"}
CLAIM = "token.actions.githubusercontent.com:"
#: Roles that the pipeline must not be able to change: with the boundary on them it could.
OUT_OF_REACH = {"DeployRole", "CloudFormationRole"}
SUBJECTS = {
    "PushImageRole": ["repo:me/it:ref:refs/heads/main", "repo:me@45/it@123:ref:refs/heads/main"],
    "DeployRole": ["repo:me/it:environment:production", "repo:me@45/it@123:environment:production"],
}


def _stack() -> Stack:
    return Stack(parameters=GITHUB)


def loose_trusts(stack: Stack) -> list[str]:
    """Roles that strangers of GitHub could take: a claim that is missing, a pattern where a value belongs, another operator."""
    found = []
    for name, role in stack.of_type("AWS::IAM::Role").items():
        for statement in role["AssumeRolePolicyDocument"]["Statement"]:
            if "Federated" not in statement["Principal"]:
                continue
            conditions = statement.get("Condition", {})
            equals = conditions.get("StringEquals", {})
            claims = {key.removeprefix(CLAIM): listed(value) for key, value in equals.items()}
            held = {"aud", "sub", "repository_id", "repository_owner_id", "ref"} <= claims.keys()
            if conditions.keys() != {"StringEquals"} or not held or any("*" in value or not value for values in claims.values() for value in values):
                found.append(name)
    return found


def unbounded_roles(stack: Stack) -> set[str]:
    return {name for name, role in stack.of_type("AWS::IAM::Role").items() if role.get("PermissionsBoundary") != "<Boundary>"}


def test_without_a_repository_nothing_of_github_is_made() -> None:
    stack = Stack()
    made = [name for name, resource in stack.template["Resources"].items() if resource.get("Condition") in ("HasGitHub", "MakesOidcProvider")]
    assert set(made) == {"OidcProvider", "Boundary", "PushImageRole", *OUT_OF_REACH}
    assert not stack.holds({"Condition": "HasGitHub"})
    assert not stack.holds({"Condition": "MakesOidcProvider"})
    assert stack.properties("SubmitRole").get("PermissionsBoundary") is None


def test_every_federated_trust_names_audience_subject_numbers_and_branch_exactly() -> None:
    stack = _stack()
    assert loose_trusts(stack) == []
    for name, subjects in SUBJECTS.items():
        (trust,) = stack.properties(name)["AssumeRolePolicyDocument"]["Statement"]
        assert trust["Condition"]["StringEquals"] == {
            CLAIM + "aud": "sts.amazonaws.com",
            CLAIM + "repository_id": "123",
            CLAIM + "repository_owner_id": "45",
            CLAIM + "ref": "refs/heads/main",
            CLAIM + "sub": subjects,
        }


@pytest.mark.parametrize(
    "loosened",
    [
        {"StringLike": {CLAIM + "sub": "repo:me/it:*"}},
        {"ForAllValues:StringEquals": {CLAIM + "sub": "repo:me/it:ref:refs/heads/main"}},
        {"StringEquals": {CLAIM + "aud": "sts.amazonaws.com", CLAIM + "sub": "repo:me/it:ref:refs/heads/main"}},
        {},
    ],
)
def test_a_loosened_trust_is_noticed(loosened: dict[str, Any]) -> None:
    stack = _stack()
    stack.raw("PushImageRole")["AssumeRolePolicyDocument"]["Statement"][0]["Condition"] = loosened
    assert loose_trusts(stack) == ["PushImageRole"]


def test_an_accounts_own_provider_is_used_and_none_is_made() -> None:
    arn = "arn:aws:iam::111122223333:oidc-provider/token.actions.githubusercontent.com"
    stack = Stack(parameters=GITHUB | {"GitHubOidcProviderArn": arn})
    assert not stack.holds({"Condition": "MakesOidcProvider"})
    assert stack.properties("PushImageRole")["AssumeRolePolicyDocument"]["Statement"][0]["Principal"] == {"Federated": arn}
    assert _stack().properties("PushImageRole")["AssumeRolePolicyDocument"]["Statement"][0]["Principal"] == {"Federated": "<OidcProvider>"}


def test_the_deploy_role_changes_the_stack_only_with_cloudformations_role() -> None:
    rules = role_statements(_stack(), "DeployRole")
    services = {action.partition(":")[0] for rule in rules for action in listed(rule["Action"])}
    assert services == {"cloudformation", "s3", "iam"}
    (propose,) = [rule for rule in rules if rule["Sid"] == "ProposeChangesWithTheStacksRoleOnly"]
    assert propose["Condition"] == {"ArnEquals": {"cloudformation:RoleArn": "<CloudFormationRole.Arn>"}}
    written = {action for rule in rules for action in listed(rule["Action"]) if action in ("cloudformation:CreateStack", "cloudformation:UpdateStack")}
    assert written == set(), "both take any template without the change set that reviewers can read"


def test_every_role_but_the_pipelines_own_is_bounded_and_only_bounded_roles_can_be_changed() -> None:
    stack = _stack()
    assert unbounded_roles(stack) == OUT_OF_REACH
    rules = role_statements(stack, "CloudFormationRole")
    writing = [rule for rule in rules if any(a.startswith("iam:") and not a.startswith(("iam:Get", "iam:List")) for a in listed(rule["Action"]))]
    by_sid = {rule["Sid"]: rule for rule in writing}
    assert by_sid.keys() == {"BoundedRoles", "FunctionsPolicies", "GiveFunctionsTheirRoles"}
    assert by_sid["BoundedRoles"]["Condition"] == {"ArnEquals": {"iam:PermissionsBoundary": "<Boundary>"}}
    assert "<Boundary>" not in by_sid["FunctionsPolicies"]["Resource"]
    forbidden = {"iam:DeleteRolePermissionsBoundary", "iam:PutRolePermissionsBoundary", "iam:UpdateAssumeRolePolicy", "iam:CreateUser", "iam:CreateAccessKey"}
    assert forbidden.isdisjoint(action for rule in rules for action in listed(rule["Action"]))


def test_a_role_without_its_boundary_is_noticed() -> None:
    stack = _stack()
    del stack.raw("CurfewRole")["PermissionsBoundary"]
    assert unbounded_roles(stack) == OUT_OF_REACH | {"CurfewRole"}


def test_the_boundary_holds_all_that_roles_need_and_of_iam_two_narrow_things() -> None:
    stack = _stack()
    boundary = stack.properties("Boundary")["PolicyDocument"]["Statement"]
    of_iam = {action for rule in boundary for action in listed(rule["Action"]) if action.startswith(("iam:", "sts:", "organizations:", "*"))}
    assert of_iam == {"iam:PassRole", "iam:CreateServiceLinkedRole"}
    patterns = {action for rule in boundary for action in listed(rule["Action"])}
    for name in set(stack.of_type("AWS::IAM::Role")) - OUT_OF_REACH:
        needed = {action for rule in role_statements(stack, name) if rule["Effect"] == "Allow" for action in listed(rule["Action"])}
        outside = {action for action in needed if action not in patterns and action.partition(":")[0] + ":*" not in patterns}
        assert outside == set(), name


def test_the_pipelines_policies_fit_a_role() -> None:
    """10,240 characters for all inline policies of a role, white space not counted (IAM quotas)."""
    stack = Stack(parameters=GITHUB | {"AWS::StackName": "s" * 128})
    for name in OUT_OF_REACH:
        text = json.dumps(stack.properties(name)["Policies"], separators=(",", ":"))
        assert len(text) <= 10_240, name
