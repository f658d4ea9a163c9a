"""What a machine does at its first boot, as text that the cloud hands to it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from headwater.infra.errors import InvalidRequest
from headwater.infra.models import Cloud
from headwater.infra.storage.uris import Uri

MOST_BYTES = 1024
"""Far below what any cloud takes (16 KiB on EC2); there is nothing to say that needs more."""


def user_data(
    folder: Uri,
    *,
    cloud: Cloud,
    name: str,
    image: str,
    most_minutes: int,
    scheduler: str = "",
    gpus: int = 0,
) -> str:
    """A script that runs the node in its container and then shuts the machine down.

    The machine also shuts down after ``most_minutes``, whatever became of the container. It holds
    no secret: where the orders are is no use without the node's identity.

    Args:
        folder: Where the cluster's orders are.
        image: The container.
        most_minutes: Longest that the machine may run.
        scheduler: Address of the scheduler; empty makes it one.
    Raises:
        InvalidRequest: It would be longer than ``MOST_BYTES``.

    Examples:
        >>> text = user_data(
        ...     Uri.parse("s3://lake/clusters/c1"),
        ...     cloud=Cloud.AWS, name="c1-w0", image="headwater:1", most_minutes=60,
        ...     scheduler="tls://10.0.0.4:8786", gpus=1,
        ... )
        >>> print(text)
        #!/bin/sh
        shutdown -h +60
        docker run --rm --net host --ipc host --gpus all headwater:1 \\
          headwater-node s3://lake/clusters/c1 --cloud aws --name c1-w0 --scheduler tls://10.0.0.4:8786
        shutdown -h now
        <BLANKLINE>
    """
    node = ["headwater-node", str(folder), "--cloud", cloud.value, "--name", name]
    node += ["--scheduler", scheduler] if scheduler else []
    docker = ["docker", "run", "--rm", "--net", "host", "--ipc", "host"]
    docker += ["--gpus", "all"] if gpus else []
    text = (
        "#!/bin/sh\n"
        f"shutdown -h +{most_minutes}\n"
        f"{_line([*docker, image])} \\\n"
        f"  {_line(node)}\n"
        "shutdown -h now\n"
    )
    if len(text.encode()) > MOST_BYTES:
        raise InvalidRequest(
            f"the user-data of node {name} would have {len(text.encode())} bytes, more than"
            f" {MOST_BYTES}",
            hint="use a shorter address for what clusters leave in the store",
        )
    return text


def _line(words: Sequence[str]) -> str:
    return shlex.join(words)
