"""The manifest's ``after``: a job that starts when another has succeeded, from what that one made; and the same fact in the ticket."""

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from jobspec.base import Document, JobId, JobName
from jobspec.units import Duration

#: What is taken over. adapter: its weights are trained on. model: it is the base, with an adapter of one's own on it.
Use = Literal["adapter", "model", "nothing"]


class After(Document):
    """Start when another job of this stack has succeeded."""

    job: JobName = Field(description="Its name: the one that runs or waits now, else the newest of that name. Of a sweep, its best job is taken.")
    use: Use = Field(
        "adapter",
        description="adapter: go on training its adapter; `model` must be its base, and r, alpha, target_modules, rslora and dora are its own. "
        "model: its whole model (`adapter.type: full`, or `adapter.merge`) is the base; `model` names that one's base, for the plan. "
        "nothing: only the order counts.",
    )
    max_wait: Duration = Field(604800, description="Longest wait for it; then FAILED.")


def by_name(value: Any) -> Any:
    """``after: NAME`` is short for ``after: {job: NAME}``."""
    return After(job=value) if isinstance(value, str) else value


class Start(Document):
    """What an attempt begins with instead of a new adapter, or of the manifest's model: files below a prefix in the outputs bucket."""

    job_id: JobId
    use: Literal["adapter", "model"]
    prefix: Annotated[str, StringConstraints(pattern=r"^runs/[ -~]+/$", max_length=1024)]
