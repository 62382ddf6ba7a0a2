"""The reader of commands refuses what the tools would refuse: else the tests that lean on it prove nothing."""

import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from dropforge.cli import main
from tests.cli.shell import AwsCommand, NotACommand, check_dropforge, commands_of, read_aws, simple_commands


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("aws sqss list-queues", "no service"),
        ("aws sqs list-queus", "has no list-queus"),
        ("aws sqs receive-message", "QueueUrl"),
        ("aws sqs receive-message --queue-url U --max-messages 1", "has no --max-messages"),
        ("aws ec2 describe-instances --filters Nam=x,Values=y", "has no Nam"),
        ("aws ec2 describe-instances --filters x", "neither JSON"),
        ("aws ec2 terminate-instances --instance-ids", "wants a value"),
        ("aws s3api put-bucket-notification-configuration --bucket B --notification-configuration '{\"EventBridge\": {}}'", "EventBridge"),
        ("aws sns subscribe --topic-arn T --protocol email --endpoint E", "has no --endpoint"),
        ("aws s3 cp one", "1 words"),
        ("aws s3 cp one two --recursiv", "no option"),
        ("aws cloudformation wait stack-delet-complete --stack-name S", "no waiter"),
    ],
)
def test_an_aws_command_that_would_be_refused_is_refused(line: str, said: str) -> None:
    with pytest.raises(NotACommand, match=said):
        read_aws(shlex.split(line))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("aws sqs receive-message --queue-url U --max-number-of-messages 3", AwsCommand("sqs", "ReceiveMessage", {"QueueUrl": "U", "MaxNumberOfMessages": 3})),
        (
            "aws ec2 describe-instances --filters Name=a,Values=b,c Name=d,Values=e --query x --output text",
            AwsCommand("ec2", "DescribeInstances", {"Filters": [{"Name": "a", "Values": ["b", "c"]}, {"Name": "d", "Values": ["e"]}]}),
        ),
        ("aws s3api list-object-versions --bucket B", AwsCommand("s3", "ListObjectVersions", {"Bucket": "B"})),
        (
            "aws ec2 modify-subnet-attribute --subnet-id S --map-public-ip-on-launch",
            AwsCommand("ec2", "ModifySubnetAttribute", {"SubnetId": "S", "MapPublicIpOnLaunch": {"Value": True}}),
        ),
        ("aws s3 cp job.yaml s3://BUCKET/jobs/", None),
        ("aws cloudformation wait stack-delete-complete --stack-name S", None),
    ],
)
def test_an_aws_command_becomes_its_call(line: str, expected: AwsCommand | None) -> None:
    assert read_aws(shlex.split(line)) == expected


@pytest.mark.parametrize(
    "line", ["dropforge dokter", "dropforge doctor --jsn", "dropforge submit", "dropforge doctor extra", "dropforge local", "dropforge local capacty 1"]
)
def test_a_dropforge_command_that_would_be_refused_is_refused(line: str) -> None:
    with pytest.raises(NotACommand):
        check_dropforge(shlex.split(line), main)


@pytest.mark.parametrize(
    "line", ["dropforge doctor --json --stack S", "dropforge submit JOB.yaml --wait", "dropforge local capacity 0 --type g5.xlarge", "dropforge --help"]
)
def test_a_dropforge_command_that_exists_is_let_through(line: str) -> None:
    check_dropforge(shlex.split(line), main)


def test_commands_are_found_in_blocks_over_their_lines_in_pipes_and_in_prose(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "Say `dropforge doctor`.\n\n```\naws ecr get-login-password | docker login \\\n  --username AWS\n  # no\n```\n```json\naws no command\n```\n"
    )
    assert list(commands_of(page)) == ["aws ecr get-login-password | docker login --username AWS", "dropforge doctor"]
    assert list(simple_commands("aws a b $(aws c d) | xargs dropforge e && sam f")) == [
        ["aws", "c", "d"],
        ["aws", "a", "b", "SUBSTITUTED"],
        ["xargs", "dropforge", "e"],
        ["sam", "f"],
    ]


def leaves(command: click.Command, name: str = "") -> Iterator[tuple[str, set[str]]]:
    """Every command by its words, with its options."""
    if not isinstance(command, click.Group):
        yield name, {option for parameter in command.params for option in parameter.opts}
        return
    for word in command.list_commands(click.Context(command)):
        found = command.get_command(click.Context(command), word)
        assert found is not None
        yield from leaves(found, f"{name} {word}".strip())


def test_every_command_speaks_json_but_those_that_a_shell_reads_or_a_person_watches() -> None:
    assert {name for name, options in leaves(main) if "--json" not in options} == {"completion", "local env", "local demo"}


def test_every_command_that_changes_something_can_be_rehearsed() -> None:
    changing = {"init", "submit", "cancel", "retry", "download", "interrupt", "pause", "resume", "stop-all", "redrive"}
    assert {name for name, options in leaves(main) if "--dry-run" in options} == changing
