"""The `transfer` flow, as a schedule or a form runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.e2e.conftest import Cli, Prefect

RUN = """
from headwater.flows.transfer import TransferParameters, transfer

receipt = transfer(TransferParameters(source="in", target="out"))
print(receipt.copied, receipt.objects)
"""


def test_the_flow_copies_and_leaves_its_receipt_on_the_page(
    headwater: Cli, prefect_server: Prefect
) -> None:
    Path(headwater.folder, "in").mkdir()
    Path(headwater.folder, "in", "a.csv").write_bytes(b"n\n1\n")

    done = subprocess.run(
        [sys.executable, "-c", RUN],
        cwd=headwater.folder,
        env=headwater.environment,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )

    assert (done.returncode, done.stdout) == (0, "1 1\n"), done.stderr
    assert Path(headwater.folder, "out", "a.csv").read_bytes() == b"n\n1\n"
    run = prefect_server.last_run()
    assert (run["state_type"], run["parameters"]["parameters"]["target"]) == ("COMPLETED", "out")
    (artifact,) = prefect_server.of_run("artifacts", run["id"])
    assert "copied    1 object, 4 B" in artifact["data"]
