"""Cluster profiles: TOML files that say what a cluster may look like. They hold no secret.

Looked for in ``./profiles``, then the user's own folder, then the packaged ones.
"""

from headwater.infra.profiles.files import ProfileFile, load_profile, profile_files
from headwater.infra.profiles.models import (
    PROFILE_VERSION,
    ClusterProfile,
    ClusterSettings,
    DeclaredLocation,
    GpuNeed,
)
from headwater.infra.profiles.policy_files import effective_rules, load_policies

__all__ = [
    "PROFILE_VERSION",
    "ClusterProfile",
    "ClusterSettings",
    "DeclaredLocation",
    "GpuNeed",
    "ProfileFile",
    "effective_rules",
    "load_policies",
    "load_profile",
    "profile_files",
]
