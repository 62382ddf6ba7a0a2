"""``pause``, ``resume`` and ``stop-all``: asked over the bus, done when the record shows it, and instances end whatever becomes of the hold."""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from control_plane.adapters.holds import DynamoHolds
from dropforge.local import deploy
from dropforge.operate import hold, stop
from jobspec import tags
from jobspec.operator import HOLD_KEY, Hold, parse_request
from tests.cli.conftest import Site, eventually

pytestmark = pytest.mark.local_cloud


@pytest.fixture(autouse=True)
def _quick(site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(hold, "CONFIRMED_WITHIN_S", 2.0)
    monkeypatch.setattr(stop, "LOOK_EVERY_S", 0.2)
    monkeypatch.setattr(stop.end_all, "__kwdefaults__", {"quiet_s": 1.0, "give_up_after_s": 8.0})
    yield
    site.client("dynamodb").delete_item(TableName=site.id("JobTable"), Key=HOLD_KEY)


def holds(site: Site) -> DynamoHolds:
    """The control plane's own side of the record."""
    return DynamoHolds(site.client("dynamodb"), site.id("JobTable"), lambda: datetime.now(UTC))


def lifted(site: Site) -> bool:
    """Nothing is held; a resume stays on record, so that an older pause that comes late finds it."""
    held = holds(site).current()
    return held is None or not held.holds_at(datetime.now(UTC))


def with_door(site: Site) -> list[dict[str, Any]]:
    """The control plane hears what is put on the bus (and it is put there), as its operator door shall; the entries that came."""
    came: list[dict[str, Any]] = []

    def door(asked: dict[str, Any]) -> None:
        (entry,) = asked["Entries"]
        came.append(entry)
        request = parse_request({"source": entry["Source"], "detail-type": entry["DetailType"], "detail": json.loads(entry["Detail"])}, "well")
        holds(site).put(request.hold())

    site.answers.give("PutEvents", door)
    return came


def without_door(site: Site) -> None:
    site.answers.give("PutEvents", {"FailedEntryCount": 0, "Entries": [{"EventId": "1"}]})


def launch(site: Site, project: str = "well", *, region: str | None = None, subnet_id: str | None = None, template_id: str | None = None) -> str:
    """An instance with the project's tag that sleeps; in another region with the subnet and the template given."""
    kept = {tags.PROJECT: project, tags.JOB: "a-job-1", tags.ATTEMPT: "1", tags.DEADLINE: str(int(time.time()) + 3600)}
    answer = deploy.client_of(site.state, "ec2", region).run_instances(
        MinCount=1,
        MaxCount=1,
        InstanceType="g5.xlarge",
        SubnetId=subnet_id or site.id("SubnetA"),
        LaunchTemplate={"LaunchTemplateId": template_id or site.id("LaunchTemplate"), "Version": "1"},
        UserData="#!/bin/sh\nsleep 300\n",
        TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": key, "Value": value} for key, value in kept.items()]}],
    )
    return str(answer["Instances"][0]["InstanceId"])


def states(site: Site) -> dict[str, bool]:
    return {view.instance_id: view.live for view in site.market.instances()}


def test_a_pause_is_on_record_with_its_reason_and_a_resume_lifts_it(site: Site) -> None:
    came = with_door(site)
    paused = site.run("pause", "--reason", "prices are odd", "--for", "90m")
    assert paused.exit_code == 0, paused.output
    held = holds(site).current()
    assert held is not None
    assert held.reason == "paused: prices are odd"
    assert held.until is not None
    assert timedelta(minutes=89) < held.until - datetime.now(UTC) < timedelta(minutes=91)
    assert json.loads(came[0]["Detail"])["asked_by"] == "arn:aws:iam::123456789012:root"
    resumed = site.run("resume")
    assert resumed.exit_code == 0, resumed.output
    assert "prices are odd" in resumed.output
    assert lifted(site)


def test_a_resume_lifts_what_a_spent_budget_set(site: Site) -> None:
    with_door(site)
    holds(site).put(Hold(reason="AWS Budgets: spent", since=datetime.now(UTC)))
    assert site.run("resume").exit_code == 0
    assert lifted(site)


def test_resume_asks_nothing_where_nothing_is_held(site: Site) -> None:
    result = site.run("resume", "--json")
    assert (result.exit_code, json.loads(result.stdout)) == (0, {"sent": False, "confirmed": True})
    assert "PutEvents" not in {operation for operation, _ in site.answers.requests}


@pytest.mark.parametrize("command", ["pause", "resume"])
def test_a_dry_run_shows_the_request_and_sends_nothing(site: Site, command: str) -> None:
    holds(site).put(Hold(reason="x", since=datetime.now(UTC)))
    result = site.run(command, "--dry-run", "--json")
    assert result.exit_code == 0
    answer = json.loads(result.stdout)
    assert (answer["sent"], answer["request"]["action"], answer["request"]["project"]) == (False, command, "well")
    assert "PutEvents" not in {operation for operation, _ in site.answers.requests}


@pytest.mark.parametrize("command", ["pause", "resume"])
def test_what_the_record_does_not_show_is_not_called_done(site: Site, command: str) -> None:
    before = Hold(reason="an older one", since=datetime.now(UTC) - timedelta(hours=1))
    holds(site).put(before)
    without_door(site)
    result = site.run(command)
    assert result.exit_code == 1
    assert "the record does not show it" in result.stderr
    assert "dropforge doctor --stack well" in result.stderr
    kept = holds(site).current()
    assert kept is not None
    assert kept.model_dump() == before.model_dump(), "the command line writes nothing itself"


def test_a_bus_that_takes_nothing_is_an_error(site: Site) -> None:
    site.answers.give("PutEvents", {"FailedEntryCount": 1, "Entries": [{"ErrorCode": "InternalFailure", "ErrorMessage": "try later"}]})
    result = site.run("pause")
    assert (result.exit_code, "InternalFailure: try later" in result.stderr) == (1, True)


@pytest.mark.parametrize("words", [["--reason", "two\nlines"], ["--reason", ""], ["--reason", "x" * 201], ["--for", "90"], ["--for", "soon"]])
def test_a_pause_that_cannot_be_said_is_refused_with_a_sentence(site: Site, words: list[str]) -> None:
    result = site.run("pause", *words)
    assert result.exit_code in (1, 2)
    assert "printable" in result.stderr or "a duration such as" in result.stderr


def test_a_missing_right_is_a_sentence_with_the_page(site: Site) -> None:
    site.answers.refuse("PutEvents", "AccessDeniedException", "not authorized to perform: events:PutEvents")
    result = site.run("pause")
    assert result.exit_code == 1
    assert "events:PutEvents" in result.stderr
    assert "docs/operations.md" in result.stderr


def test_stop_all_holds_and_ends_ours_and_nothing_of_another(site: Site) -> None:
    with_door(site)
    ours, theirs = [launch(site), launch(site)], launch(site, project="other")
    result = site.run("stop-all", "--json", "--yes")
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert (answer["held"], sorted(answer["asked"]), answer["left"]) == (True, sorted(ours), [])
    held = holds(site).current()
    assert held is not None
    assert held.reason == "paused: dropforge stop-all"
    assert states(site)[theirs]
    eventually(lambda: not any(states(site)[instance] for instance in ours))


def test_stop_all_asks_first_and_a_no_changes_nothing(site: Site) -> None:
    with_door(site)
    instance = launch(site)
    result = site.run("stop-all", typed="n\n")
    assert result.exit_code == 1
    assert f"  {instance} g5.xlarge us-east-1a" in result.stdout
    assert "a-job-1 attempt 1" in result.stdout
    assert states(site)[instance]
    assert lifted(site)


def test_stop_all_dry_run_says_what_and_does_nothing(site: Site) -> None:
    with_door(site)
    instance = launch(site)
    result = site.run("stop-all", "--dry-run", "--json")
    assert (result.exit_code, json.loads(result.stdout)) == (0, {"held": False, "would_end": [instance]})
    assert states(site)[instance]
    assert lifted(site)


def test_an_instance_that_comes_up_meanwhile_is_ended_as_well(site: Site) -> None:
    with_door(site)
    late: list[str] = []
    # After the listing that the first termination follows.
    site.answers.before("TerminateInstances", lambda _: None if late else late.append(launch(site)))
    first = launch(site)
    result = site.run("stop-all", "--yes", "--json")
    assert result.exit_code == 0, result.output
    assert set(json.loads(result.stdout)["asked"]) == {first, *late}
    assert len(late) == 1


def test_without_a_hold_the_instances_end_all_the_same_and_it_is_said(site: Site) -> None:
    without_door(site)
    instance = launch(site)
    result = site.run("stop-all", "--yes")
    assert result.exit_code == 1
    assert "THE HOLD IS NOT ON RECORD" in result.stdout
    assert "may launch again" in result.stderr
    assert "Emergency stop" in result.stderr
    eventually(lambda: not states(site)[instance])


def test_one_instance_that_ec2_will_not_end_hinders_no_other_and_is_named(site: Site) -> None:
    with_door(site)
    stuck, other = launch(site), launch(site)

    def refusing(asked: dict[str, Any]) -> None:
        if asked["InstanceIds"] == [stuck]:
            site.answers.refuse("TerminateInstances", "OperationNotPermitted", "termination protection")
        else:
            site.answers.allow("TerminateInstances")

    site.answers.before("TerminateInstances", refusing)
    result = site.run("stop-all", "--yes", "--json")
    assert result.exit_code == 1
    answer = json.loads(result.stdout)
    assert (answer["left"], list(answer["asked"])) == ([stuck], [other])
    assert "OperationNotPermitted" in answer["refused"][stuck]
    assert stuck in result.stderr


def test_the_real_door_holds_and_lifts(site: Site) -> None:
    """With nothing played: bus, rule, function, table."""
    assert site.run("pause", "--reason", "the real one").exit_code == 0
    held = holds(site).current()
    assert held is not None
    assert "the real one" in held.reason
    assert site.run("resume").exit_code == 0
    assert lifted(site)
