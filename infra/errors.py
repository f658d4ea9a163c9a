"""What can go wrong, as types with fields: what happened, what was allowed, the next act.

    HeadwaterError
    ├── InvalidRequest        the request itself is wrong
    │   ├── InvalidUri        no such scheme, or a malformed address
    │   ├── UnknownName       a profile, module, function, column or option that does not exist
    │   ├── PriceUnknown      no price is recorded for what would be bought
    │   ├── Overlap           a source lies in the target, or the target in a source
    │   └── ScopeViolation    a job looks across rows, but its scope is one row at a time
    ├── StorageError          the bytes
    │   ├── NotFound          no such object, bucket or table
    │   ├── AccessDenied      no credentials, or not allowed
    │   ├── UnknownLocation   nobody says in which region a bucket is
    │   ├── StoreUnavailable  the store did not answer, or answered "later"
    │   ├── SourceChanged     an input is no longer the version that was pinned
    │   ├── TargetExists      something else is where an object should go
    │   └── DamagedCopy       a store does not hold the bytes that were sent to it
    ├── DataError             what the bytes say
    │   ├── DamagedFile       not readable as the format it claims to be
    │   ├── UnsupportedData   readable, but not exactly representable; refused by name
    │   ├── ValueLost         a step would change or lose values, and was told not to
    │   └── SchemaMismatch    columns or types differ
    ├── RunError              while a run was under way
    │   ├── PartFailed        one part could not be finished
    │   ├── WorkerLost        a part's worker died, again and again
    │   ├── MemoryExhausted   the parts in this process would have taken all memory
    │   └── CommitConflict    other writers kept winning
    ├── LaunchError           a cloud did not give a machine, or not take one back
    │   ├── NoCapacity        nothing of this type is free in this place
    │   ├── QuotaExceeded     this account may not have so many in this region
    │   ├── AuthenticationFailed  no credentials, expired ones, or not the right ones
    │   ├── InvalidLaunch     what was asked for cannot be launched anywhere
    │   ├── OpenNetwork       a rule of the network lets the whole world in
    │   ├── Throttled         the cloud asked to slow down for longer than is waited
    │   ├── CloudUnavailable  the cloud did not answer, or failed itself
    │   └── LeftBehind        what was started could not be removed, and costs money
    ├── PriceListFailed       a cloud's prices could not be read whole
    └── MissingDependency     a package or device that the request needs is not there

Every error survives ``pickle``: it crosses from worker to driver.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import ClassVar, Literal

Retry = Literal["never", "elsewhere", "later"]

NEAR_NAMES = 3
"""How many similar names an error suggests."""


class HeadwaterError(Exception):
    """Base of all errors that Headwater raises on purpose.

    Args:
        message: What happened, with the values.
        hint: The next act, as an imperative; empty when the message already says it.

    Attributes:
        store_retries: Calls to stores that were made again before it happened, where counted.
    """

    retry: ClassVar[Retry] = "never"
    store_retries: int = 0

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    @property
    def message(self) -> str:
        """What happened, without the hint."""
        return str(self.args[0]) if self.args else ""

    def __str__(self) -> str:
        return f"{self.message}\n  -> {self.hint}" if self.hint else self.message


class InvalidRequest(HeadwaterError):
    """The request itself is wrong; nothing was started."""


class InvalidUri(InvalidRequest):
    """An address with an unknown scheme or a malformed part."""


class UnknownName(InvalidRequest):
    """A name that does not exist; the message lists the near or the known ones."""

    @classmethod
    def of(
        cls, kind: str, name: str, known: Iterable[str], *, where: str = "", hint: str = ""
    ) -> UnknownName:
        """An error that says which ``kind`` of ``name`` is unknown and lists the near ones.

        Example:
            >>> print(UnknownName.of("column", "dep_tme", ["dep_time", "arr_time", "origin"]))
            no column 'dep_tme'
              -> did you mean 'dep_time'?
        """
        names = sorted(set(known))
        near = difflib.get_close_matches(name, names, n=NEAR_NAMES, cutoff=0.6)
        place = f" in {where}" if where else ""
        if near:
            said = "did you mean " + ", ".join(f"'{n}'" for n in near) + "?"
        elif names:
            more = f" and {len(names) - 20} more" if len(names) > 20 else ""
            said = f"known: {', '.join(names[:20])}{more}"
        else:
            said = ""
        return cls(f"no {kind} '{name}'{place}", hint="; ".join(x for x in (said, hint) if x))


class PriceUnknown(InvalidRequest):
    """No price is recorded for a route, a request or a machine; nothing is guessed instead."""


class Overlap(InvalidRequest):
    """A source lies inside the target, or the target inside a source."""


class ScopeViolation(InvalidRequest):
    """A job of scope ``rows`` looks across rows, so its result would depend on the cut."""


class StorageError(HeadwaterError):
    """Something about the bytes and the store that holds them."""


class NotFound(StorageError):
    """No such object, bucket, folder or table."""


class AccessDenied(StorageError):
    """No credentials were found, or they do not allow the call."""


class UnknownLocation(StorageError):
    """Nobody says in which region a bucket is, and nothing is guessed."""


class StoreUnavailable(StorageError):
    """The store did not answer, or asked to come back later."""

    retry: ClassVar[Retry] = "later"


class SourceChanged(StorageError):
    """An input is no longer the version that was pinned when the run began."""


class TargetExists(StorageError):
    """Something else is where an object should go, and may not be replaced."""


class DamagedCopy(StorageError):
    """A store does not hold the bytes that were sent to it; the copy was removed."""

    retry: ClassVar[Retry] = "later"


class DataError(HeadwaterError):
    """Something about what the bytes say."""


class DamagedFile(DataError):
    """A file that cannot be read as the format it claims to be."""


class UnsupportedData(DataError):
    """Data that could not be kept exactly, so it is refused by name."""


class ValueLost(DataError):
    """A step would lose values, or multiply rows, and was told to refuse that."""


class SchemaMismatch(DataError):
    """Columns or types differ where they must agree."""


class RunError(HeadwaterError):
    """Something went wrong while a run was under way; no version was committed."""


class PartFailed(RunError):
    """One part could not be finished."""


class WorkerLost(RunError):
    """The worker of one part died more often than is tried."""


class MemoryExhausted(RunError):
    """Parts that run in this process took as much memory as it may have."""


class CommitConflict(RunError):
    """Other writers kept winning the race for the next version."""


class LaunchError(HeadwaterError):
    """A cloud did not give a machine, or did not take one back."""


class NoCapacity(LaunchError):
    """Nothing of this type is free in this place; the next zone or market may have some."""

    retry: ClassVar[Retry] = "elsewhere"


class QuotaExceeded(LaunchError):
    """This account may not have so many in this region; another region has a quota of its own."""

    retry: ClassVar[Retry] = "elsewhere"


class AuthenticationFailed(LaunchError):
    """No credentials were found, they have expired, or they do not allow the call."""


class InvalidLaunch(LaunchError):
    """What was asked for cannot be launched: no other place or time would help."""


class OpenNetwork(InvalidLaunch):
    """A rule of the network lets the whole world reach the scheduler or its dashboard."""


class Throttled(LaunchError):
    """The cloud asked to slow down for longer than is waited."""

    retry: ClassVar[Retry] = "later"


class CloudUnavailable(LaunchError):
    """The cloud did not answer in time, or failed itself."""

    retry: ClassVar[Retry] = "later"


class LeftBehind(LaunchError):
    """What was started could not be removed, and costs money until it is."""

    retry: ClassVar[Retry] = "later"


class PriceListFailed(HeadwaterError):
    """A cloud's prices could not be read whole; the tables are as they were."""

    retry: ClassVar[Retry] = "later"


class MissingDependency(HeadwaterError):
    """A package or a device that the request needs is not there."""


def first_line(exc: BaseException) -> str:
    """The first line of what ``exc`` says, or its type's name where it says nothing.

    Examples:
        >>> first_line(ValueError("it broke")), first_line(KeyError())
        ('it broke', 'KeyError')
    """
    return (str(exc).strip() or type(exc).__name__).splitlines()[0]
