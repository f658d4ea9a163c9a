"""What a machine does at its first boot, as text that the cloud hands to it."""

from __future__ import annotations

import shlex

from headwater.infra.models import Cloud
from headwater.infra.storage.uris import Uri


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
    return (
        "#!/bin/sh\n"
        f"shutdown -h +{most_minutes}\n"
        f"{shlex.join([*docker, image])} \\\n"
        f"  {shlex.join(node)}\n"
        "shutdown -h now\n"
    )
