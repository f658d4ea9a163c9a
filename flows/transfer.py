"""The `transfer` flow: a verified copy, for schedules and for Prefect's form."""

# No ``from __future__ import annotations`` here: Prefect resolves the types when a flow is run.

import time

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact
from pydantic import BaseModel, ConfigDict, Field

from headwater.flows.price_transfer import kept, permission, price_plan, price_text
from headwater.flows.transfer_command import receipt_text
from headwater.infra.profiles import load_profile
from headwater.infra.storage.transfer import (
    TransferReceipt,
    TransferRequest,
    plan_transfer,
    run_transfer,
)
from headwater.infra.storage.transfer.run import TransferProgress

LOG_SECONDS = 10.0
"""Between two lines about the progress in a run's log."""


class TransferParameters(BaseModel):
    """What one `transfer` run copies, and where to."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str = Field(
        min_length=1,
        description="An object, a folder, a pattern or a table.",
        examples=["s3://lake/raw/2024/"],
    )
    target: str = Field(
        min_length=1,
        description="A folder; of one object, also its new address.",
        examples=["gs://lake/raw/2024"],
    )
    version: int | None = Field(
        default=None, ge=0, description="Of a table; its last where it is empty."
    )
    overwrite: bool = Field(
        default=False, description="Replace objects that have other content, instead of refusing."
    )
    reread: bool = Field(
        default=False, description="Read every copy back, also where its store vouches for it."
    )
    drop_metadata: bool = Field(
        default=False, description="Leave out metadata that the target cannot keep."
    )
    profile: str = Field(
        default="local",
        description="Cluster profile whose limits, rules and declared locations hold.",
    )
    yes: bool = Field(
        default=False, description="Copy also where that is beyond the cluster profile's limits."
    )

    def to_request(self) -> TransferRequest:
        """What is copied, without who allows it."""
        return TransferRequest(
            self.source,
            self.target,
            self.version,
            self.overwrite,
            self.reread,
            self.drop_metadata,
        )


@flow(name="transfer", persist_result=False)
def transfer(parameters: TransferParameters) -> TransferReceipt:
    """Copy between any two stores, check every byte, and copy nothing twice.

    Args:
        parameters: What to copy and where to.
    """
    logger = get_run_logger()
    told = time.monotonic()

    def tell(progress: TransferProgress) -> None:
        nonlocal told
        if time.monotonic() - told >= LOG_SECONDS:
            told = time.monotonic()
            logger.info("%d of %d objects copied", progress.objects_done, progress.objects)

    profile = load_profile(parameters.profile)
    plan = plan_transfer(parameters.to_request(), permission(profile))
    price = price_plan(plan, profile, lambda _: parameters.yes)
    logger.info("%d objects, %d bytes to copy", plan.objects, plan.size_bytes)
    logger.info("price: %s", price_text(price))
    receipt = kept(run_transfer(plan, tell), price)
    create_markdown_artifact(
        markdown=f"```text\n{receipt_text(receipt)}\n```",
        key="transfer",
        description=f"Copy to {receipt.target}",
    )
    return receipt
