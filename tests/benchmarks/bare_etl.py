"""The steps of `headwater run etl` without Prefect, in a process of their own."""

from __future__ import annotations

import sys

from headwater.flows.etl_run import EtlRun
from headwater.flows.receipts import as_text
from headwater.infra.models import JobRequest
from headwater.infra.profiles import load_profile

source, target, *job = sys.argv[1:]
run = EtlRun(JobRequest((source,), target, *job), load_profile("local"))
run.scan()
run.process()
run.commit()
receipt = run.receipt()
run.keep(receipt)
print(as_text(receipt))
