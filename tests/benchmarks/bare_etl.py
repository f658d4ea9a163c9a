"""The steps of `headwater run etl` without Prefect, in a process of their own."""

from __future__ import annotations

import sys

from headwater.flows.etl_run import EtlRun
from headwater.flows.receipts import as_text
from headwater.infra.models import JobRequest
from headwater.infra.profiles import load_profile

source, target = sys.argv[1:3]
job = sys.argv[3] if len(sys.argv) > 3 else None
run = EtlRun(JobRequest((source,), target, job), load_profile("local"))
run.scan()
run.process()
run.commit()
receipt = run.receipt()
run.keep(receipt)
print(as_text(receipt))
