"""Which policies hold: the machine's own, which no user can leave out, and those beside it.

The file at ``SYSTEM_POLICY`` always holds: no variable, profile or option names another in its
place, and one that cannot be read stops everything. Whoever runs a shared machine or builds an
image puts it there, owned by root. A user's own file and those that ``HEADWATER_POLICY`` names
hold beside it: all must allow, so they can only narrow what it leaves.

A policy holds back Headwater, not a person: what somebody may do in a cloud is that cloud's to
say.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from platformdirs import user_config_path

from headwater.infra.errors import AccessDenied, InvalidRequest, NotFound
from headwater.infra.policies import POLICY_VERSION, Policy, Rules
from headwater.infra.profiles.models import ClusterProfile
from headwater.infra.profiles.toml_files import parse_table, validated

SYSTEM_POLICY = Path("/etc/headwater/policy.toml")
"""The policy of this machine."""

VARIABLE = "HEADWATER_POLICY"
"""Names more files, with ':' between them."""


def load_policies(
    *, system: Path = SYSTEM_POLICY, environment: Mapping[str, str] = os.environ
) -> tuple[Policy, ...]:
    """Every policy that holds here, the machine's own first; none is fine.

    Args:
        system: The machine's own; another one only in tests.
    Raises:
        AccessDenied: A file is there and cannot be read.
        NotFound: A file that ``HEADWATER_POLICY`` names is not there.
        UnknownName: A key or a region does not exist; the near ones are listed.
        InvalidRequest: A file is no valid policy, or contradicts itself.
    """
    paths = [system, user_config_path("headwater") / "policy.toml"]
    found = [policy for path in paths if (policy := _read(path)) is not None]
    for name in filter(None, environment.get(VARIABLE, "").split(os.pathsep)):
        policy = _read(Path(name).expanduser())
        if policy is None:
            raise NotFound(f"no policy at {name}, which {VARIABLE} names", hint="check the path")
        found.append(policy)
    return tuple(found)


def effective_rules(profile: ClusterProfile, policies: Sequence[Policy]) -> Rules:
    """What the profile and all ``policies`` leave together.

    Raises:
        InvalidRequest: Two rules leave nothing, or the profile needs more GPUs than a rule
            allows; both are named, with their files.
    """
    rules = Rules.of([*policies, profile.policy])
    if rules.gpus and profile.gpu.count > rules.gpus.value:
        source = profile.origins.get("gpu.count", profile.source)
        raise InvalidRequest(
            f"gpu.count = {profile.gpu.count} of cluster profile '{profile.name}' ({source}) is"
            f" more than {rules.gpus} allows",
            hint="ask for fewer, or have the limit changed",
        )
    return rules


def _read(path: Path) -> Policy | None:
    """The policy in the file, checked by itself; ``None`` where no file is."""
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as exc:
        raise AccessDenied(
            f"the policy {path} cannot be read, so nothing is allowed: {exc}",
            hint="ask whoever looks after this machine to make it readable",
        ) from exc
    where = f"policy {path}"
    table = parse_table(text, where, version=POLICY_VERSION)
    given = {"source": str(path), "kind": "policy", "origins": {}}
    policy = validated(Policy, {"name": path.stem, **table}, where, ours=given)
    Rules.of([policy])
    return policy
