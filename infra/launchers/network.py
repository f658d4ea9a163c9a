"""Whether a network lets the whole world reach a scheduler, as one question for three clouds. Pure.

Whoever reaches a scheduler's port and has a certificate may run any code on its workers; whoever
reaches the dashboard's sees what runs. Nodes have no public address, but a rule outlives that.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from headwater.infra.errors import OpenNetwork

SCHEDULER_PORT = 8786
DASHBOARD_PORT = 8787
PORTS = {SCHEDULER_PORT: "the scheduler", DASHBOARD_PORT: "the dashboard"}
"""What must not be reached from everywhere."""

ANYWHERE = frozenset({"*", "any", "internet", "all"})
"""Words with which clouds say so."""

TCP = frozenset({"tcp", "6", "-1", "all", "*", "any"})
"""Protocols that hold TCP, as the three clouds spell them."""

WIDEST_PREFIX = {4: 8, 6: 16}
"""A shorter prefix holds addresses of strangers: half of the world is the world."""

LOCAL_6 = ipaddress.IPv6Network("fc00::/7")
"""All local addresses of IPv6: wide, and nobody's outside."""

MAX_PORT = 65535


@dataclass(frozen=True, slots=True)
class IngressRule:
    """One rule of a security group, a firewall or a network security group, for what comes in.

    Attributes:
        group: Id or name of what holds the rule.
        sources: Networks in CIDR form, or a word of ``ANYWHERE``; others are of no interest.
        ports: First and last port of each range; none are all ports.
        priority: Lower ones decide first; of AWS, where all rules hold together, 0.
        allows: Whether it lets in or keeps out.
        close: The command of the cloud's own tool that takes the rule away.
    """

    group: str
    name: str
    sources: tuple[str, ...]
    protocol: str
    ports: tuple[tuple[int, int], ...] = ()
    priority: int = 0
    allows: bool = True
    close: str = ""

    @property
    def said(self) -> str:
        """The rule in few words."""
        spans = ", ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in self.ports)
        who = ", ".join(s for s in self.sources if _families(s))
        return f"{self.name} of {self.group} ({self.protocol} {spans or 'all ports'} from {who})"


@dataclass(frozen=True, slots=True)
class Opening:
    """A rule that opens some of ``PORTS`` to the world."""

    rule: IngressRule
    ports: tuple[int, ...]


def openings(rules: Iterable[IngressRule]) -> tuple[Opening, ...]:
    """The rules that let everybody reach a port of ``PORTS``, with what they open.

    A rule that keeps everybody out hides those of lower rank. At the same rank it decides too, as
    in all clouds that have ranks.

    Example:
        >>> rule = IngressRule("sg-1", "sgr-1", ("0.0.0.0/0",), "tcp", ((8000, 9000),))
        >>> [one.ports for one in openings([rule])]
        [(8786, 8787)]
        >>> openings([IngressRule("sg-1", "sgr-1", ("10.0.0.0/8",), "tcp")])
        ()
    """
    ranked = sorted(rules, key=lambda rule: (rule.priority, rule.allows))
    opened: dict[IngressRule, list[int]] = {}
    for port in PORTS:
        for family in (4, 6):
            for rule in ranked:
                if not _matches(rule, port, family):
                    continue
                if not rule.allows:
                    break
                if port not in opened.setdefault(rule, []):
                    opened[rule].append(port)
    return tuple(Opening(rule, tuple(ports)) for rule, ports in opened.items())


def require_closed(rules: Iterable[IngressRule], where: str) -> None:
    """Refuse a network that lets the world in.

    Args:
        where: What messages call the network.
    Raises:
        OpenNetwork: The message names each rule and what it opens, the hint how to close it.
    """
    found = openings(rules)
    if not found:
        return
    said = "; ".join(f"{one.rule.said} opens {ports_said(one.ports)}" for one in found)
    commands = "".join(f"\n       {one.rule.close}" for one in found)
    raise OpenNetwork(
        f"{where} lets the whole world in: {said}",
        hint=f"let the workers' own network in alone, and take away what opens it:{commands}",
    )


def ports_said(ports: Sequence[int]) -> str:
    """``ports`` as a person reads them.

    Example:
        >>> ports_said((8786, 8787))
        '8786 (the scheduler) and 8787 (the dashboard)'
    """
    return " and ".join(f"{port} ({PORTS[port]})" for port in ports)


def port_range(text: str) -> tuple[int, int]:
    """The first and last port of ``8786``, ``8000-9000`` or ``*``.

    Example:
        >>> port_range("8786"), port_range("8000-9000"), port_range("*")
        ((8786, 8786), (8000, 9000), (0, 65535))
    """
    if text in ("*", ""):
        return 0, MAX_PORT
    first, _, last = text.partition("-")
    return int(first), int(last or first)


def _matches(rule: IngressRule, port: int, family: int) -> bool:
    return (
        rule.protocol.lower() in TCP
        and any(family in _families(source) for source in rule.sources)
        and (not rule.ports or any(first <= port <= last for first, last in rule.ports))
    )


def _families(source: str) -> frozenset[int]:
    """Versions of IP in which ``source`` is the world."""
    if source.lower() in ANYWHERE:
        return frozenset({4, 6})
    try:
        network = ipaddress.ip_network(source, strict=False)
    except ValueError:  # a group, a tag of a service: not the world
        return frozenset()
    is_local = isinstance(network, ipaddress.IPv6Network) and network.subnet_of(LOCAL_6)
    is_wide = network.prefixlen < WIDEST_PREFIX[network.version] and not is_local
    return frozenset({network.version} if is_wide else ())
