"""New tables of prices from the clouds' own lists, for the user."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path

from headwater.infra.catalog.checks import check_market, check_offers, named
from headwater.infra.catalog.files import packaged_areas, write_offers
from headwater.infra.catalog.sources.base import PriceSource
from headwater.infra.errors import PriceListFailed, StorageError
from headwater.infra.models import Cloud

NAMED = 3
"""Findings that an error tells."""


@dataclass(frozen=True, slots=True)
class Refreshed:
    """A table that a refresh wrote.

    Attributes:
        skipped: Prices that the source has and the table does not.
    """

    cloud: Cloud
    source: str
    path: Path
    offers: int
    skipped: int
    as_of: date


def refresh(source: PriceSource, cloud: Cloud, folder: Path, *, today: date) -> Refreshed:
    """Read the prices of ``cloud`` from ``source``, and put their table into ``folder``.

    The table that was there stays until the new one is whole, and where it cannot be true.

    Raises:
        PriceListFailed: The source could not be read whole, or says what cannot be true.
        AccessDenied: It wants credentials that are not there.
        MissingDependency: A package that it needs is not installed.
        StorageError: The table cannot be written.
    """
    fetched = source.fetch(cloud, today=today)
    kept = "the table that was there is as it was"
    if not fetched.offers:
        raise PriceListFailed(f"{source.name} has no prices of {cloud}", hint=kept)
    findings = check_offers(fetched.offers, packaged_areas(), today=today)
    if findings:
        more = f" and {len(findings) - NAMED} more" if len(findings) > NAMED else ""
        raise PriceListFailed(
            f"{source.name} says of {cloud} what cannot be true: "
            + "; ".join(str(finding) for finding in findings[:NAMED])
            + more,
            hint=kept,
        )
    # Spot rises above the price on demand for hours at a time; nobody buys it then.
    above = {finding.row for finding in check_market(fetched.offers)}
    offers = [o for o in fetched.offers if named(o) not in above]
    path = folder / f"offers-{cloud}.csv"
    try:
        write_offers(path, offers)
    except OSError as exc:
        raise StorageError(
            f"{path} cannot be written: {exc.strerror}",
            hint=f"free some room, or let {folder} be written to; {kept}",
        ) from exc
    return Refreshed(
        cloud=cloud,
        source=source.name,
        path=path,
        offers=len(offers),
        skipped=fetched.skipped + len(fetched.offers) - len(offers),
        as_of=today,
    )
