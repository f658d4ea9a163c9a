"""The launcher of each cloud, imported when that cloud is first used."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from headwater.infra.errors import HeadwaterError
from headwater.infra.launchers.base import Launcher, LaunchSettings
from headwater.infra.models import Cloud
from headwater.infra.profiles import ClusterProfile
from headwater.infra.storage.retries import threads


@dataclass(frozen=True, slots=True)
class NotReached:
    """A cloud that nothing can be asked of: no credentials, no SDK, no account named."""

    cloud: Cloud
    error: HeadwaterError


def open_launcher(
    profile: ClusterProfile, cloud: Cloud, *, regions: Sequence[str] = ()
) -> Launcher:
    """The launcher for ``cloud``, to be closed by the caller.

    Args:
        regions: Where it looks for what is there, of clouds that list by region (AWS); empty is
            everywhere.
    Raises:
        MissingDependency: The cloud's SDK is not installed; the hint says how to.
        AuthenticationFailed: There are no credentials.
        InvalidLaunch: The profile does not say which account.
    """
    settings = LaunchSettings.of(profile, cloud)
    match cloud:
        case Cloud.AWS:
            from headwater.infra.launchers.aws import AwsLauncher

            return AwsLauncher(settings, regions=regions)
        case Cloud.GCP:
            from headwater.infra.launchers.gcp import GcpLauncher

            return GcpLauncher(settings)
        case Cloud.AZURE:
            from headwater.infra.launchers.azure import AzureLauncher

            return AzureLauncher(settings)


@contextmanager
def reach(
    profile: ClusterProfile, clouds: Iterable[Cloud], *, regions: Sequence[str] = ()
) -> Iterator[tuple[tuple[Launcher, ...], tuple[NotReached, ...]]]:
    """The launchers of those ``clouds`` that can be asked, and why the others cannot."""

    def one(cloud: Cloud) -> Launcher | NotReached:
        try:
            return open_launcher(profile, cloud, regions=regions)
        except HeadwaterError as exc:
            return NotReached(cloud, exc)

    wanted = tuple(clouds)
    with ExitStack() as stack:
        with threads(max(1, len(wanted))) as pool:
            opened = list(pool.map(one, wanted))
        launchers = tuple(x for x in opened if not isinstance(x, NotReached))
        for launcher in launchers:
            stack.callback(launcher.close)
        yield launchers, tuple(x for x in opened if isinstance(x, NotReached))
