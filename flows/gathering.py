"""What a run copies to one place before it reads it: looked at, priced, and done once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from headwater.infra.locations.locate import locate
from headwater.infra.locations.models import Location
from headwater.infra.locations.residency import require_resident
from headwater.infra.models import DataRef, Format, Gathered, JobRequest
from headwater.infra.planner.models import Copying, DataInput, Output
from headwater.infra.policies import Rules
from headwater.infra.profiles import DeclaredLocation
from headwater.infra.storage.gather import (
    Gathering,
    GatherPlan,
    plan_gather,
    require_gather_folder,
    run_gather,
)
from headwater.infra.storage.named import NO_COPIES
from headwater.infra.storage.transfer.run import OnProgress
from headwater.infra.storage.uris import Scheme, Uri
from headwater.tasks.prepare import addresses

READ_WHOLE = frozenset({Format.CSV, Format.JSONL})
"""Formats of which a scan reads every row; of the others it reads the end of each file."""


class Gatherer:
    """The copies of one run.

    Args:
        folder: Where the job's module is looked for first.
        on_copied: Called in the calling thread as bytes come.

    Attributes:
        plan: What is copied; ``None`` until it was looked at.
        copies: What can be read from copies by now.
    """

    def __init__(self, folder: Path, on_copied: OnProgress = lambda _: None) -> None:
        self.plan: GatherPlan | None = None
        self.copies = NO_COPIES
        self._folder = folder
        self._on_copied = on_copied
        self._gathered: dict[str, Gathered] = {}
        self._done: set[str] = set()

    @property
    def gathered(self) -> tuple[Gathered, ...]:
        """What was copied, as far as it came."""
        return tuple(self._gathered.values())

    @property
    def has_moved(self) -> bool:
        """Whether bytes were copied, which may be billed."""
        return any(one.copied_bytes for one in self.gathered)

    def look(self, requests: Sequence[JobRequest]) -> GatherPlan:
        """Decide what is copied for all tables of a run; nothing is written.

        Raises:
            HeadwaterError: The request is refused.
        """
        self.plan = gather_plan(requests, folder=self._folder)
        self.copies = self.plan.copies
        return self.plan

    def run(self, formats: frozenset[Format]) -> None:
        """Copy inputs of ``formats`` that were not copied by a call before; see ``run_gather``."""
        if self.plan is None:
            raise RuntimeError("look() has not been called")
        left = [one for one in self.plan.gatherings if one.address not in self._done]
        mine = tuple(one for one in left if one.named.format in formats)
        part = replace(self.plan, gatherings=mine)
        copies = run_gather(part, on_progress=self._on_copied, on_end=self._take)
        self.copies = replace(copies, at={**self.copies.at, **copies.at})
        self._done |= {one.address for one in mine}

    def _take(self, one: Gathered) -> None:
        self._gathered[one.source] = one


def gather_plan(requests: Sequence[JobRequest], *, folder: Path) -> GatherPlan:
    """What a run copies first, for its table and those that are made from it.

    Args:
        requests: Of all its tables; the first says where to gather, and what is read of the others
            beside their source are their side tables.
        folder: Where the job's module is looked for first.
    Raises:
        HeadwaterError: The request is refused.
    """
    first, *others = requests
    if first.gather is None:
        raise RuntimeError("the request gathers nothing")
    sources, sides = addresses(first, folder=folder)
    read = [*sources, *sides]
    for one in others:
        read += addresses(one, folder=folder)[1]
    into = require_gather_folder(first.gather, read, [one.target for one in requests])
    versions = {} if first.source_version is None else dict.fromkeys(sources, first.source_version)
    return plan_gather(read, into, versions=versions)


def require_copies_allowed(
    rules: Rules, plan: GatherPlan, declared: Sequence[DeclaredLocation]
) -> None:
    """Hold the folder to the rules on where the data that is copied to it may be.

    Raises:
        InvalidRequest: It is elsewhere; the data, the folder and the rule are named.
        UnknownLocation: A rule holds, and nobody says where the folder is.
    """
    copied = [ref.uri for one in plan.gatherings for ref in one.named.refs]
    into = {"folder to gather in": str(plan.folder)}
    require_resident(rules, copied, into, declared=declared)


def gathered_inputs(
    plan: GatherPlan, declared: Sequence[DeclaredLocation]
) -> tuple[tuple[DataInput, ...], tuple[Copying, ...]]:
    """Where each address of ``plan`` is read, and what is copied there before.

    Raises:
        UnknownLocation: Nobody says where a bucket is.
    """
    found, copies = data_inputs([one.refs for one in plan.named.values()], declared, plan)
    # The files of an address are in one bucket, so each is one input.
    named = [str(one.uri) for one in plan.named.values() if one.refs]
    return tuple(replace(one, uri=uri) for one, uri in zip(found, named, strict=True)), copies


def data_inputs(
    inputs: Iterable[Sequence[DataRef]],
    declared: Sequence[DeclaredLocation],
    plan: GatherPlan | None = None,
) -> tuple[tuple[DataInput, ...], tuple[Copying, ...]]:
    """Where files are read, by the bucket that they are in, and what is copied there before.

    Each goes by the address that it had before it was copied: that is what rules are about.

    Raises:
        UnknownLocation: Nobody says where a bucket is.
    """
    copied: dict[DataRef, Location] = {}
    copies: tuple[Copying, ...] = ()
    if plan is not None and plan.gatherings:
        (into,) = locate([str(plan.folder)], declared=declared, missing_ok=True, measure=False)
        copied = {ref: into for one in plan.gatherings for ref in one.named.refs}
        copies = _copies(plan.gatherings, into, declared)
    found = []
    for refs in inputs:
        for together in _by_bucket(refs, copied).values():
            first = together[0]
            place = copied.get(first) or _place(first.uri, declared)
            size = sum(ref.size_bytes for ref in together)
            found.append(DataInput(first.uri, place.cloud, place.regions, size, len(together)))
    return tuple(found), copies


Bucket = tuple[Scheme, str, str]


def _by_bucket(
    refs: Sequence[DataRef], copied: Mapping[DataRef, Location]
) -> dict[tuple[Bucket, bool], list[DataRef]]:
    buckets: dict[tuple[Bucket, bool], list[DataRef]] = {}
    for ref in refs:
        buckets.setdefault((_bucket(Uri.parse(ref.uri)), ref in copied), []).append(ref)
    return buckets


def _copies(
    gatherings: Sequence[Gathering], into: Location, declared: Sequence[DeclaredLocation]
) -> tuple[Copying, ...]:
    buckets: dict[tuple[Bucket, bool], list[Gathering]] = {}
    for one in gatherings:
        if one.transfer.copies:
            key = (_bucket(one.named.uri), one.transfer.inside)
            buckets.setdefault(key, []).append(one)
    target = Output(into.uri, into.cloud, into.regions)
    found = []
    for (_, by_store), together in buckets.items():
        place = _place(str(together[0].named.uri), declared)
        size = sum(one.transfer.size_bytes for one in together)
        objects = sum(one.transfer.objects for one in together)
        source = DataInput(place.uri, place.cloud, place.regions, size, objects)
        found.append(Copying(source, target, by_store and place.cloud is not None))
    return tuple(found)


def _bucket(uri: Uri) -> Bucket:
    return uri.scheme, uri.bucket, uri.account


def _place(uri: str, declared: Sequence[DeclaredLocation]) -> Location:
    (place,) = locate([uri], declared=declared, measure=False)
    return place
