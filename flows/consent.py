"""What may be done with data on this machine, and who says yes where a limit would be passed."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from headwater.infra.errors import InvalidRequest
from headwater.infra.policies import Cited, Rules
from headwater.infra.profiles import ClusterProfile

Ask = Callable[[str], bool]
"""Asks the person who waits whether to go on; false where nobody does."""


def require_here(rules: Rules, uris: Iterable[str], *, hint: str) -> None:
    """Refuse data on this machine that a rule keeps elsewhere.

    Raises:
        InvalidRequest: One does; it is named.
    """
    rule = rules.denies_here(rules.residency_of(uris)) if rules.residency else None
    if rule is not None:
        raise InvalidRequest(f"{rule} keeps this data off this machine", hint=hint)


def ask_to_pass(limit: Cited, said: str, profile: ClusterProfile, ask: Ask, *, hint: str) -> None:
    """Ask whether to go beyond ``limit``: of the cluster profile a person may, of a policy nobody.

    Args:
        said: What would be beyond which limit.
    Raises:
        InvalidRequest: It is a policy's, or nobody said yes.
    """
    if not limit.name.endswith(profile.policy.label) or not ask(said):
        raise InvalidRequest(said + (f" ({limit.source})" if limit.source else ""), hint=hint)
