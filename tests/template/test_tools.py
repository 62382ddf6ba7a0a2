"""The tools around the template: translating, embedding the bootstrap, linting both forms."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.template.stack import ROOT
from tools import embed_bootstrap, lint_template, translate
from tools.embed_bootstrap import BEGIN, END, SCRIPT_LIMIT_BYTES, NotEmbeddable, embed, without_comments
from tools.lint_security import ACCEPTED, Accepted, Finding, unaccepted
from tools.stack import Stack, arns_for

TEMPLATE = f"a: |\n  head\n  {BEGIN}\n  old\n  {END}\nb: 1\n"


def test_the_script_comes_between_the_markers_indented_and_nothing_else_changes() -> None:
    assert embed(TEMPLATE, "one\n\n  two\n") == f"a: |\n  head\n  {BEGIN}\n  one\n\n    two\n  {END}\nb: 1\n"


def test_lines_that_are_comments_only_stay_out_but_for_the_first() -> None:
    script = "#!/bin/sh\n# why\none # here\n  # also\n  two '#'\n"
    assert f"{BEGIN}\n  #!/bin/sh\n  one # here\n    two '#'\n  {END}" in embed(TEMPLATE, script)


def test_the_script_without_its_comments_says_the_same_to_bash() -> None:
    script = (ROOT / "agent/bootstrap.sh").read_text()
    # bash writes functions out as it has read them.
    shown = [
        subprocess.run(["bash", "-c", one.removesuffix("\nmain\n") + "\ndeclare -f\n"], env={}, capture_output=True, text=True, timeout=30, check=True).stdout
        for one in (script, without_comments(script))
    ]
    assert shown[0] == shown[1]
    assert "supervise_agent ()" in shown[0]


def test_embedding_twice_is_embedding_once() -> None:
    once = embed(TEMPLATE, "one\n")
    assert embed(once, "one\n") == once


@pytest.mark.parametrize(
    ("template", "script", "said"),
    [
        (TEMPLATE, "no newline", "end in a newline"),
        (TEMPLATE, "a\ttab\n", "no tab"),
        (TEMPLATE, "caf\u00e9\n", "ASCII"),
        (TEMPLATE, f"x\n{END}\n", "own markers"),
        (TEMPLATE, "cat <<EOF\n# not a comment\nEOF\n", "here-document"),
        (TEMPLATE, "x" * SCRIPT_LIMIT_BYTES + "\n", "move work into the image"),
        ("a: 1\n", "one\n", "0 lines"),
        (TEMPLATE + TEMPLATE, "one\n", "2 lines"),
        (f"{END}\n{BEGIN}\n", "one\n", "stands before"),
    ],
)
def test_what_cannot_be_embedded_is_refused_with_the_reason(template: str, script: str, said: str) -> None:
    with pytest.raises(NotEmbeddable, match=said):
        embed(template, script)


def test_check_fails_when_they_differ_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    template, script = tmp_path / "template.yaml", tmp_path / "bootstrap.sh"
    template.write_text(TEMPLATE)
    script.write_text("new\n")
    paths = ["--template", str(template), "--script", str(script)]
    assert embed_bootstrap.main(["--check", *paths]) == 1
    assert "run `python -m tools.embed_bootstrap`" in capsys.readouterr().err
    assert template.read_text() == TEMPLATE
    assert embed_bootstrap.main(paths) == 0
    assert embed_bootstrap.main(["--check", *paths]) == 0


def test_the_committed_template_holds_the_committed_bootstrap() -> None:
    assert embed_bootstrap.main(["--check", "--template", str(ROOT / "template.yaml"), "--script", str(ROOT / "agent/bootstrap.sh")]) == 0


def test_the_translation_is_plain_cloudformation() -> None:
    translated = translate.translate(ROOT / "template.yaml", code_uri="s3://somewhere/else.zip")
    assert "Transform" not in translated
    assert not [r["Type"] for r in translated["Resources"].values() if r["Type"].startswith("AWS::Serverless")]
    assert translated["Resources"]["SubmitFunction"]["Properties"]["Code"] == {"S3Bucket": "somewhere", "S3Key": "else.zip"}
    assert len(json.dumps(translated)) < 1_000_000, "CloudFormation takes a megabyte at most, from S3"


@pytest.mark.parametrize(
    ("text", "said"),
    [("a: [", "line 1"), ("Resources: {F: {Type: 'AWS::Serverless::Function'}}", r"\[F\] is invalid")],
)
def test_a_template_that_cannot_be_translated_is_refused_with_its_place(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    with pytest.raises(translate.NotTranslatable, match=said):
        translate.translate(path)


def test_lint_finds_a_cycle_that_only_the_translation_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The S3 event of SAM, with the bucket's name in the function: facts/aws and SAM's issue 1109."""
    monkeypatch.setattr(lint_template, "SAM", tmp_path / "absent")
    path = tmp_path / "cyclic.yaml"
    path.write_text(
        """\
Transform: AWS::Serverless-2016-10-31
Resources:
  Drop: {Type: AWS::S3::Bucket}
  Work:
    Type: AWS::Serverless::Function
    Properties:
      Runtime: python3.13
      Handler: a.b
      InlineCode: "pass"
      Environment: {Variables: {BUCKET: !GetAtt Drop.Arn}}
      Events:
        Dropped: {Type: S3, Properties: {Bucket: !Ref Drop, Events: "s3:ObjectCreated:*"}}
"""
    )
    findings = lint_template.lint(path)
    assert any("ircular" in finding for finding in findings), findings


def test_user_data_is_a_shell_script_that_bash_can_parse() -> None:
    done = subprocess.run(["bash", "-n", str(ROOT / "agent/bootstrap.sh")], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr


def test_an_acceptance_that_nothing_needs_is_a_finding_and_so_is_what_nothing_accepts() -> None:
    accepted = (Accepted("tool", "R1", "Data*", "because"), Accepted("tool", "R2", "Gone", "because"))
    found = [Finding("tool", "R1", "DataBucket"), Finding("tool", "R1", "Other"), Finding("other", "R1", "DataBucket")]
    assert unaccepted(found, accepted) == [
        "other R1: DataBucket",
        "tool R1: Other",
        "tool R2: accepted for Gone, and not found there any more: remove it",
    ]


def test_every_acceptance_says_why() -> None:
    assert [a for a in ACCEPTED if len(a.reason) < 30 and a.reason != "as above"] == []


def test_what_policy_linters_read_is_shaped_as_aws_shapes_it() -> None:
    stack = Stack()
    shaped = arns_for(stack, {"a": "<DataBucket.Arn>/jobs/*", "b": ["<Topic>", "<LaunchTemplate>"]})
    topic = "arn:aws:sns:eu-west-1:111122223333:dropforge-Topic-EXAMPLE"
    assert shaped == {"a": "arn:aws:s3:::dropforge-databucket-example/jobs/*", "b": [topic, "launchtemplate"]}
