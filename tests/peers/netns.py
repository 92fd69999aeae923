"""Network namespaces of a test's own: hosts on one switch, whose cables can be cut so that nothing is refused, only lost.

Needs root (or CAP_SYS_ADMIN and CAP_NET_ADMIN) and Debian's iproute2. Nothing outside the namespaces is touched.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


@contextlib.contextmanager
def inside(name: str) -> Iterator[None]:
    """This thread, and the processes it starts, live in the namespace for the length of the block."""
    with Path("/proc/thread-self/ns/net").open() as home, Path(f"/run/netns/{name}").open() as there:
        _enter(there.fileno())
        try:
            yield
        finally:
            _enter(home.fileno())


def _enter(descriptor: int) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def ip(*arguments: str, within: str = "") -> None:
    """One command of iproute2, in a namespace when named."""
    where = ["-n", within] if within else []
    subprocess.run(["ip", *where, *arguments], check=True, capture_output=True, text=True, timeout=30)


class Host:
    """One namespace with an address on the switch. Its neighbours' link addresses are fixed: no ARP gives a cut away."""

    def __init__(self, network: Network, number: int) -> None:
        self.name = f"{network.name}h{number}"
        self.address = f"10.77.0.{number}"
        self.link_address = f"02:00:0a:4d:00:{number:02x}"
        self._switch = network.switch
        self._port = f"p{number}"

    def plug_in(self) -> None:
        ip("netns", "add", self.name)
        ip("link", "add", self._port, "type", "veth", "peer", "name", "eth0", "netns", self.name, within=self._switch)
        ip("link", "set", "lo", "up", within=self.name)
        ip("link", "set", "eth0", "address", self.link_address, within=self.name)
        ip("address", "add", f"{self.address}/24", "dev", "eth0", within=self.name)
        ip("link", "set", self._port, "up", within=self._switch)
        self.heal()

    def knows(self, other: Host) -> None:
        known = ("neigh", "replace", other.address, "lladdr", other.link_address, "dev", "eth0", "nud", "permanent")
        ip(*known, within=self.name)

    def cut(self, *, silently: bool) -> None:
        """Silently: the far end of the cable lies on the floor, and every packet is lost. Or else our own end is down: every
        new connection is refused at once by this host itself.
        """
        if silently:
            ip("link", "set", self._port, "nomaster", within=self._switch)
        else:
            ip("link", "set", "eth0", "down", within=self.name)

    def heal(self) -> None:
        ip("link", "set", self._port, "master", "switch", within=self._switch)
        ip("link", "set", "eth0", "up", within=self.name)

    def inside(self) -> contextlib.AbstractContextManager[None]:
        return inside(self.name)


class Network:
    """A switch, and the hosts on it."""

    def __init__(self) -> None:
        self.name = f"cc{os.getpid()}"
        self.switch = f"{self.name}sw"
        self.hosts: list[Host] = []

    def add_host(self) -> Host:
        made = Host(self, len(self.hosts) + 1)
        self.hosts.append(made)
        made.plug_in()
        self.introduce()
        return made

    def introduce(self) -> None:
        """Everybody knows everybody's link address; taking a link down forgets them."""
        for one in self.hosts:
            for other in self.hosts:
                if one is not other:
                    one.knows(other)


@contextlib.contextmanager
def network() -> Iterator[Network]:
    """A network for the length of the block."""
    made = Network()
    try:
        ip("netns", "add", made.switch)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"network namespaces of our own need root and iproute2: {getattr(error, 'stderr', error)}")
    try:
        ip("link", "add", "switch", "type", "bridge", within=made.switch)
        ip("link", "set", "switch", "up", within=made.switch)
        yield made
    finally:
        for name in [*(host.name for host in made.hosts), made.switch]:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True, timeout=30)
