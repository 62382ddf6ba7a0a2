"""The network of a gang on this machine: a network namespace for each instance and one for what is outside, all at one switch.

What an instance sets up at its start is set up by ``agent/bootstrap.sh`` itself, its own functions called in the namespace. Wants root,
iproute2, iptables and a kernel with both: where one is missing :func:`missing` says which.
"""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).resolve().parents[2]
BOOTSTRAP = ROOT / "agent/bootstrap.sh"
FIREWALL = ROOT / ".cache/firewall/bin"  # tools/setup.py
IMDS = "169.254.169.254"
MEMBERS = ("10.77.0.1", "10.77.0.2")
MEMBERS_IPV6 = ("fd77::1", "fd77::2")
OUTSIDE, OUTSIDE_IPV6 = "10.77.0.254", "fd77::fe"
#: bootstrap.sh's numbers of a gang's trainer.
TRAINER = ("--reuid=10002", "--regid=10001", "--clear-groups", "--no-new-privs")
#: In the container the run folder is its own; here root made it, and the interpreter may lie where only root looks.
READS_ALL = ("--inh-caps=+dac_override", "--ambient-caps=+dac_override")

#: As bootstrap.sh is, but for its last line, which starts it: $CONTROL/gang holds the addresses.
OPEN = 'eval "$(sed "\\$d" "$1")"; CONTROL="$2"; open_gang_network'
#: A container on the host's network has the instance's name and no name server that it may ask.
AS_INSTANCE = 'hostname "$1"; mount --bind "$2" /etc/hosts; mount --bind "$3" /etc/resolv.conf; shift 3; exec "$@"'

LISTEN = """
import socket, sys, threading
def serve(listening):
    while True:
        with listening.accept()[0] as peer:
            peer.sendall(b"here")
for place in sys.argv[1:]:
    address, port = place.rsplit("/", 1)
    listening = socket.create_server((address, int(port)), family=socket.AF_INET6 if ":" in address else socket.AF_INET)
    threading.Thread(target=serve, args=(listening,)).start()
print("listening", flush=True)
"""
ASK = """
import errno, socket, sys
def said(place):
    address, port = place.removeprefix("udp:").rsplit("/", 1)
    if place.startswith("udp:"):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            asking.sendto(b"who", (address, int(port)))
        return "sent"
    with socket.create_connection((address, int(port)), timeout=300) as peer:
        return peer.recv(4).decode()
for place in sys.argv[1:]:
    try:
        print(said(place))
    except OSError as error:
        print(errno.errorcode.get(error.errno, error))
"""


def missing() -> str | None:
    """What this machine lacks, or None."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "network namespaces are Linux's, and made by root"
    for command in ("ip", "setpriv", "unshare", "sysctl"):
        if shutil.which(command) is None:
            return f"there is no {command} on PATH"
    if shutil.which("iptables", path=_path()) is None:
        return "there is no iptables on PATH, and tools/setup.py could not unpack one"
    tried = subprocess.run(["unshare", "--net", "ip", "link", "add", "one", "type", "veth", "peer", "two"], capture_output=True, text=True, check=False)
    return f"no veth in a network namespace here: {tried.stderr.strip()}" if tried.returncode else None


def _path() -> str:
    return f"{FIREWALL}:{os.environ['PATH']}"


class Namespace:
    """One of the network's hosts. Commands run in it as root does, whom no rule of a gang holds back, or as the trainer of a gang."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self._folder = name, folder
        self._hosts, self._resolver = folder / "hosts", folder / "resolv.conf"
        self._hosts.write_text("127.0.0.1 localhost\n")
        self._resolver.write_text(f"nameserver {OUTSIDE}\n")

    def command(self, *command: str) -> list[str]:
        return ["ip", "netns", "exec", self.name, *command]

    def as_trainer(self, *command: str) -> list[str]:
        """The command line for ``command`` as the user of a gang's trainer, on a machine whose name nobody resolves."""
        entered = ["unshare", "--uts", "sh", "-c", AS_INSTANCE, "sh", f"ip-{self.name}", str(self._hosts), str(self._resolver)]
        return self.command(*entered, "setpriv", *TRAINER, *READS_ALL, *command)

    def run(self, *command: str) -> str:
        done = subprocess.run(self.command(*command), capture_output=True, text=True, check=False, env=os.environ | {"PATH": _path()})
        assert done.returncode == 0, f"{shlex.join(command)}: {done.stdout}{done.stderr}"
        return done.stdout

    def apply_gang_rules(self) -> None:
        (self._folder / "gang").write_text("".join(f"{address}\n" for address in MEMBERS))
        self.run("bash", "-c", OPEN, "bash", str(BOOTSTRAP), str(self._folder))

    def counted(self, chain: str, target: str, address: str | None = None) -> int:
        """Packets that the rules of ``chain`` with this target (and this source or destination) took."""
        rules = [line.split() for line in self.run("iptables", "-vnxL", chain).splitlines()[2:]]
        return sum(int(rule[0]) for rule in rules if rule[2] == target and (address is None or address in rule))

    def ask(self, *places: str, trainer: bool) -> dict[str, str]:
        """What a connection to each place, ``address/port``, comes to: ``here``, or the error's name."""
        command = [sys.executable, "-c", ASK, *places]
        done = subprocess.run(self.as_trainer(*command) if trainer else self.command(*command), capture_output=True, text=True, check=True)
        return dict(zip(places, done.stdout.splitlines(), strict=True))

    def listen(self, *places: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(self.command(sys.executable, "-c", LISTEN, *places), stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "listening\n"
        return process


class Network:
    """Two members and the outside: their namespaces are there while this is entered, whatever happens in it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._processes: list[subprocess.Popen[str]] = []
        self.outside, self.first, self.second = (self._namespace(name) for name in ("outside", "first", "second"))

    def _namespace(self, name: str) -> Namespace:
        folder = self._folder / name
        folder.mkdir(parents=True)
        return Namespace(f"dropforge-{os.getpid()}-{name}", folder)

    @property
    def members(self) -> tuple[Namespace, Namespace]:
        return self.first, self.second

    def __enter__(self) -> "Network":
        try:
            self._build()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
        for each in (self.outside, *self.members):
            subprocess.run(["ip", "netns", "del", each.name], capture_output=True, check=False)

    def _build(self) -> None:
        for each in (self.outside, *self.members):
            subprocess.run(["ip", "netns", "add", each.name], check=True)
            each.run("ip", "link", "set", "lo", "up")
        self.outside.run("ip", "link", "add", "switch", "type", "bridge")
        for address in (f"{OUTSIDE}/24", f"{IMDS}/32"):
            self.outside.run("ip", "address", "add", address, "dev", "switch")
        self.outside.run("ip", "address", "add", f"{OUTSIDE_IPV6}/64", "dev", "switch", "nodad")
        self.outside.run("ip", "link", "set", "switch", "up")
        for at, member in enumerate(self.members):
            member.run("ip", "link", "add", "eth0", "type", "veth", "peer", f"port{at}", "netns", self.outside.name)
            self.outside.run("ip", "link", "set", f"port{at}", "master", "switch", "up")
            member.run("ip", "address", "add", f"{MEMBERS[at]}/24", "dev", "eth0")
            member.run("ip", "address", "add", f"{MEMBERS_IPV6[at]}/64", "dev", "eth0", "nodad")
            member.run("ip", "link", "set", "eth0", "up")
            member.run("ip", "route", "add", IMDS, "dev", "eth0")
            member.apply_gang_rules()

    def listen(self, host: Namespace, *places: str) -> None:
        """``host`` answers there until this is left."""
        self._processes.append(host.listen(*places))
