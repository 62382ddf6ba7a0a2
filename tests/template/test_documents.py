"""docs/security.md, github.md and architecture.md: the tests, outputs, variables and resources that they name are there."""

import re

from tests.template.stack import ROOT, Stack


def test_every_test_that_a_control_names_is_there() -> None:
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", (ROOT / "docs/security.md").read_text())
    assert len(named) >= 15
    assert [name for file, name in named if f"def {name}(" not in (ROOT / "tests/template" / file).read_text()] == []


def test_the_variables_and_outputs_of_the_github_page_are_those_of_workflows_and_stack() -> None:
    rows = dict(re.findall(r"\| `([A-Z_]+)` \| (.*) \|", (ROOT / "docs/github.md").read_text()))
    used = {name for path in (ROOT / ".github/workflows").glob("*.yml") for name in re.findall(r"vars\.([A-Z_]+)", path.read_text())}
    assert rows.keys() == used
    outputs = {name for value in rows.values() for name in re.findall(r"output `(\w+)`", value)}
    assert outputs <= Stack().template["Outputs"].keys()


def test_the_picture_of_the_whole_names_every_function_and_only_what_is_there() -> None:
    picture = re.findall(r"```mermaid\n(.*?)```", (ROOT / "docs/architecture.md").read_text(), re.DOTALL)[0]
    drawn = re.sub(r'"[^"]*"', "", picture)
    named = set(re.findall(r"\b(?:[A-Z][a-z]+)+\b", re.sub(r"\[.*?\]|\(\[.*?\]\)", "", drawn)))
    stack = Stack()
    assert named - stack.template["Resources"].keys() == set()
    assert set(stack.of_type("AWS::Lambda::Function")) - named == set()
    assert all((ROOT / path).exists() for path in re.findall(r"\b(?:agent|trainer)/[\w.]*", picture))


def test_where_a_change_goes_names_what_is_there() -> None:
    (table,) = re.findall(r"^## Where a change goes\n(.*?)^## ", (ROOT / "docs/architecture.md").read_text(), re.MULTILINE | re.DOTALL)
    named = re.findall(r"`([\w/]+(?:/|\.\w+))`", table)
    assert len(named) > 40
    assert [name for name in named if not (ROOT / name).exists()] == []
