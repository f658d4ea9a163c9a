"""From a plan to a live cluster, and back to nothing."""

from headwater.infra.clusters.opening import LAUNCHERS, Cluster, describe, open

__all__ = ["LAUNCHERS", "Cluster", "describe", "open"]
