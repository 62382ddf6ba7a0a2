"""The emergency stop with the AWS command line alone: each command of the page, typed in its order, at a stack that is at work."""

import re
import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jmespath
import pytest

from tests.cli.conftest import Site, eventually
from tests.cli.shell import commands_of, read_aws
from tests.cli.test_hold_and_stop import holds, launch, lifted, states

pytestmark = pytest.mark.local_cloud

PAGE = Path(__file__).parents[2] / "docs/operations.md"


def section(tmp_path: Path) -> tuple[str, list[str]]:
    """Text and commands of that part of the page."""
    text = PAGE.read_text()
    part = text[text.index("### With the AWS command line alone") : text.index("## Dead letters")]
    (tmp_path / "part.md").write_text(part)
    return part, list(commands_of(tmp_path / "part.md"))


class Hand:
    """Types a command of the page, its words in capitals replaced; gives what the AWS command line would print of the answer."""

    def __init__(self, site: Site, lines: list[str]) -> None:
        self.site, self.lines = site, lines

    def types(self, begins: str, replaced: dict[str, str] | None = None) -> Any:
        (line,) = [one for one in self.lines if one.startswith(f"aws {begins} ")]
        known = {"YYYY-MM-DDTHH:MM:SSZ": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}", "STACK": self.site.state.stack, "JOB-TABLE": self.site.id("JobTable")}
        for word, value in {**known, **(replaced or {})}.items():
            line = line.replace(word, value)
        words = shlex.split(line)
        call = read_aws(words)
        assert call is not None
        client = self.site.client(call.service)
        method = next(name for name, operation in client.meta.method_to_api_mapping.items() if operation == call.operation)
        answer = getattr(client, method)(**call.parameters)
        return jmespath.search(words[words.index("--query") + 1], answer) if "--query" in words else answer


def test_the_page_stops_everything_and_nothing_of_another_and_lets_jobs_go_on_after(site: Site, tmp_path: Path) -> None:
    text, lines = section(tmp_path)
    hand, ours, foreign = Hand(site, lines), [launch(site), launch(site)], launch(site, project="another")

    hand.types("events put-events")
    shown = eventually(lambda: hand.types("dynamodb get-item").get("Item"))
    assert "emergency" in str(shown)
    held = holds(site).current()
    assert held is not None
    assert held.holds_at(datetime.now(UTC))

    outputs = dict(hand.types("cloudformation describe-stacks"))
    functions = [outputs[name] for name in re.findall(r"`(\w+FunctionName)`", text)]
    for function in functions:
        hand.types("lambda put-function-concurrency", {"FUNCTION": function})
    assert {site.client("lambda").get_function_concurrency(FunctionName=name)["ReservedConcurrentExecutions"] for name in functions} == {0}

    def listed() -> list[str]:
        return [one for reservation in hand.types("ec2 describe-instances") for one in (reservation if isinstance(reservation, list) else [reservation])]

    assert sorted(listed()) == sorted(ours)
    for instance_id in listed():
        hand.types("ec2 terminate-instances", {"INSTANCE-ID": instance_id})
    eventually(lambda: not listed())
    assert states(site)[foreign], "another project's instance was ended"

    for function in functions:
        hand.types("lambda delete-function-concurrency", {"FUNCTION": function})
    assert all("ReservedConcurrentExecutions" not in site.client("lambda").get_function_concurrency(FunctionName=name) for name in functions)
    assert "the same request with `resume` for `pause`" in text
    hand.types("events put-events", {'\\"pause\\"': '\\"resume\\"'})
    eventually(lambda: lifted(site))
