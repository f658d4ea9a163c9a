"""Benchmarks: each prints its figure beside its peers', measured in turn in one run.

    make bench                 all of them
    make bench ONLY=name       one

A figure is a ratio or a number of seconds; ratios are taken pair by pair and the median is
reported, since machines are shared and their speed drifts. The last figures are in
``results.json`` beside this file.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import partial

from tests.benchmarks import command, kernels, planning, reads, transfers
from tests.benchmarks.measure import HERE, Result

RESULTS = HERE / "results.json"


def main(only: str) -> None:
    """Run the chosen benchmarks, print them as a table and keep them."""
    chosen = {n: f for n, f in BENCHMARKS.items() if only in ("", n)}
    if not chosen:
        sys.exit(f"no benchmark '{only}'; known: {', '.join(BENCHMARKS)}")
    kept = {r["name"]: r for r in json.loads(RESULTS.read_text())} if RESULTS.exists() else {}
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    for benchmark in chosen.values():
        made = benchmark()
        for result in made if isinstance(made, tuple) else (made,):
            kept[result.name] = {**asdict(result), "reached": result.reached}
            peers = ", ".join(f"{peer} {median:.2f}" for peer, median in result.peers.items())
            mark = "reached" if result.reached else "NOT reached"
            print(
                f"{result.name}: {result.value:.2f} {result.unit}, target {result.target:g}: {mark}"
                f"\n    {result.span}\n    medians: {peers}",
                flush=True,
            )
        RESULTS.write_text(json.dumps(list(kept.values()), indent=1) + "\n")


BENCHMARKS: dict[str, Callable[[], Result | tuple[Result, ...]]] = {
    "help": command.help_seconds,
    "catalog_load": command.catalog_load,
    "filter_derive_write": partial(kernels.filter_derive_write, 1),
    "filter_derive_write_16_files": partial(kernels.filter_derive_write, 16),
    "tpch_q1": partial(kernels.tpch, "q1"),
    "tpch_q3": partial(kernels.tpch, "q3"),
    "tpch_q6": partial(kernels.tpch, "q6"),
    "worker_memory": kernels.worker_memory,
    "prefect_overhead": command.prefect_overhead,
    "flow_overhead": command.flow_overhead,
    "small_run_with_server": command.small_run_with_server,
    "small_run_without_server": command.small_run_without_server,
    **{
        f"read_s3{'_far' if far else ''}_{'whole' if whole else 'columns'}": partial(
            reads.read_s3, far=far, whole=whole
        )
        for far in (False, True)
        for whole in (True, False)
    },
    "small_files": reads.small_files,
    **{
        f"transfer_{one}_{other}_{size}": partial(transfers.transfer, one, other, size)
        for one, other in transfers.PAIRS
        for size in transfers.SIZES
    },
    "planning_1500": partial(planning.planning, 1500, 20.0),
    "planning_94000": partial(planning.planning, 94_000, 100.0),
    "data_blind": planning.data_blind,
}


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "")
