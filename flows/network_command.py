"""`headwater network check`: whether a profile's networks let the whole world in."""

from __future__ import annotations

import sys

from headwater.flows.console import EXIT_REFUSED, Console
from headwater.infra.errors import InvalidRequest
from headwater.infra.launchers.base import Launcher, LaunchSettings
from headwater.infra.launchers.network import PORTS, Opening, openings, ports_said
from headwater.infra.launchers.registry import reach
from headwater.infra.models import Cloud, Status
from headwater.infra.profiles import ClusterProfile, load_profile


def check_networks(
    profile_name: str, clouds: tuple[Cloud, ...], region: str, console: Console
) -> None:
    """Print what each cloud's network of a profile opens; exit 2 where one opens anything.

    Args:
        clouds: Those named; empty is all for which the profile names a network.
        region: Look there alone; empty is wherever the names of the profile are found.
    Raises:
        InvalidRequest: The profile names no network.
    """
    profile = load_profile(profile_name)
    wanted = clouds or _with_network(profile)
    if not wanted:
        raise InvalidRequest(
            f"cluster profile '{profile.name}' names no network",
            hint="give names under [network.aws], [network.gcp] or [network.azure]",
        )
    checks: list[dict[str, object]] = []
    lines: list[str] = []
    faults: list[str] = []
    with reach(profile, wanted, regions=(region,) if region else ()) as (launchers, skipped):
        for one in skipped:
            raise one.error
        for launcher in launchers:
            rules, found = _of_cloud(launcher, region)
            checks.append(
                {
                    "cloud": launcher.cloud,
                    "rules": rules,
                    "openings": [_as_json(opening) for opening in found],
                }
            )
            if not found:
                said = "1 rule" if rules == 1 else f"{rules} rules"
                lines.append(f"{launcher.cloud}: {said}, none opens {ports_said(tuple(PORTS))}")
            faults += [
                f"{launcher.cloud}: {opening.rule.said} opens {ports_said(opening.ports)} to the"
                f" whole world\n  -> {opening.rule.close}"
                for opening in found
            ]
    value: dict[str, object] = {"status": Status.REFUSED} if faults else {}
    if lines or console.json:
        console.result({**value, "networks": checks}, "\n".join(lines))
    for fault in faults:
        console.say(f"error: {fault}")
    if faults:
        sys.exit(EXIT_REFUSED)


def _of_cloud(launcher: Launcher, region: str) -> tuple[int, tuple[Opening, ...]]:
    rules = launcher.ingress_rules(region)
    return len(rules), openings(rules)


def _with_network(profile: ClusterProfile) -> tuple[Cloud, ...]:
    """The clouds of which the profile names a network; a project alone is none."""
    keys = {Cloud.AWS: "security_groups", Cloud.GCP: "network", Cloud.AZURE: "virtual_network"}
    return tuple(
        cloud for cloud, key in keys.items() if LaunchSettings.of(profile, cloud).named(key)
    )


def _as_json(opening: Opening) -> dict[str, object]:
    rule = opening.rule
    return {
        "group": rule.group,
        "rule": rule.name,
        "sources": list(rule.sources),
        "protocol": rule.protocol,
        "ports": list(opening.ports),
        "close": rule.close,
    }
