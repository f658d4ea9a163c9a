"""Cluster profiles: TOML files that say what a cluster may look like. They hold no secret.

Looked for in ``./profiles``, then the user's own folder, then the packaged ones.
"""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path
from typing import Literal

from platformdirs import user_config_path
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from headwater.infra.errors import InvalidRequest, NotFound, UnknownName, UnsupportedData

PROFILE_VERSION = 1
"""Format of the files; newer ones are refused by name."""

SUFFIX = ".toml"


class ClusterSettings(BaseModel):
    """The ``[cluster]`` table."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    launcher: Literal["local"] = Field(
        default="local", description="What starts the cluster; 'local' is this machine."
    )
    processes: bool = Field(
        default=False,
        description="Workers are processes of their own. In process nothing has to start, and"
        " Polars uses all cores either way; processes keep the driver alive when a job crashes.",
    )
    workers: int = Field(
        default=0, ge=0, le=256, description="Worker processes; 0 chooses from the cores."
    )
    threads_per_worker: int = Field(
        default=0, ge=0, le=256, description="Parts that a worker has under way; 0 chooses."
    )
    memory_gib_per_worker: float = Field(
        default=0, ge=0, description="Memory of one worker; 0 shares this machine's memory."
    )
    process_memory_gib: float = Field(
        default=0,
        ge=0,
        description="In process: memory of the whole process at which a run is stopped, before"
        " the machine has none left; 0 is nine tenths of this machine's.",
    )
    gpu: Literal["auto", "never", "require"] = Field(
        default="auto",
        description="'auto' uses GPUs that pass the probe; 'require' fails where none does.",
    )
    gpu_fallback: Literal["allow", "refuse"] = Field(
        default="allow",
        description="What happens to a plan that the GPU engine cannot run: 'allow' runs it on"
        " the CPU and counts it, 'refuse' stops the run.",
    )


class ClusterProfile(BaseModel):
    """One validated profile, and where it came from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: int = PROFILE_VERSION
    description: str = ""
    cluster: ClusterSettings = ClusterSettings()
    name: str = ""
    source: str = ""


def load_profile(name: str, *, folder: Path | None = None) -> ClusterProfile:
    """The profile ``name``, or the one in the file that ``name`` is the path of.

    Args:
        folder: Where ``profiles/`` is looked for first; the working folder by default.
    Raises:
        UnknownName: No such profile; the message lists the known ones.
        InvalidRequest: The file is no valid profile; the message names the key.
    """
    if name.endswith(SUFFIX) or "/" in name:
        path = Path(name)
        if not path.is_file():
            raise NotFound(f"no cluster profile at {path}", hint="check the path")
        return _parse(path.read_text("utf-8"), path.stem, str(path))
    known = {**_packaged()}
    for place in reversed(_folders(folder)):
        known.update({p.stem: p.read_text("utf-8") for p in sorted(place.glob(f"*{SUFFIX}"))})
    if name not in known:
        raise UnknownName.of(
            "cluster profile",
            name,
            known,
            hint=f"looked in {', '.join(str(p) for p in _folders(folder))} and the packaged ones",
        )
    return _parse(known[name], name, name)


def _folders(folder: Path | None) -> list[Path]:
    return [(folder or Path.cwd()) / "profiles", user_config_path("headwater") / "profiles"]


def _packaged() -> dict[str, str]:
    root = resources.files("headwater.profiles")
    return {
        entry.name.removesuffix(SUFFIX): entry.read_text("utf-8")
        for entry in root.iterdir()
        if entry.name.endswith(SUFFIX)
    }


def _parse(text: str, name: str, source: str) -> ClusterProfile:
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise InvalidRequest(f"cluster profile {source} is no valid TOML: {exc}") from exc
    version = table.get("version", PROFILE_VERSION)
    if isinstance(version, int) and version > PROFILE_VERSION:
        raise UnsupportedData(
            f"cluster profile {source} has format {version}, newer than {PROFILE_VERSION}",
            hint="upgrade Headwater",
        )
    try:
        return ClusterProfile.model_validate({**table, "name": name, "source": source})
    except ValidationError as exc:
        error = exc.errors()[0]
        where = ".".join(str(step) for step in error["loc"])
        if error["type"] == "extra_forbidden":
            known = [
                *ClusterProfile.model_fields,
                *(f"cluster.{field}" for field in ClusterSettings.model_fields),
            ]
            raise UnknownName.of(
                "setting", where, known, where=f"cluster profile {source}"
            ) from exc
        raise InvalidRequest(
            f"cluster profile {source}: {where}: {error['msg']}", hint="mend the file"
        ) from exc
