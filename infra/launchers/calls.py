"""One way to call a cloud: its SDK's errors become ours, and what may work later is tried later."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from headwater.infra.errors import (
    AuthenticationFailed,
    CloudUnavailable,
    InvalidLaunch,
    LaunchError,
    NoCapacity,
    QuotaExceeded,
    Throttled,
)
from headwater.infra.launchers.base import LaunchSettings, NodeSpec
from headwater.infra.launchers.codes import Kind, kind_of
from headwater.infra.models import Cloud

Result = TypeVar("Result")

LATER = frozenset({Kind.THROTTLED, Kind.UNAVAILABLE})
"""What is tried again by itself."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long one call is tried for.

    Attributes:
        seconds: From the first try to the last.
        first_seconds: Before the second try; each later wait is up to twice as long, so that many
            clients do not come back together.
    """

    seconds: float
    first_seconds: float = 0.5
    most_seconds: float = 20.0
    wait: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    jitter: Callable[[], float] = random.random

    def pause(self, attempt: int) -> float:
        """Seconds to wait after the try ``attempt``, counted from 0."""
        bound = min(self.most_seconds, self.first_seconds * 2.0 ** min(attempt, 16))
        return float(bound * (0.5 + self.jitter() / 2))


CREATE = Patience(90)
LOOK = Patience(60)
DELETE = Patience(600)
"""The longest: what is not deleted costs money."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What a cloud answered, in its own words."""

    cloud: Cloud
    kind: Kind
    code: str
    message: str

    @classmethod
    def of(cls, cloud: Cloud, code: str, message: str, status: int | None = None) -> Failure:
        """With the kind that the cloud's table says."""
        said = " ".join(message.split())
        return cls(cloud, kind_of(cloud, code, status), code, said)


class CallFailed(Exception):
    """A call failed for good; it never leaves the launchers."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(f"{failure.code}: {failure.message}")
        self.failure = failure


Translate = Callable[[Exception], Failure | None]
"""An SDK's exception as a failure; ``None`` for what is no answer of a cloud's."""


def patiently(
    call: Callable[[], Result],
    translate: Translate,
    patience: Patience,
    *,
    also: frozenset[Kind] = frozenset(),
) -> Result:
    """What ``call`` returns, tried again for as long as the cloud says "later".

    Args:
        also: Kinds that are tried again beside ``LATER``.
    Raises:
        CallFailed: With the last answer; its cause is the SDK's own exception.
    """
    end = patience.clock() + patience.seconds
    attempt = 0
    while True:
        try:
            return call()
        except Exception as exc:
            failure = translate(exc)
            if failure is None:
                raise
            pause = patience.pause(attempt)
            is_last = patience.clock() + pause > end
            if failure.kind not in LATER | also or is_last:
                raise CallFailed(failure) from exc
        patience.wait(pause)
        attempt += 1


@dataclass(frozen=True, slots=True)
class Blame:
    """Words of an error by which the profile's line at fault is known.

    Attributes:
        words: Any of them, in any case.
        key: The line, without the table's own ``CLOUD``.
    """

    words: tuple[str, ...]
    key: str


def launch_error(
    failure: Failure,
    spec: NodeSpec,
    settings: LaunchSettings,
    *,
    blames: Sequence[Blame],
    more: str,
) -> LaunchError:
    """The error for a machine that could not be had.

    Args:
        blames: The first that fits names the line of the profile.
        more: How to ask this cloud for a greater quota.
    """
    what = f"{spec.instance_type} ({spec.market}) in {spec.place}"
    said = f"{failure.code}: {failure.message}" if failure.code else failure.message
    match failure.kind:
        case Kind.CAPACITY:
            return NoCapacity(
                f"no {what} is to be had ({said})",
                hint="allow more regions, types or markets in the cluster profile, or try later",
            )
        case Kind.QUOTA:
            return QuotaExceeded(
                f"the account's quota in {spec.cloud} {spec.region} has no room for a {what}"
                f" ({said})",
                hint=f"allow another region, or ask for more: {more}",
            )
        case Kind.AUTHENTICATION | Kind.THROTTLED | Kind.UNAVAILABLE:
            return call_error(failure, f"could not launch {what}")
        case _:
            line = _blamed(failure, blames)
            at_fault = settings.line(line) if line else "what the message names"
            return InvalidLaunch(
                f"{failure.cloud} refuses to launch {what}: {said}", hint=f"mend {at_fault}"
            )


def call_error(failure: Failure, what: str) -> LaunchError:
    """The error for a call that is not the launch of a machine.

    Args:
        what: What could not be done, as a clause.
    """
    said = f"{failure.code}: {failure.message}" if failure.code else failure.message
    text = f"{failure.cloud}: {what} ({said})"
    match failure.kind:
        case Kind.AUTHENTICATION:
            return AuthenticationFailed(text, hint=LOGINS[failure.cloud])
        case Kind.THROTTLED:
            return Throttled(text, hint="try again later; something asks this cloud very often")
        case Kind.UNAVAILABLE:
            return CloudUnavailable(text, hint="try again later")
        case _:
            return InvalidLaunch(text)


LOGINS = {
    Cloud.AWS: "log in anew (`aws sso login`, or new keys), and see that the account allows the"
    " call",
    Cloud.GCP: "log in anew (`gcloud auth application-default login`), and see that the account"
    " may use Compute Engine in the project",
    Cloud.AZURE: "log in anew (`az login`), and see that the account may manage the subscription",
}
"""What helps where a cloud does not know who asks, or does not allow it."""


def _blamed(failure: Failure, blames: Sequence[Blame]) -> str:
    text = f"{failure.code} {failure.message}".lower()
    return next((b.key for b in blames if any(word in text for word in b.words)), "")
