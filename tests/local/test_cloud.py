"""Starting, ending, and what is said when it cannot be done."""

import json
import os
import re
import signal
import socket
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from dropforge.cli import main
from dropforge.local import cloud as clouds
from dropforge.local import deploy
from dropforge.local.market import Market
from dropforge.local.plugin.processes import marked
from dropforge.local.state import CloudState, LocalCloudError, load, runs, save

from .conftest import TEMPLATE, LocalCloud, alive, eventually, free_port, needs_environments

pytestmark = pytest.mark.local_cloud


def run(home: Path, *arguments: str) -> tuple[int, str]:
    result = CliRunner(env={"DROPFORGE_LOCAL_HOME": str(home), "COLUMNS": "200"}).invoke(main, ["local", *arguments])
    return result.exit_code, result.output


def test_up_again_deploys_into_the_same_cloud(local_cloud: LocalCloud) -> None:
    again = clouds.up(clouds.Plan(local_cloud.home, TEMPLATE, stack="standin"))
    assert (again.pid, again.outputs) == (local_cloud.state.pid, local_cloud.outputs)


def test_the_template_is_told_the_notice_of_this_cloud_unless_the_user_says_otherwise(local_cloud: LocalCloud) -> None:
    assert local_cloud.outputs["NoticeSeconds"] == "2"
    told = clouds.up(clouds.Plan(local_cloud.home, TEMPLATE, {"NoticeSeconds": "7"}, stack="standin"))
    assert told.outputs["NoticeSeconds"] == "7"


def test_nothing_listens_on_an_address_other_than_loopback(local_cloud: LocalCloud) -> None:
    local_cloud.launch()
    addresses = listening(local_cloud.state.pid)
    assert len(addresses) >= 2  # the emulator and the instance's metadata
    assert set(addresses) == {"0100007F"}  # 127.0.0.1 as proc(5) writes it


def listening(pid: int) -> list[str]:
    """The hexadecimal addresses on which a process accepts TCP connections."""
    sockets = {os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir() if entry.is_symlink()}
    rows = [line.split() for table in ("tcp", "tcp6") for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]]
    return [row[1].split(":")[0] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in sockets]


def test_down_leaves_no_process_and_may_be_said_twice(tmp_path: Path) -> None:
    needs_environments()
    state = clouds.up(clouds.Plan(tmp_path, TEMPLATE, port=free_port(), stop_grace_s=1.0))
    cloud = LocalCloud(state, tmp_path, Market(state))
    instance_id = cloud.launch("#!/bin/bash\nsetsid env -i /bin/sleep 303 & echo $! > pid; exec sleep 304\n")
    eventually((cloud.root(instance_id) / "pid").exists)
    cloud.client("lambda").invoke(FunctionName=cloud.outputs["Faults"], Payload=b"{}")
    pid = int((cloud.root(instance_id) / "pid").read_text())
    assert marked(f"LAMBDA_TASK_ROOT={tmp_path}/")
    assert clouds.down(tmp_path) is True
    assert not alive(pid)
    assert not alive(state.pid)
    assert not marked(f"DROPFORGE_ROOT={tmp_path}/") | marked(f"LAMBDA_TASK_ROOT={tmp_path}/")
    assert clouds.down(tmp_path) is False
    assert run(tmp_path, "status")[0] == 1


def test_instances_end_with_an_emulator_that_was_killed(tmp_path: Path) -> None:
    needs_environments()
    state = clouds.up(clouds.Plan(tmp_path, TEMPLATE, port=free_port(), stop_grace_s=1.0))
    cloud = LocalCloud(state, tmp_path, Market(state))
    instance_id = cloud.launch("#!/bin/bash\necho $$ > pid; exec sleep 305\n")
    eventually((cloud.root(instance_id) / "pid").exists)
    os.kill(state.pid, signal.SIGKILL)
    os.waitpid(state.pid, 0)
    try:
        eventually(lambda: not marked(f"DROPFORGE_ROOT={tmp_path}/"))
    finally:
        clouds.down(tmp_path)


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    needs_environments()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, said = run(tmp_path, "up", "--port", str(port))
    assert code == 1
    assert f"Port {port} is taken" in said


def test_what_would_be_refused_is_before_anything_is_started(tmp_path: Path) -> None:
    for arguments, sentence in (
        (("--parameter", "Foo=1"), "Foo is no parameter of this template."),
        (("--stack", "My Stack!"), "a stack's name has letters, digits and hyphens"),
        (("--template", str(tmp_path / "none.yaml")), "There is no readable template at"),
    ):
        code, said = run(tmp_path / "cloud", "up", *arguments)
        assert (code, sentence in said) == (1, True), said
        assert load(tmp_path / "cloud") is None


def test_a_running_cloud_is_not_given_a_second_stack(local_cloud: LocalCloud) -> None:
    before = load(local_cloud.home)
    code, said = run(local_cloud.home, "up", "--stack", "another")
    assert code == 1
    assert "has the stack standin, and no other. First `dropforge local down`" in said
    assert load(local_cloud.home) == before


def test_of_two_commands_that_start_a_cloud_one_is_refused(tmp_path: Path) -> None:
    with clouds._alone(tmp_path):
        code, said = run(tmp_path, "up", "--template", str(TEMPLATE))
        ended, told = run(tmp_path, "down")
    assert (code, ended) == (1, 1)
    assert "Another command starts or ends the local cloud" in said
    assert "Another command starts or ends the local cloud" in told
    assert load(tmp_path) is None


def test_what_a_cloud_with_a_damaged_state_had_started_is_ended_all_the_same(tmp_path: Path) -> None:
    needs_environments()
    state = clouds.up(clouds.Plan(tmp_path, TEMPLATE, port=free_port(), stop_grace_s=1.0))
    (tmp_path / "cloud.json").write_text("{")
    code, said = run(tmp_path, "status")
    assert (code, "is damaged" in said, "Run `dropforge local down`, then `dropforge local up`." in said) == (1, True, True)
    assert run(tmp_path, "down")[0] == 0
    assert not alive(state.pid)
    assert load(tmp_path) is None


def test_ctrl_c_leaves_no_half_made_cloud_and_takes_none_that_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs_environments()
    deployed, pids = deploy.deploy, list[int]()

    def pressed(cloud: CloudState, *_: Any) -> dict[str, str]:
        pids.append(cloud.pid)
        raise KeyboardInterrupt

    monkeypatch.setattr(deploy, "deploy", pressed)
    plan = clouds.Plan(tmp_path, TEMPLATE, port=free_port(), stop_grace_s=1.0)
    with pytest.raises(KeyboardInterrupt):
        clouds.up(plan)
    assert load(tmp_path) is None
    assert not alive(pids[0])
    monkeypatch.setattr(deploy, "deploy", deployed)
    state = clouds.up(plan)
    monkeypatch.setattr(deploy, "deploy", pressed)
    try:
        with pytest.raises(KeyboardInterrupt):
            clouds.up(plan)
        assert runs(state)
    finally:
        clouds.down(tmp_path)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    code, said = run(tmp_path / "file" / "cloud", "up")
    assert code == 1
    assert "Nothing can be written to" in said
    assert "DROPFORGE_LOCAL_HOME" in said


def test_a_missing_environment_says_make_setup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clouds, "REPOSITORY", tmp_path)
    code, said = run(tmp_path, "up")
    assert code == 1
    assert ".venv-cloud is missing" in said
    assert "make setup" in said


def test_a_template_that_fails_says_cloudformations_reason(local_cloud: LocalCloud, tmp_path: Path) -> None:
    template = tmp_path / "broken.yaml"
    template.write_text("Resources:\n  Thing: {Type: AWS::Made::Up}\n")
    with pytest.raises(LocalCloudError, match="AWS::Made::Up"):
        deploy.deploy(replace(local_cloud.state, stack="broken"), template, {})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("seams.PINNED_VERSION = '0.0.1'", "the local cloud is written for 0.0.1"),
        ("seams._NAMES['services.ec2'] += ('_moved_away',)", "has no services.ec2._moved_away"),
        ("pass", "as expected"),
    ],
)
def test_another_ministack_than_the_pinned_one_is_refused_with_a_sentence(change: str, said: str) -> None:
    needs_environments()
    script = f"from dropforge.local.plugin import seams\n{change}\ntry: seams.check(); print('as expected')\nexcept seams.SeamMissing as p: print(p)"
    python = clouds.REPOSITORY / ".venv-cloud" / "bin" / "python"
    run = subprocess.run([python, "-c", script], cwd=clouds.REPOSITORY, capture_output=True, text=True, check=True, timeout=60)
    assert said in run.stdout


def test_the_same_sources_give_the_same_package(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "handler.py").write_text("x = 1\n")
    first = deploy.package(tmp_path / "code")
    (tmp_path / "code" / "__pycache__").mkdir()
    (tmp_path / "code" / "__pycache__" / "handler.pyc").write_bytes(b"bytecode")
    os.utime(tmp_path / "code" / "handler.py", (0, 0))
    assert deploy.package(tmp_path / "code") == first


def test_a_later_process_with_the_same_pid_is_not_taken_for_the_emulator(tmp_path: Path) -> None:
    state = CloudState(os.getpid(), 1, 1, "us-east-1", "a", "b", "c", "d")
    assert not runs(state)
    save(tmp_path, state)
    assert clouds.down(tmp_path) is False
    assert load(tmp_path) is None


def test_interrupt_and_status_speak_of_instances_and_jobs(local_cloud: LocalCloud) -> None:
    tags = [{"ResourceType": "instance", "Tags": [{"Key": "dropforge:job", "Value": "demo-1a2b"}]}]
    instance_id = local_cloud.launch(TagSpecifications=tags)
    assert re.search(rf"{instance_id}.*demo-1a2b.*running", run(local_cloud.home, "status")[1])
    code, said = run(local_cloud.home, "interrupt", "demo", "--notice-s", "1")
    assert code == 0
    assert instance_id in said
    assert local_cloud.ended(instance_id)
    code, said = run(local_cloud.home, "interrupt", "demo")
    assert code == 1
    assert "No live instance works on a job 'demo'" in said
    assert "terminated already" in run(local_cloud.home, "interrupt", instance_id)[1]


def as_json(home: Path, *arguments: str) -> dict[str, Any]:
    """What a script reads: standard output alone, which is JSON alone."""
    result = CliRunner(env={"DROPFORGE_LOCAL_HOME": str(home)}).invoke(main, ["local", *arguments, "--json"])
    assert result.exit_code == 0, result.output
    return dict(json.loads(result.stdout))


def test_with_json_standard_output_is_json_alone(local_cloud: LocalCloud, tmp_path: Path) -> None:
    home, instance_id = local_cloud.home, local_cloud.launch()
    told = as_json(home, "status")
    assert told["endpoint"] == local_cloud.state.endpoint
    assert {"instance_id": instance_id, "state": "running", "job_id": None}.items() <= next(
        i for i in told["instances"] if i["instance_id"] == instance_id
    ).items()
    assert as_json(home, "capacity", "3") == {"instance_type": "*", "where": "*", "instances": 3}
    assert as_json(home, "capacity", "--quota", "8") == {"region": "*", "quota_vcpus": 8}
    assert as_json(home, "interrupt", instance_id, "--rebalance") == {"instance_id": instance_id, "ends_at": None}
    assert as_json(home, "interrupt", instance_id, "--notice-s", "1")["ends_at"].endswith("+00:00")
    lines = eventually(lambda: run(home, "logs", instance_id, "--json")[1].splitlines())
    assert all(json.loads(line).keys() == {"text"} for line in lines)
    assert as_json(tmp_path, "down") == {"was_up": False}


def test_capacity_is_set_from_the_command_line(local_cloud: LocalCloud) -> None:
    assert run(local_cloud.home, "capacity", "0")[0] == 0
    assert local_cloud.fleet()["Instances"] == []
    assert run(local_cloud.home, "capacity", "--unlimited")[0] == 0
    assert local_cloud.fleet()["Instances"]


def test_the_control_path_wants_its_token(local_cloud: LocalCloud) -> None:
    with pytest.raises(LocalCloudError, match="token"):
        Market(replace(local_cloud.state, control_token="guessed")).instances()


def test_printed_variables_are_all_that_the_stock_tools_need(local_cloud: LocalCloud) -> None:
    exports = dict(line.removeprefix("export ").split("=", 1) for line in run(local_cloud.home, "env")[1].splitlines())
    assert exports == local_cloud.state.environment
