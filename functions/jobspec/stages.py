"""The start of an attempt by its stages: from the order of an instance to the end of the first step, each second in one of them.

They stand in the order of time, none overlaps another. The agent measures all but ``launch``, which is what is left: EC2's own
time from the order to the instance's kernel, and what no clock of ours saw.

``pull`` is what the start waited for the training image alone: it comes while data and model are staged, so only what is left of the pull
then counts. The agent's own small image is in ``bootstrap``. Where the agent comes with the training image (docs/adr/0020), ``pull`` is
the whole of it, before ``agent``.
"""

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field, StringConstraints

from jobspec.units import duration_text

#: Names and what people read, in the order of time.
STAGES = {
    "launch": "launch",
    "boot": "boot",
    "bootstrap": "set-up",
    "agent": "ticket",
    "stage_data": "data",
    "stage_model": "model",
    "pull": "image",
    "handover": "hand-over",
    "stage_prepared": "prepared rows",
    "stage_checkpoint": "checkpoint",
    "trainer": "container",
    "prepare": "rows",
    "import": "imports",
    "load": "load",
    "measure": "measuring",
    "first_step": "first step",
}
MAX_STAGES = 32
#: Seconds by stage. Names of later versions are taken as well: a reader passes over what it does not know.
_Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]+$", max_length=32)]
StageSeconds = Annotated[dict[_Name, Annotated[float, Field(ge=0, le=10**8, allow_inf_nan=False)]], Field(max_length=MAX_STAGES)]


def in_order(stages_s: Mapping[str, float]) -> dict[str, float]:
    """The known stages in the order of time."""
    return {name: stages_s[name] for name in STAGES if name in stages_s}


def before_training_s(stages_s: Mapping[str, float]) -> float:
    """Seconds of all stages but the first step, which is work already."""
    return sum(seconds for name, seconds in stages_s.items() if name != "first_step")


def told(start_s: float, stages_s: Mapping[str, float]) -> str:
    """``start took 6m10s: boot 1m5s, image 2m40s, ...``; what took less than a second is left out."""
    parts = [f"{STAGES[name]} {duration_text(seconds)}" for name, seconds in in_order(stages_s).items() if seconds >= 1]
    return f"start took {duration_text(start_s)}" + (f": {', '.join(parts)}" if parts else "")
