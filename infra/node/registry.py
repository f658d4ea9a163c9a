"""The platform of each cloud, of which a node loads its own alone."""

from __future__ import annotations

from collections.abc import Callable

from headwater.infra.models import Cloud
from headwater.infra.node.platform import Platform


def platform_of(cloud: Cloud) -> Platform:
    """The cloud that a node runs in, as it sees it."""
    makers: dict[Cloud, Callable[[], Platform]] = {
        Cloud.AWS: _aws,
        Cloud.GCP: _gcp,
        Cloud.AZURE: _azure,
    }
    return makers[cloud]()


def _aws() -> Platform:
    from headwater.infra.node.aws import Aws

    return Aws()


def _gcp() -> Platform:
    from headwater.infra.node.gcp import Gcp

    return Gcp()


def _azure() -> Platform:
    from headwater.infra.node.azure import Azure

    return Azure()
