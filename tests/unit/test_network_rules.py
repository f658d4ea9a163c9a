"""Which rules of a network let the whole world reach a scheduler."""

from __future__ import annotations

from typing import Any

import pytest

from headwater.infra.errors import OpenNetwork
from headwater.infra.launchers.aws import security_rules as of_aws
from headwater.infra.launchers.azure import security_rules as of_azure
from headwater.infra.launchers.gcp import firewall_rules as of_gcp
from headwater.infra.launchers.network import IngressRule, openings, require_closed

WORLD = ("0.0.0.0/0",)
BOTH = (8786, 8787)


def rule(
    sources: tuple[str, ...] = WORLD,
    protocol: str = "tcp",
    ports: tuple[tuple[int, int], ...] = ((8786, 8787),),
    **changes: Any,
) -> IngressRule:
    return IngressRule("group", changes.pop("name", "rule"), sources, protocol, ports, **changes)


@pytest.mark.parametrize(
    ("one", "ports"),
    [
        (rule(), BOTH),
        (rule(ports=((8786, 8786),)), (8786,)),
        (rule(ports=((8787, 8787),)), (8787,)),
        (rule(ports=((0, 65535),)), BOTH),
        (rule(ports=((22, 22), (8787, 9000))), (8787,)),
        (rule(ports=()), BOTH),
        (rule(protocol="-1", ports=()), BOTH),
        (rule(protocol="all", ports=()), BOTH),
        (rule(protocol="*"), BOTH),
        (rule(protocol="6"), BOTH),
        (rule(protocol="TCP"), BOTH),
        (rule(("::/0",)), BOTH),
        (rule(("10.0.0.0/8", "0.0.0.0/0")), BOTH),
        (rule(("*",)), BOTH),
        (rule(("Internet",)), BOTH),
        (rule(("Any",)), BOTH),
        (rule(("0.0.0.0/1",)), BOTH),
        (rule(("2000::/3",)), BOTH),
    ],
)
def test_what_lets_the_world_in(one: IngressRule, ports: tuple[int, ...]) -> None:
    assert [(found.rule, found.ports) for found in openings([one])] == [(one, ports)]


@pytest.mark.parametrize(
    "one",
    [
        rule(ports=((22, 22),)),
        rule(ports=((8788, 65535),)),
        rule(protocol="udp"),
        rule(protocol="icmp", ports=()),
        rule(("10.0.0.0/8",)),
        rule(("203.0.113.7/32",)),
        rule(("fc00::/7",)),
        rule(("fd00::/8",)),
        rule(("sg-1234",)),
        rule(("VirtualNetwork",)),
        rule(()),
        rule(allows=False),
    ],
)
def test_what_does_not(one: IngressRule) -> None:
    assert openings([one]) == ()


def test_a_rule_of_higher_rank_that_keeps_out_hides_one_that_lets_in() -> None:
    shut = rule(allows=False, priority=100, name="shut")

    assert openings([rule(priority=200), shut]) == ()
    assert openings([rule(priority=100), shut]) == ()
    assert len(openings([rule(priority=50), shut])) == 1
    # It keeps out one port, or one version of IP, and the other stays open.
    narrow = rule(ports=((8786, 8786),), allows=False, priority=100, name="narrow")
    assert [one.ports for one in openings([rule(priority=200), narrow])] == [(8787,)]
    assert [one.ports for one in openings([rule(("::/0",), priority=200), shut])] == [BOTH]


def test_an_open_network_is_refused_by_the_name_of_its_rule() -> None:
    wide = rule(ports=((8000, 9000),), name="rule 'all'", close="close it")

    with pytest.raises(OpenNetwork) as error:
        require_closed([wide, rule(("10.0.0.0/8",))], "the network of cluster profile 'mine'")

    assert "rule 'all' of group (tcp 8000-9000 from 0.0.0.0/0) opens 8786 (the scheduler) and" in (
        error.value.message
    )
    assert error.value.hint.endswith("\n       close it")
    require_closed([rule(("10.0.0.0/8",))], "it")


# --- each cloud's own form ------------------------------------------------------------------------


def test_security_groups_of_aws() -> None:
    group = {
        "GroupId": "sg-1",
        "IpPermissions": [
            {
                "IpProtocol": "tcp",
                "FromPort": 8000,
                "ToPort": 9000,
                "IpRanges": [{"CidrIp": "10.0.0.0/8"}, {"CidrIp": "0.0.0.0/0"}],
                "Ipv6Ranges": [{"CidrIpv6": "::/0"}],
            },
            {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": "sg-1"}]},
            {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]},
        ],
    }

    found = openings(of_aws(group, "eu-west-1"))

    assert [one.rule.sources for one in found] == [
        ("0.0.0.0/0",), ("0.0.0.0/0",), ("::/0",),
    ]  # fmt: skip
    assert found[0].rule.close == (
        "aws ec2 revoke-security-group-ingress --region eu-west-1 --group-id sg-1 --ip-permissions"
        " 'IpProtocol=tcp,FromPort=8000,ToPort=9000,IpRanges=[{CidrIp=0.0.0.0/0}]'"
    )
    assert "'IpProtocol=-1,IpRanges=[{CidrIp=0.0.0.0/0}]'" in found[1].rule.close


@pytest.mark.parametrize(
    ("changes", "opens"),
    [
        ({}, 1),
        ({"source_ranges": []}, 1),  # without any source Google lets everybody in
        ({"source_ranges": [], "source_tags": ["nodes"]}, 0),
        ({"disabled": True}, 0),
        ({"direction": "EGRESS"}, 0),
        ({"target_tags": ["nodes"]}, 1),
        ({"target_tags": ["web"]}, 0),
        ({"target_service_accounts": ["node@p"]}, 1),
        ({"target_service_accounts": ["web@p"]}, 0),
        ({"allowed": [{"I_p_protocol": "tcp", "ports": ["22", "8000-8786"]}]}, 1),
        ({"allowed": [{"I_p_protocol": "all"}]}, 1),
        ({"allowed": [], "denied": [{"I_p_protocol": "all"}]}, 0),
    ],
)
def test_firewalls_of_gcp(changes: dict[str, Any], opens: int) -> None:
    firewall = {
        "name": "wide",
        "network": "https://x/projects/p/global/networks/net",
        "direction": "INGRESS",
        "priority": 1000,
        "source_ranges": ["0.0.0.0/0"],
        "allowed": [{"I_p_protocol": "tcp", "ports": ["8786-8787"]}],
        **changes,
    }

    found = openings(of_gcp(firewall, "p", {"nodes"}, "node@p"))

    assert len(found) == opens
    for one in found:
        assert "firewall rule wide of network net" in one.rule.said
        assert one.rule.close == "gcloud compute firewall-rules update wide --disabled --project p"


@pytest.mark.parametrize(
    ("changes", "opens"),
    [
        ({}, 1),
        ({"direction": "Outbound"}, 0),
        ({"access": "Deny"}, 0),
        ({"protocol": "Udp"}, 0),
        ({"sourceAddressPrefix": "VirtualNetwork"}, 0),
        ({"sourceAddressPrefix": "", "sourceAddressPrefixes": ["10.0.0.0/8", "0.0.0.0/0"]}, 1),
        ({"destinationPortRange": "", "destinationPortRanges": ["22", "8786"]}, 1),
        ({"destinationPortRange": "22"}, 0),
    ],
)
def test_security_groups_of_azure(changes: dict[str, Any], opens: int) -> None:
    said = {
        "direction": "Inbound",
        "access": "Allow",
        "protocol": "*",
        "priority": 100,
        "sourceAddressPrefix": "Internet",
        "destinationPortRange": "*",
        **changes,
    }

    found = openings(of_azure({"name": "wide", "properties": said}, "rg", "nsg"))

    assert len(found) == opens
    for one in found:
        assert one.rule.close == (
            "az network nsg rule delete --resource-group rg --nsg-name nsg --name wide"
        )
