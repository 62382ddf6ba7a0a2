"""Which network interface the ranks speak over: said to gloo and NCCL, which would else choose one of their own."""

import fcntl
import os
import socket
import struct

from jobspec.runfile import RunFile

SIOCGIFADDR = 0x8915


def choose_network(run: RunFile) -> None:
    """Gloo and NCCL look for an interface of their own choice, by the host's name. Here: the one that leads to the leader, or the loopback alone."""
    names = [name for _, name in socket.if_nameindex()]
    if run.rendezvous is not None:
        own = _own_address(run.rendezvous.partition(":")[0])
        names = [name for name in names if _address_of(name) == own]
    chosen = "lo" if "lo" in names else names[0] if run.rendezvous is not None and names else None
    if chosen is not None:
        os.environ["GLOO_SOCKET_IFNAME"] = os.environ["NCCL_SOCKET_IFNAME"] = chosen


def _own_address(leader: str) -> str:
    """The address that this instance speaks to the leader from. A UDP socket that connects sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((leader, 9))
        return str(probe.getsockname()[0])


def _address_of(interface: str) -> str | None:
    """An interface's IPv4 address (netdevice(7), SIOCGIFADDR); None where it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            answer = fcntl.ioctl(asking, SIOCGIFADDR, struct.pack("256s", interface.encode()[:15]))
        except OSError:
            return None
    return socket.inet_ntoa(answer[20:24])
