"""What is allowed: clouds, regions, machines, money, and where data may be. No I/O."""

from headwater.infra.policies.models import (
    POLICY_VERSION,
    Allowed,
    Frozen,
    Limits,
    Names,
    Policy,
    Residency,
    Spot,
    require_prefix,
)
from headwater.infra.policies.rules import Cited, Residence, Rule, Rules, in_family

__all__ = [
    "POLICY_VERSION",
    "Allowed",
    "Cited",
    "Frozen",
    "Limits",
    "Names",
    "Policy",
    "Residence",
    "Residency",
    "Rule",
    "Rules",
    "Spot",
    "in_family",
    "require_prefix",
]
