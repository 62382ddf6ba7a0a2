"""The manifest's ``report_to``: services that are sent the metrics while a job trains. Their keys are the stack's, never a manifest's."""

from typing import Annotated

from pydantic import ConfigDict, Field, StringConstraints, model_validator

from jobspec.base import Document

#: What both services take as a name, and a path of theirs may hold: ENTITY/PROJECT, or /Shared/EXPERIMENT.
TITLE_PATTERN = r"^[A-Za-z0-9/]([A-Za-z0-9 ._/-]{0,126}[A-Za-z0-9])?$"
Title = Annotated[str, StringConstraints(strict=True, pattern=TITLE_PATTERN)]
#: The services, by their key in the manifest; each one's key lies in Parameter Store under the stack's TrackingPath, by this name.
SERVICES = ("mlflow", "wandb")


class ReportTo(Document):
    """Where metrics are sent while the job trains, besides the files that it always leaves. The stack must have `TrackingPath` (docs/tracking.md)."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    mlflow: Title | None = Field(None, description="MLflow: the experiment's name. It is made where it is not there.")
    wandb: Title | None = Field(None, description="Weights & Biases: PROJECT, or ENTITY/PROJECT. The image must have the library wandb.")

    @model_validator(mode="after")
    def _somewhere(self) -> "ReportTo":
        if not self.named():
            raise ValueError(f"name a project for one of {', '.join(SERVICES)}, or leave report_to out")
        return self

    def named(self) -> dict[str, str]:
        """Service to project or experiment."""
        return {service: title for service in SERVICES if (title := getattr(self, service)) is not None}
