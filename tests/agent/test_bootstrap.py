"""``bootstrap.sh`` beside recorders: what it asks of docker, shutdown, aws and iptables, word for word."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]  # its stubs come apart from it
import pytest

from agent.settings import Folders
from tests.agent.cloud import FIRST, REPOSITORY, now
from tests.imds import FakeImds
from tools.embed_bootstrap import without_comments

BOOTSTRAP = REPOSITORY / "agent" / "bootstrap.sh"
SHIMS = REPOSITORY / "dropforge" / "local" / "shims"
GOLDEN = Path(__file__).parent / "golden" / "bootstrap.txt"

#: Standard input first: of a pipe's two ends the left one is then recorded first.
RECORDER = """#!/usr/bin/env bash
if [ "${1:-}" = login ]; then cat >/dev/null; fi
echo "$(basename "$0") $*" >>"$RECORD"
"""
#: Records, and plays an agent that wants one trainer and then says $AGENT_EXIT.
DOCKER = (
    RECORDER
    + """
case "$*" in
  *" agent "*)
    echo 1 >"$CONTROL/trainer.start"
    for _ in $(seq 200); do
      if [ -e "$CONTROL/trainer.exit" ]; then break; fi
      sleep 0.05
    done
    exit "$AGENT_EXIT" ;;
  *" trainer "*) exit 75 ;;
esac
"""
)


#: The registry's password. While the agent's own image is there, the training image's comes only once the agent was started: so what is
#: asked side by side on a machine has one order here.
AWS = (
    RECORDER.replace(
        "echo ",
        """if [ "$1" = ecr ] && grep -q -- "-agent$" "$RECORD"; then
  for _ in $(seq 200); do if grep -q " agent " "$RECORD"; then break; fi; sleep 0.05; done
fi
echo """,
    )
    + "echo password\n"
)


class Recorders:
    """A PATH of recorders before the machine's own tools; ``run()`` gives what its main process asked, with ROOT for the root."""

    def __init__(self, folder: Path) -> None:
        self.bin, self.root, self.record = folder / "bin", folder / "root", folder / "record.txt"
        self.bin.mkdir()
        for name in ("shutdown", "iptables", "nvidia-smi"):
            self.add(name, RECORDER)
        self.add("aws", AWS)
        self.add("docker", DOCKER)
        (self.root / "etc" / "dropforge").mkdir(parents=True)
        self.facts = {
            "DROPFORGE_PROJECT": "dropforge",
            "DROPFORGE_DATA_BUCKET": "data-bucket",
            "DROPFORGE_OUTPUTS_BUCKET": "outputs-bucket",
            "DROPFORGE_ROLE_ID": "AROATESTROLE",
            "DROPFORGE_IMAGE": "123456789012.dkr.ecr.us-east-1.amazonaws.com/dropforge:v1",
            "DROPFORGE_LOG_GROUP": "/dropforge/instances",
            "AWS_REGION": "us-east-1",
        }

    def add(self, name: str, text: str) -> None:
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    def remove(self, name: str) -> None:
        (self.bin / name).unlink()

    def run(self, imds: str, agent_exit: int = 0, script: str = BOOTSTRAP.read_text()) -> list[str]:
        (self.root / "etc" / "dropforge" / "env").write_text("".join(f"{name}={value}\n" for name, value in self.facts.items()))
        environment = {
            "PATH": f"{self.bin}:/usr/bin:/bin",
            "DROPFORGE_ROOT": str(self.root),
            "RECORD": str(self.record),
            "CONTROL": str(self.root / "var/lib/dropforge/control"),
            "AGENT_EXIT": str(agent_exit),
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": imds,
        }
        subprocess.run(["bash", "-c", script], env=environment, check=True, timeout=30, capture_output=True)
        return [line for line in self.recorded() if not line.startswith(("aws logs", "nvidia-smi"))]

    def recorded(self) -> list[str]:
        """Also what processes beside the main one asked, at moments of their own."""
        return self.record.read_text().replace(str(self.root), "ROOT").splitlines()

    def log(self) -> str:
        return (self.root / "var/lib/dropforge/logs/bootstrap.log").read_text()

    def trainer_answer(self) -> str:
        return (self.root / "var/lib/dropforge/control/trainer.exit").read_text()


@pytest.fixture
def recorders(tmp_path: Path) -> Recorders:
    return Recorders(tmp_path)


def _tags(minutes: float) -> dict[str, str]:
    return {"dropforge:deadline": str(int(now().timestamp() + minutes * 60)), "dropforge:job": "demo-1a2b3c", "dropforge:attempt": "2"}


def test_the_commands_are_the_golden_ones(recorders: Recorders) -> None:
    with FakeImds(FIRST, _tags(59.5)) as imds:
        lines = recorders.run(imds.endpoint)
    text = "\n".join(lines) + "\n"
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text(), "run with UPDATE_GOLDEN=1 where the change is meant, and read the diff"
    assert recorders.trainer_answer() == "1 75\n"


def _containers(lines: list[str]) -> list[tuple[str, str]]:
    """Image and role of each container that was started, in order."""
    return [found.groups() for line in lines if (found := re.search(r" (\S*dkr\S*) (agent|trainer) ", line))]  # type: ignore[misc]


@pytest.mark.parametrize("image", ["v1", "latest"])
def test_the_agents_own_image_comes_first_and_the_trainer_waits_for_the_other(recorders: Recorders, image: str) -> None:
    """The pull of the training image does not end before the agent has been seen to work."""
    recorders.facts["DROPFORGE_IMAGE"] = uri = f"123456789012.dkr.ecr.us-east-1.amazonaws.com/dropforge:{image}"
    held = f"""case "$*" in
  "pull {uri}-agent") sleep 1.1 ;;
  "pull {uri}")
    until [ -e "$CONTROL/trainer.start" ] || [ -e "$CONTROL/trainer.running" ]; do sleep 0.05; done
    sleep 1 # for a trainer that does not wait
    echo "there" >>"$RECORD" ;;"""
    recorders.add("docker", DOCKER.replace('case "$*" in', held))
    with FakeImds(FIRST, _tags(59.5)) as imds:
        lines = recorders.run(imds.endpoint)
    assert [line for line in lines if line.startswith("docker pull")] == [f"docker pull {uri}-agent", f"docker pull {uri}"]
    assert _containers(lines) == [(f"{uri}-agent", "agent"), (uri, "trainer")]
    assert lines.index("there") < next(at for at, line in enumerate(lines) if " trainer run " in line)
    before_s, after_s = map(int, Folders(recorders.root / "var/lib/dropforge").stages.read_text().split())
    assert before_s == after_s, "the agent waited for no training image"


DIGEST = "123456789012.dkr.ecr.us-east-1.amazonaws.com/dropforge@sha256:0123"
TAG = "123456789012.dkr.ecr.us-east-1.amazonaws.com/dropforge:v1"


@pytest.mark.parametrize(("uri", "pulls"), [(DIGEST, [DIGEST]), (TAG, [f"{TAG}-agent", TAG])])
def test_where_there_is_no_image_of_the_agent_alone_it_comes_with_the_training_image_and_the_log_says_so(
    recorders: Recorders, uri: str, pulls: list[str]
) -> None:
    recorders.facts["DROPFORGE_IMAGE"] = uri
    recorders.add("aws", RECORDER + "echo password\n")
    recorders.add("docker", DOCKER.replace('case "$*" in', 'case "$*" in\n  "pull "*-agent) exit 1 ;;\n  "pull "*) sleep 1.1 ;;'))
    with FakeImds(FIRST, _tags(59.5)) as imds:
        lines = recorders.run(imds.endpoint)
    assert [line for line in lines if line.startswith("docker pull")] == [f"docker pull {one}" for one in pulls]
    assert _containers(lines) == [(uri, "agent"), (uri, "trainer")]
    assert "no image of the agent alone" in recorders.log()
    before_s, after_s = map(int, Folders(recorders.root / "var/lib/dropforge").stages.read_text().split())
    assert 0 <= before_s < after_s


#: Plays an agent that waits for the word on the training image, keeps it, and ends with $AGENT_EXIT.
WAITS = """
case "$*" in
  *" agent "*)
    for _ in $(seq 200); do
      read -r word <"$CONTROL/image"
      if [ "$word" != pulling ]; then break; fi
      sleep 0.05
    done
    echo "$word" >>"$CONTROL/words"
    exit "$AGENT_EXIT" ;;
"""


def test_an_agent_is_told_of_a_training_image_that_cannot_be_pulled_and_ends_the_machine_itself(recorders: Recorders) -> None:
    recorders.add("docker", RECORDER + WAITS + f'  "pull {TAG}") exit 1 ;;\nesac\n')
    recorders.add("sleep", '#!/bin/sh\ncase "$1" in 0.*) exec /bin/sleep "$1" ;; esac\nexit 0\n')
    with FakeImds(FIRST, _tags(60)) as imds:
        lines = recorders.run(imds.endpoint)
    assert (recorders.root / "var/lib/dropforge/control/words").read_text() == "failed\n"
    assert sum(line == f"docker pull {TAG}" for line in lines) == 5
    assert _containers(lines) == [(f"{TAG}-agent", "agent")]
    assert lines[-1] == "shutdown -P now"
    assert f"the image {TAG} could not be pulled" in recorders.log()


@pytest.mark.parametrize(("says", "told"), [("echo 0a1b2c", "0a1b2c"), ("exit 1", "unknown")])
def test_an_agent_is_told_what_the_training_image_was_built_of(recorders: Recorders, says: str, told: str) -> None:
    recorders.add("docker", RECORDER + WAITS + f'  *"--entrypoint=cat {TAG} /opt/dropforge/build") {says} ;;\nesac\n')
    with FakeImds(FIRST, _tags(60)) as imds:
        recorders.run(imds.endpoint)
    assert (recorders.root / "var/lib/dropforge/control/words").read_text() == f"{told}\n"


def test_an_agent_of_another_build_is_replaced_by_the_training_images_own(recorders: Recorders) -> None:
    refusing = DOCKER.replace('case "$*" in', f'case "$*" in\n  *" {TAG}-agent agent "*) exit 6 ;;')
    recorders.add("docker", refusing)
    with FakeImds(FIRST, _tags(60)) as imds:
        lines = recorders.run(imds.endpoint)
    assert _containers(lines) == [(f"{TAG}-agent", "agent"), (TAG, "agent"), (TAG, "trainer")]
    assert "it is of another build than the training image" in recorders.log()
    assert recorders.trainer_answer() == "1 75\n"


#: A pull that goes on until the machine is off; the agent hands over once it has begun.
HANGS = """
case "$*" in
  "pull $IMAGE")
    touch "$CONTROL/hangs"
    until grep -q "shutdown -P now" "$RECORD"; do /bin/sleep 0.05; done ;;
  *" agent "*)
    until [ -e "$CONTROL/hangs" ]; do /bin/sleep 0.05; done
    exit 3 ;;
esac
"""


def test_an_agent_that_hands_over_during_the_pull_ends_without_waiting_for_it(recorders: Recorders) -> None:
    recorders.add("docker", RECORDER + HANGS.replace("$IMAGE", TAG))
    recorders.add("sleep", '#!/bin/sh\ncase "$1" in 360) exit 0 ;; esac\nexec /bin/sleep "$1"\n')
    with FakeImds(FIRST, _tags(60)) as imds:
        lines = recorders.run(imds.endpoint)
    assert lines[-2:] == ["shutdown -P +5", "shutdown -P now"]
    assert not any(" trainer " in line for line in lines)


def test_a_pull_that_is_killed_is_tried_again(recorders: Recorders) -> None:
    killed = f'case "$*" in\n  "pull {TAG}") if [ ! -e "$CONTROL/once" ]; then touch "$CONTROL/once"; kill -9 $$; fi ;;'
    recorders.add("docker", DOCKER.replace('case "$*" in', killed))
    with FakeImds(FIRST, _tags(60)) as imds:
        lines = recorders.run(imds.endpoint)
    assert sum(line == f"docker pull {TAG}" for line in lines) == 2
    assert "pull failed (1 of 5)" in recorders.log()
    assert recorders.trainer_answer() == "1 75\n"


def test_the_power_off_timer_comes_before_everything_else(recorders: Recorders) -> None:
    with FakeImds(FIRST, _tags(59.5)) as imds:
        first, second, *_, last = recorders.run(imds.endpoint)
    assert (first, second) == ("shutdown -P +30", "shutdown -P +65")
    assert last == "shutdown -P now"


def test_the_first_timer_asks_nobody(recorders: Recorders) -> None:
    # A metadata service that answers nothing, for the seconds that a look at it takes.
    recorders.add("curl", '#!/bin/sh\necho "curl" >>"$RECORD"\nexit 28\n')
    recorders.facts["DROPFORGE_IMAGE"] = ""
    assert recorders.run("http://127.0.0.1:9")[:2] == ["shutdown -P +30", "curl"]


def test_a_deadline_further_off_than_any_job_is_cut(recorders: Recorders) -> None:
    recorders.facts["DROPFORGE_IMAGE"] = ""
    with FakeImds(FIRST, {"dropforge:deadline": "99999999999"}) as imds:
        assert recorders.run(imds.endpoint)[1] == "shutdown -P +131040"


def test_a_second_boot_powers_the_machine_off(recorders: Recorders) -> None:
    recorders.facts["DROPFORGE_IMAGE"] = ""
    with FakeImds(FIRST, _tags(60)) as imds:
        before = len(recorders.run(imds.endpoint))
    script = recorders.root / "var/lib/cloud/scripts/per-boot/dropforge"
    subprocess.run([script], env={"PATH": f"{recorders.bin}:/usr/bin:/bin", "RECORD": str(recorders.record)}, check=True)
    assert recorders.record.read_text().splitlines()[before:] == ["shutdown -P now"]


@pytest.mark.parametrize("root", ["", "/somewhere"])
def test_a_shutdown_that_fails_is_done_by_force_but_never_on_a_laptop(recorders: Recorders, root: str) -> None:
    recorders.add("shutdown", RECORDER + "exit 1\n")
    recorders.add("systemctl", RECORDER)
    functions = recorders.bin / "functions"
    functions.write_text(BOOTSTRAP.read_text().removesuffix("\nmain\n"))
    environment = {"PATH": f"{recorders.bin}:/usr/bin:/bin", "RECORD": str(recorders.record), "DROPFORGE_ROOT": root}
    subprocess.run(["bash", "-c", f". {functions}; power_off test"], env=environment, check=True, capture_output=True)
    forced = ["systemctl poweroff --force --force"] if root == "" else []
    assert recorders.record.read_text().splitlines() == ["shutdown -P now", *forced]


def test_an_agent_that_is_denied_ends_the_machine_and_is_not_started_again(recorders: Recorders) -> None:
    with FakeImds(FIRST, _tags(60)) as imds:
        lines = recorders.run(imds.endpoint, agent_exit=5)
    assert sum(" agent " in line for line in lines) == 1
    assert lines[-1] == "shutdown -P now"


#: Dies at its first 12 starts, then finishes; with $LIVED it says so of a clock that runs fast.
MORTAL = RECORDER + 'case "$*" in *" agent "*) echo >>"$CONTROL/starts"; [ "$(wc -l <"$CONTROL/starts")" -gt 12 ] || exit 137 ;; esac\n'


@pytest.mark.parametrize(("lived_s", "starts"), [(0, 13), (600, 10)])
def test_deaths_count_only_in_a_row(recorders: Recorders, lived_s: int, starts: int) -> None:
    recorders.add("docker", MORTAL)
    recorders.add("sleep", "#!/bin/sh\nexit 0\n")
    with FakeImds(FIRST, _tags(60)) as imds:
        lines = recorders.run(imds.endpoint, script=BOOTSTRAP.read_text().replace("AGENT_LIVED_S=600", f"AGENT_LIVED_S={lived_s}"))
    assert sum(" agent " in line for line in lines) == starts


def test_a_log_group_that_docker_cannot_use_costs_one_start_not_the_job(recorders: Recorders) -> None:
    refusing = DOCKER.replace(RECORDER, RECORDER + 'case "$*" in *"--log-driver=awslogs"*) exit 125 ;; esac\n')
    recorders.add("docker", refusing)
    with FakeImds(FIRST, _tags(60)) as imds:
        lines = recorders.run(imds.endpoint)
    agents = [line for line in lines if " agent " in line]
    assert ["--log-driver" in line for line in agents] == [True, False]
    assert ["--log-driver" in line for line in lines if " trainer " in line] == [False], "the trainer is started by another process"
    assert recorders.trainer_answer() == "1 75\n"


def test_a_trainers_end_that_cannot_be_written_is_written_once_there_is_space(recorders: Recorders) -> None:
    # A disk that is full until the ballast is given up.
    state = recorders.root / "var/lib/dropforge"
    recorders.add("mv", f'#!/bin/sh\ncase "$*" in *trainer.exit) [ ! -e {state}/ballast ] || exit 1 ;; esac\nexec /bin/mv "$@"\n')
    with FakeImds(FIRST, _tags(60)) as imds:
        recorders.run(imds.endpoint)
    assert recorders.trainer_answer() == "1 75\n"


@pytest.mark.parametrize("deadline", [None, "", "soon", "-5", "99999999999999", "$(reboot)"])
def test_without_a_readable_deadline_the_life_is_half_an_hour(recorders: Recorders, deadline: str | None) -> None:
    recorders.facts["DROPFORGE_IMAGE"] = ""
    with FakeImds(FIRST, {} if deadline is None else {"dropforge:deadline": deadline}) as imds:
        assert [line for line in recorders.run(imds.endpoint) if line.startswith("shutdown")] == ["shutdown -P +30", "shutdown -P now"]


def test_without_an_answer_of_imds_the_life_is_half_an_hour(recorders: Recorders) -> None:
    recorders.facts["DROPFORGE_IMAGE"] = ""
    recorders.add("curl", "#!/bin/sh\nexit 7\n")
    assert recorders.run("http://127.0.0.1:9") == ["shutdown -P +30", "shutdown -P now"]


def test_a_deadline_long_past_leaves_a_minute(recorders: Recorders) -> None:
    recorders.facts["DROPFORGE_IMAGE"] = ""
    with FakeImds(FIRST, _tags(-600)) as imds:
        assert recorders.run(imds.endpoint)[1] == "shutdown -P +1"


def test_without_a_gpu_and_a_log_group_neither_is_asked_for(recorders: Recorders) -> None:
    recorders.remove("nvidia-smi")
    del recorders.facts["DROPFORGE_LOG_GROUP"]
    with FakeImds(FIRST, _tags(60)) as imds:
        text = "\n".join(recorders.run(imds.endpoint))
    assert " trainer run " in text
    assert "--gpus" not in text
    assert "--log-driver" not in text


def test_an_instance_that_handed_over_is_left_to_ec2_for_five_minutes(recorders: Recorders) -> None:
    recorders.add("sleep", '#!/bin/sh\ncase "$1" in 360) echo "sleep $1" >>"$RECORD" ;; *) exec /bin/sleep "$1" ;; esac\n')
    with FakeImds(FIRST, _tags(60)) as imds:
        lines = recorders.run(imds.endpoint, agent_exit=3)
    assert lines[-3:] == ["shutdown -P +5", "sleep 360", "shutdown -P now"]


def test_an_image_that_cannot_be_pulled_ends_the_machine(recorders: Recorders) -> None:
    recorders.add("docker", RECORDER + 'case "$1" in pull) exit 1 ;; esac\n')
    recorders.add("sleep", "#!/bin/sh\nexit 0\n")
    with FakeImds(FIRST, _tags(60)) as imds:
        lines = recorders.run(imds.endpoint)
    assert [line for line in lines if line.startswith("docker pull")] == [f"docker pull {TAG}-agent", *[f"docker pull {TAG}"] * 5]
    assert not any(line.startswith("docker run") for line in lines)
    assert lines[-1] == "shutdown -P now"


def sent(recorders: Recorders) -> list[str]:
    """The messages of every batch that CloudWatch took, in order."""
    batches = [json.loads(path.read_text()) for path in sorted(recorders.root.parent.glob("batch-*"))]
    return [event["message"] for batch in batches for event in batch]


#: CloudWatch Logs: takes batches once the stream is made; keeps each beside the root.
LOGS = (
    RECORDER
    + """
folder="$(dirname "$RECORD")"
case "$2" in
  create-log-stream) touch "$folder/stream" ;;
  put-log-events)
    [ -e "$folder/stream" ] || exit 254
    # Whole or not at all: one that still copies when its machine is gone is not looked at.
    part="$folder/part-$(date +%s%N)-$$"
    for word in "$@"; do case "$word" in file://*) cp "${word#file://}" "$part" && mv "$part" "${part/part-/batch-}" ;; esac; done ;;
  *) echo password ;;
esac
"""
)


def test_the_bootstraps_own_log_is_sent_where_no_image_comes_and_says_why(recorders: Recorders) -> None:
    recorders.add("aws", LOGS)
    recorders.add("docker", RECORDER + """case "$1" in pull) printf 'Error: "no\\such" image\n\nunauthorized: \001\303\244\n' >&2; exit 1 ;; esac\n""")
    recorders.add("sleep", '#!/bin/sh\ncase "$1" in 15) exec /bin/sleep 15 ;; esac\nexit 0\n')
    with FakeImds(FIRST, _tags(60)) as imds:
        assert recorders.run(imds.endpoint)[-1] == "shutdown -P now"
    messages = sent(recorders)
    assert messages.count('Error: "no\\such" image') == 6  # the agent's image once, the training image five times
    assert messages.count("-") == 6, "an event may not be empty"
    assert "unauthorized: " in messages
    assert messages[0].endswith("dropforge: power-off in 65 minutes at the latest")
    assert messages[-1].endswith(f"power-off: the image {recorders.facts['DROPFORGE_IMAGE']} could not be pulled")
    assert all(re.fullmatch(r"[ -~]+", message) for message in messages)
    streams = {word for line in recorders.recorded() if line.startswith("aws logs") for word in line.split() if word.endswith("/bootstrap")}
    assert streams == {"demo-1a2b3c/2/bootstrap"}


def test_each_line_of_the_log_is_sent_once_while_the_machine_lives_and_the_last_at_its_end(recorders: Recorders) -> None:
    recorders.add("aws", LOGS)
    script = BOOTSTRAP.read_text().replace("LOG_EVERY_S=15", "LOG_EVERY_S=0.05")
    with FakeImds(FIRST, _tags(60)) as imds:
        recorders.run(imds.endpoint, script=script)
    messages = sent(recorders)
    assert sorted(set(messages)) == sorted(recorders.log().splitlines())
    assert any("trainer starts (request 1)" in message for message in messages)
    assert messages[-1].endswith("power-off: the agent ended with exit status 0")
    assert len(list(recorders.root.parent.glob("batch-*"))) > 1, "it does not wait for the end"


def test_nothing_of_the_script_outlives_it(recorders: Recorders) -> None:
    for exits, docker in ((0, DOCKER), (0, RECORDER + 'case "$1" in pull) exit 1 ;; esac\n')):
        recorders.add("docker", docker)
        recorders.add("sleep", '#!/bin/sh\ncase "$1" in [0-9]) exit 0 ;; esac\nexec /bin/sleep "$1"\n')
        with FakeImds(FIRST, _tags(60)) as imds:
            recorders.run(imds.endpoint, agent_exit=exits)
        left = [process for process in psutil.process_iter(["cmdline", "environ"]) if _is_of(recorders, process.info)]
        assert [process.info["cmdline"] for process in left if process.info["cmdline"][:2] == ["bash", "-c"]] == []
        for process in left:
            process.kill()


def _is_of(recorders: Recorders, info: dict[str, Any]) -> bool:
    return (info["environ"] or {}).get("DROPFORGE_ROOT") == str(recorders.root)


def test_logs_that_cannot_be_sent_hold_nothing_up(recorders: Recorders) -> None:
    recorders.add("aws", RECORDER + 'case "$1" in logs) exit 254 ;; esac\necho password\n')
    with FakeImds(FIRST, _tags(60)) as imds:
        assert recorders.run(imds.endpoint)[-1] == "shutdown -P now"
    assert recorders.trainer_answer() == "1 75\n"


def test_what_the_driver_says_lies_where_the_agent_reads_and_no_container_writes(recorders: Recorders) -> None:
    recorders.add("nvidia-smi", RECORDER + "echo '0, 87, 9000, 24564'\n")
    with FakeImds(FIRST, _tags(60)) as imds:
        recorders.run(imds.endpoint)
    assert Folders(recorders.root / "var/lib/dropforge").gpus.read_text() == "0, 87, 9000, 24564\n"
    asked = {line for line in recorders.recorded() if line.startswith("nvidia-smi")}
    assert asked == {"nvidia-smi --query-gpu=index,utilization.gpu,memory.used,memory.total --format=csv,noheader,nounits"}


def test_a_driver_that_fails_leaves_no_answer(recorders: Recorders) -> None:
    recorders.add("nvidia-smi", RECORDER + "echo 'Unable to determine the device handle'\nexit 9\n")
    with FakeImds(FIRST, _tags(60)) as imds:
        recorders.run(imds.endpoint)
    assert not Folders(recorders.root / "var/lib/dropforge").gpus.exists()


def test_job_facts_from_tags_reach_a_command_only_if_they_are_plain(recorders: Recorders) -> None:
    with FakeImds(FIRST, {**_tags(60), "dropforge:job": "a b;$(reboot)"}) as imds:
        text = "\n".join(recorders.run(imds.endpoint))
    assert "reboot" not in text
    assert "awslogs-stream=unnamed/0/agent" in text


def test_the_scripts_pass_shellcheck() -> None:
    shellcheck = Path(sys.executable).parent / "shellcheck"
    scripts = [BOOTSTRAP, *(SHIMS / name for name in ("docker", "shutdown", "aws"))]
    found = subprocess.run([shellcheck, "-x", *scripts], capture_output=True, text=True)
    assert found.returncode == 0, found.stdout


def test_the_bootstrap_fits_into_user_data_with_room_for_its_head() -> None:
    # EC2: 16 KB of raw user data.
    assert len(without_comments(BOOTSTRAP.read_text())) < 14_000


GANG = DOCKER.replace("echo 1 >", 'printf "%b" "$GANG" >"$CONTROL/gang"; echo 1 >')
#: As iptables does for a rule that is not there yet.
ASKED = RECORDER + 'case "$*" in *" -C "*) exit 1 ;; esac\n'


@pytest.fixture
def gang(recorders: Recorders) -> Recorders:
    for name in ("iptables", "ip6tables"):
        recorders.add(name, ASKED)
    recorders.add("sysctl", RECORDER)
    return recorders


def _gang_lines(gang: Recorders, addresses: str) -> list[str]:
    gang.add("docker", GANG.replace('"$GANG"', f'"{addresses}"'))
    with FakeImds(FIRST, _tags(59.5)) as imds:
        return gang.run(imds.endpoint)


def test_the_trainer_of_a_gang_reaches_its_members_and_nothing_else(gang: Recorders) -> None:
    lines = _gang_lines(gang, "10.0.1.7\\n10.0.1.9\\n")
    rules = [line for line in lines if line.startswith(("iptables -w", "ip6tables", "sysctl")) and " -C " not in line]
    assert rules == [
        "sysctl -q -w net.ipv4.ip_local_port_range=29401 32767",
        "iptables -w -N gang-out",
        "iptables -w -N gang-in",
        *(
            f"iptables -w -A gang-{way}"
            for address in ("127.0.0.1", "10.0.1.7", "10.0.1.9")
            for way in (f"out -p tcp -d {address} --dport 29400:32767 -j RETURN", f"in -s {address} -j RETURN")
        ),
        "iptables -w -A gang-out -j REJECT",
        "iptables -w -A gang-in -j DROP",
        "iptables -w -I OUTPUT -m owner --uid-owner 10002 -j gang-out",
        "iptables -w -I INPUT -p tcp --syn --dport 29400:32767 -j gang-in",
        "ip6tables -w -I OUTPUT -m owner --uid-owner 10002 -j REJECT",
    ]
    (trainer,) = [line for line in lines if line.startswith("docker run") and " trainer run " in line]
    assert lines.index(trainer) > lines.index(rules[-1])
    assert "--user=10002:10001" in trainer
    assert "--network=host" in trainer
    (agent,) = [line for line in lines if line.startswith("docker run") and " agent " in line]
    assert "--user=10001:10001" in agent  # whose packets no rule holds back


@pytest.mark.parametrize(
    ("broken", "addresses"), [("iptables", "10.0.1.7\\n"), ("ip6tables", "10.0.1.7\\n"), ("sysctl", "10.0.1.7\\n"), ("", "10.0.1.7; id\\n"), ("", "")]
)
def test_without_its_rules_no_trainer_of_a_gang_starts(gang: Recorders, broken: str, addresses: str) -> None:
    if broken:
        gang.add(broken, RECORDER + "exit 1\n")
    lines = _gang_lines(gang, addresses)
    assert not [line for line in lines if line.startswith("docker run") and " trainer run " in line]
    assert gang.trainer_answer() == "1 78\n"


def test_the_gangs_ports_are_those_of_the_contract() -> None:
    from jobspec.ticket import FIRST_GANG_PORT, LAST_GANG_PORT

    assert f"GANG_PORTS={FIRST_GANG_PORT}:{LAST_GANG_PORT}\n" in BOOTSTRAP.read_text()
    assert f"ip_local_port_range={FIRST_GANG_PORT + 1} {LAST_GANG_PORT}" in BOOTSTRAP.read_text()
