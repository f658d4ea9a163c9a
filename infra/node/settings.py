"""How workers run on a type of instance.

Judged from what RAPIDS advises, not measured: small GPUs share their memory with the driver's own
pool and spill; large ones that talk to each other take most of it at once. All speak TLS: UCX,
which would be faster between large GPUs, has no encryption.
"""

from __future__ import annotations

from headwater.infra.node.orders import WorkerSettings

LARGE_GPU_GIB = 38.0
"""From this memory on a GPU is one of those that come in eights, with fast links between them."""

POOL_SHARE = 0.85
"""Part of a large GPU's memory that is taken at once; the rest is for CUDA and libraries."""

SYSTEM_GIB = 2.0
"""Memory of the machine that its system and the node's own program keep."""

MEMORY_SHARE = 0.9
"""Of what is left, what workers may plan with."""


def settings_for(
    *,
    vcpus: int,
    memory_gib: float,
    gpus: int = 0,
    gpu_memory_gib: float = 0.0,
    local_directory: str = "",
) -> WorkerSettings:
    """The settings for a machine with these; one worker for each GPU.

    Args:
        gpu_memory_gib: Of one GPU.
        local_directory: Its own fast disk, where it has one.

    Examples:
        >>> settings_for(vcpus=8, memory_gib=32).threads
        8
        >>> eight = settings_for(vcpus=96, memory_gib=1152, gpus=8, gpu_memory_gib=40)
        >>> eight.gpus, eight.rmm_pool_share, eight.threads
        (8, 0.85, 1)
    """
    share = max(0.5, (memory_gib - SYSTEM_GIB) * MEMORY_SHARE) / max(1, gpus)
    if not gpus:
        return WorkerSettings(
            threads=vcpus, memory_gib=round(share, 3), local_directory=local_directory
        )
    is_large = gpus > 1 and gpu_memory_gib >= LARGE_GPU_GIB
    return WorkerSettings(
        gpus=gpus,
        memory_gib=round(share, 3),
        rmm_async=not is_large,
        rmm_pool_share=POOL_SHARE if is_large else 0.0,
        cudf_spill=True,
        local_directory=local_directory,
    )
