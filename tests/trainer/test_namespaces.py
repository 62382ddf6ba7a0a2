"""Two instances of a gang in network namespaces, under the rules of agent/bootstrap.sh in this machine's kernel: they train together and reach nothing else."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.trainer import namespaces
from tests.trainer.namespaces import IMDS, MEMBERS, MEMBERS_IPV6, OUTSIDE, OUTSIDE_IPV6, ROOT, Network
from tests.trainer.rig import lines, make_run, results

LACKS = namespaces.missing()
pytestmark = pytest.mark.skipif(LACKS is not None, reason=str(LACKS))

PATIENCE_S = 600
#: Of the gang's ports, but for the one that torchrun and the trainers meet at.
PORT = 30001


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """With everything listening that a trainer might look for, inside and outside."""
    with Network(tmp_path_factory.mktemp("network")) as network:
        network.listen(network.outside, f"{OUTSIDE}/443", f"{OUTSIDE}/{PORT}", f"{IMDS}/80", f"{OUTSIDE_IPV6}/{PORT}")
        network.listen(network.second, "0.0.0.0/22", f"0.0.0.0/{PORT}", f"{MEMBERS_IPV6[1]}/{PORT}")
        network.listen(network.first, "127.0.0.1/8125", f"127.0.0.1/{PORT}")
        yield network


@pytest.mark.torch
def test_two_instances_train_together_under_the_rules(network: Network, tiny_model: Path, tmp_path: Path) -> None:
    folders, started = [tmp_path / "first", tmp_path / "second"], []
    environment = os.environ | {"HOME": "/tmp", "USER": "dropforge"}
    try:
        for rank, (member, folder) in enumerate(zip(network.members, folders, strict=True)):
            path = make_run(folder, tiny_model, nodes=2, node_rank=rank, rendezvous=f"{MEMBERS[0]}:29400", training={"max_steps": 4})
            with (folder / "trainer.log").open("wb") as log:
                command = member.as_trainer(sys.executable, "-m", "trainer", "run", str(path))
                started.append(subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log))
        assert [process.wait(PATIENCE_S) for process in started] == [0, 0], "".join((folder / "trainer.log").read_text() for folder in folders)
    finally:
        for process in started:
            process.kill()
    assert [line["step"] for line in lines(folders[0], "step")][-1] == 4
    assert "2 ranks" in lines(folders[0], "started")[-1]["message"]
    assert results(folders[0])["steps"] == 4
    for at, member in enumerate(network.members):  # what they said to each other went through the rules
        assert member.counted("gang-out", "RETURN", MEMBERS[1 - at]) > 0
        assert member.counted("gang-in", "RETURN", MEMBERS[1 - at]) + network.members[1 - at].counted("gang-in", "RETURN", MEMBERS[at]) > 0


def test_a_trainer_reaches_the_gangs_ports_of_its_members_and_nothing_else(network: Network) -> None:
    allowed = [f"{MEMBERS[1]}/{PORT}", f"127.0.0.1/{PORT}"]
    # IMDS, another host at a gang's port and at its own, a member's other port, this instance's other port, IPv6.
    refused = [f"{IMDS}/80", f"{OUTSIDE}/{PORT}", f"{OUTSIDE}/443", f"{MEMBERS[1]}/22", "127.0.0.1/8125", f"{MEMBERS_IPV6[1]}/{PORT}", f"{OUTSIDE_IPV6}/{PORT}"]
    dns = f"udp:{OUTSIDE}/53"
    there = network.first.ask(*allowed, *refused, dns, trainer=False)
    assert there == dict.fromkeys([*allowed, *refused], "here") | {dns: "sent"}  # the network would carry all of it: the agent's user sees it
    found = network.first.ask(*allowed, *refused, dns, trainer=True)
    assert found == dict.fromkeys(allowed, "here") | dict.fromkeys(refused, "ECONNREFUSED") | {dns: "EPERM"}


def test_a_gangs_ports_are_closed_to_all_who_are_not_of_it(network: Network) -> None:
    """Whatever the security group lets through."""
    place = f"{MEMBERS[1]}/{PORT}"
    assert network.first.ask(place, trainer=True) == {place: "here"}
    assert network.outside.ask(f"{MEMBERS[1]}/22", trainer=False) == {f"{MEMBERS[1]}/22": "here"}
    asking = subprocess.Popen(network.outside.command(sys.executable, "-c", namespaces.ASK, place), stdout=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + PATIENCE_S
        while network.second.counted("gang-in", "DROP") < 2:  # it asks again, for nobody answers
            assert asking.poll() is None, "it was let in"
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        asking.kill()
        assert asking.communicate()[0] == ""


def test_the_rules_can_be_applied_again_at_each_start_of_the_trainer(network: Network) -> None:
    before = network.first.run("iptables", "-S")
    network.first.apply_gang_rules()
    assert network.first.run("iptables", "-S") == before
