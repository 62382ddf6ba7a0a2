"""What a deploy is asked: each parameter explains itself, its default answers, and a wrong answer is refused with a sentence."""

import re
from typing import Any

import pytest

from dropforge.local.deploy import deploy
from dropforge.local.state import CloudState, LocalCloudError
from dropforge.parameters import refusals as refusals_of
from tests.template.stack import ROOT, Stack


def refusals(**given: str) -> list[str]:
    return refusals_of(Stack().template, given)


def _parameters() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = Stack().template["Parameters"]
    return found


def test_every_parameter_explains_itself_and_what_it_takes() -> None:
    for name, spec in _parameters().items():
        assert len(spec["Description"]) > 20, name
        assert spec["ConstraintDescription"].startswith(name), name
        bounded = {"AllowedPattern", "AllowedValues"} & spec.keys() or {"MinValue", "MaxValue"} <= spec.keys() or spec["Type"].startswith("AWS::SSM::")
        assert bounded, name


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("NotificationEmail", ["", "you@example.com"], ["you", "a b@example.com", "x@y"]),
        ("WebhookParameter", ["", "/dropforge/webhook", "/a"], ["dropforge/webhook", "https://hooks.example.com/x", "/", "/a/*", "/a/"]),
        ("TrackingPath", ["", "/dropforge/tracking"], ["tracking", "/dropforge/*", "/dropforge/tracking/"]),
        ("VpcId", ["", "vpc-0123456789abcdef0"], ["vpc-XYZ", "subnet-0123456789abcdef0"]),
        ("SubnetIds", ["", "subnet-01234567", "subnet-01234567,subnet-89abcdef"], ["subnet-01234567, subnet-89abcdef", "subnet-01234567,"]),
        (
            "ImageUri",
            ["", "111122223333.dkr.ecr.eu-west-1.amazonaws.com/dropforge:v1", "ghcr.io/a/b@sha256:" + 64 * "0", "localhost:5000/dropforge:latest"],
            ["dropforge", "dropforge@sha256:beef", "drop forge:v1", "dropforge:v1\nX=y", "$(reboot):v1"],
        ),
        ("ImageRepository", ["", "dropforge", "team/dropforge"], ["Dropforge", "*", "team/"]),
        (
            "ReadBuckets",
            ["", "shared-rows", "shared-rows,team.models,a1b"],
            ["s3://shared-rows", "shared-rows, team", "Shared", "ab", "*", "shared-rows/*", "shared-*", ",".join(["abc"] * 17)],
        ),
        ("GitHubRepository", ["", "me/it", "My-Org/it.works_2"], ["me", "me/", "/it", "me/it/more", "me/*", "-me/it"]),
        ("GitHubRepositoryId", ["", "123"], ["0", "12a", "-1", "*"]),
        ("GitHubOwnerId", ["", "123"], ["0", "me"]),
        ("GitHubEnvironment", ["production", "a-b_2"], ["", "*", "a:b", "two words"]),
        (
            "GitHubOidcProviderArn",
            ["", "arn:aws:iam::111122223333:oidc-provider/token.actions.githubusercontent.com"],
            ["arn:aws:iam::111122223333:oidc-provider/example.com", "arn:aws:iam::111122223333:oidc-provider/tokenXactions.githubusercontent.com"],
        ),
    ],
)
def test_parameter_patterns_take_what_is_right_and_refuse_what_is_not(name: str, good: list[str], bad: list[str]) -> None:
    pattern = _parameters()[name]["AllowedPattern"]
    assert [text for text in good if not re.fullmatch(pattern, text)] == []
    assert [text for text in bad if re.fullmatch(pattern, text)] == []


def test_a_first_guided_deploy_can_answer_everything_with_enter() -> None:
    specs = _parameters()
    assert [name for name, spec in specs.items() if "Default" not in spec] == []
    assert refusals(**{name: str(spec["Default"]) for name, spec in specs.items() if not spec["Type"].startswith("AWS::SSM::")}) == []


VPC, SUBNET = "vpc-0123456789abcdef0", "subnet-0123456789abcdef0"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"NotificationEmail": "you@nowhere"}, "NotificationEmail must be one e-mail address"),
        ({"NotificationEmail": "a@example.com,b@example.com"}, "NotificationEmail must be one e-mail address"),
        ({"MonthlyCapUsd": "0"}, "MonthlyCapUsd must be a number of US dollars from 1"),
        ({"MonthlyCapUsd": "lots"}, "MonthlyCapUsd must be a number"),
        ({"MaxConcurrentJobs": "0"}, "MaxConcurrentJobs must be a whole number from 1"),
        ({"ZoneCount": "0"}, "ZoneCount must be 1, 2 or 3"),
        ({"VolumeGiB": "20"}, "VolumeGiB must be from 75"),
        ({"CheckpointDays": "30"}, "CheckpointDays must be from 91"),
        ({"BudgetAction": "kill"}, "BudgetAction must be pause or notify"),
        ({"VpcId": VPC}, "VpcId was given without SubnetIds"),
        ({"SubnetIds": SUBNET}, "SubnetIds was given without VpcId"),
        ({"VpcId": VPC, "SubnetIds": f"{SUBNET}, {SUBNET}"}, "SubnetIds must look like"),
        ({"VpcId": VPC, "SubnetIds": SUBNET, "InterfaceEndpoints": "yes"}, "InterfaceEndpoints are made only in the VPC that the stack makes"),
        ({"GitHubRepository": "me/it", "GitHubOwnerId": "2"}, "GitHubRepository was given without GitHubRepositoryId"),
        ({"GitHubRepository": "me/it", "GitHubRepositoryId": "1"}, "GitHubRepository was given without GitHubOwnerId"),
        ({"BakedAmiId": "ami-XYZ"}, "BakedAmiId must look like"),
    ],
)
def test_a_wrong_answer_is_refused_with_a_sentence_that_names_it(given: dict[str, str], said: str) -> None:
    (sentence,) = refusals(**given)
    assert said in sentence


def test_right_answers_together_are_taken() -> None:
    assert refusals(VpcId=VPC, SubnetIds=f"{SUBNET},subnet-0fedcba9876543210", NotificationEmail="you@example.com") == []
    assert refusals(GitHubRepository="me/it", GitHubRepositoryId="1", GitHubOwnerId="2") == []
    assert refusals(BakedAmiId="ami-0123456789abcdef0") == []


def test_a_name_that_is_no_parameter_is_refused() -> None:
    assert refusals(MonthlyCap="5") == ["MonthlyCap is no parameter of this template."]


def test_a_rule_with_a_function_that_is_not_known_here_is_never_taken_as_held() -> None:
    template = {"Parameters": {}, "Rules": {"R": {"Assertions": [{"Assert": {"Fn::Contains": [["a"], "a"]}, "AssertDescription": "x"}]}}}
    with pytest.raises(ValueError, match="Fn::Contains"):
        refusals_of(template, {})


def test_the_local_cloud_refuses_with_the_same_sentence_before_it_touches_anything() -> None:
    nowhere = CloudState(0, 0, 1, "us-east-1", "none", "none", "none", "dropforge")
    with pytest.raises(LocalCloudError, match="MonthlyCapUsd must be a number of US dollars"):
        deploy(nowhere, ROOT / "template.yaml", {"MonthlyCapUsd": "0"})
