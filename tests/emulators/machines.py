"""The seam between an emulated cloud and the hypervisor that runs its machines."""

from __future__ import annotations

import ipaddress
import random
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, Protocol

from tests.emulators.script import Script

Cloud = Literal["aws", "gcp", "azure"]

LOCK_PORT = 20_047
"""Held on the network's last address for as long as the network is used."""
TRIES = 200


@dataclass(frozen=True, slots=True)
class Machine:
    """An instance that is switched on.

    Attributes:
        id: By which its cloud knows it.
        address: Its own address on loopback.
        kind: The cloud's word for its type: ``g4dn.xlarge``.
        user_data: As the machine itself reads it, decoded.
        account: The project or subscription it belongs to.
        group: The resource group, on Azure.
    """

    cloud: Cloud
    id: str
    name: str
    address: str
    region: str
    zone: str
    kind: str
    user_data: str
    spot: bool
    account: str = ""
    group: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    attributes: Mapping[str, str] = field(default_factory=dict)


class EmulatedCloud(Protocol):
    """What the hypervisor asks of a cloud."""

    script: Script

    def machines(self) -> Mapping[str, Machine]:
        """The instances that are switched on, by id."""
        ...

    def powered_off(self, machine_id: str) -> None:
        """Take note that an instance has switched itself off."""
        ...

    def reclaim(self, machine_id: str) -> None:
        """Take a spot instance back, now."""
        ...


@contextmanager
def loopback_network() -> Iterator[ipaddress.IPv4Network]:
    """A /16 of loopback addresses that no other emulator on this machine uses meanwhile.

    Every address of 127.0.0.0/8 is there on Linux without setting anything up.

    Raises:
        RuntimeError: None is free.
    """
    for _ in range(TRIES):
        second = random.randint(64, 250)
        lock = socket.socket()
        try:
            lock.bind((f"127.{second}.255.254", LOCK_PORT))
        except OSError:
            lock.close()
            continue
        with lock:
            yield ipaddress.IPv4Network(f"127.{second}.0.0/16")
        return
    raise RuntimeError(f"no free loopback network after {TRIES} tries")


class Addresses:
    """Hands out the addresses of one subnet, and takes them back.

    A freed address waits until all others were used, as a connection to its last owner may linger.
    """

    def __init__(self, subnet: ipaddress.IPv4Network) -> None:
        self.subnet = subnet
        self._free = [str(address) for address in list(subnet.hosts())[3:]]

    def take(self) -> str:
        """The next free one."""
        return self._free.pop(0)

    def give(self, address: str) -> None:
        """Take one back; what is none of ours is left alone."""
        if ipaddress.ip_address(address) in self.subnet and address not in self._free:
            self._free.append(address)
