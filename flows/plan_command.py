"""`headwater plan etl`: where a run should go and what it will cost, before a cent is spent."""

from __future__ import annotations

import sys

from headwater.flows.console import EXIT_REFUSED, Console
from headwater.flows.parameters import EtlParameters
from headwater.flows.plan_text import as_json, as_text, gather_line
from headwater.infra.models import Status
from headwater.infra.profiles import load_profile


def plan_etl(parameters: EtlParameters, console: Console) -> None:
    """Print the plan of an `etl` run; exit 2 where nothing is allowed.

    Raises:
        HeadwaterError: The request itself is refused.
    """
    from headwater.flows.placing import place

    placed = place(
        parameters.to_request(),
        load_profile(parameters.profile),
        then=parameters.to_follow_ups(),
    )
    plan = placed.plan
    value = as_json(plan)
    text = as_text(plan)
    if (gathering := placed.gathering) is not None:
        value["gather"] = {
            "folder": str(gathering.folder),
            "objects": gathering.objects,
            "size_bytes": gathering.size_bytes,
            "kept": gathering.kept,
        }
        text += f"\ngather   {gather_line(gathering)}"
    if not plan.candidates:
        value = {"status": Status.REFUSED.value, "error": plan.why, **value}
    console.result(value, text)
    if placed.note:
        console.say(f"note: {placed.note}")
    if not plan.candidates:
        console.say("error: nothing is allowed\n  -> have one of the rules above changed")
        sys.exit(EXIT_REFUSED)
