"""Verified copies between any two stores: what is asked for, what is found, what is done.

    plan_transfer(request)        looks at both ends and refuses; nothing is written
    run_transfer(plan)            copies, checks, and leaves a manifest at the target

Between the two stands whoever prices a copy: a plan tells its bytes, objects and both ends.
"""

from __future__ import annotations

from headwater.infra.storage.transfer.models import (
    TransferPlan,
    TransferReceipt,
    TransferRequest,
    Unit,
)
from headwater.infra.storage.transfer.plan import plan_transfer
from headwater.infra.storage.transfer.run import run_transfer

__all__ = [
    "TransferPlan",
    "TransferReceipt",
    "TransferRequest",
    "Unit",
    "plan_transfer",
    "run_transfer",
]
