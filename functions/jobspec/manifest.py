"""The job manifest, version 1: what a person writes. Every field's description is its reference and its editor help.

Rules: text values are strict (a bare ``3.10`` or ``no`` where text is meant is refused, not guessed); unknown keys are
refused; whatever a shell, a path or an e-mail will see is held to a pattern.
"""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from jobspec.base import MAX_NAME, Document, JobName, UtcTime
from jobspec.chain import After, by_name
from jobspec.compute import Compute
from jobspec.data import FORMATS_OF, Data, methods_for
from jobspec.methods import Adapter, Dpo, Evaluation, Grpo, Kto, Located, Method, Orpo, Reward, check_method
from jobspec.places import Commit, HubId, Location, one_of
from jobspec.saves import ASSUMED_S
from jobspec.schedule import DATE_CHARACTERS, Schedule
from jobspec.sweep import SUFFIX_CHARACTERS, Sweep
from jobspec.tracking import ReportTo
from jobspec.units import Duration, time_written


def _no_truth(value: Any) -> Any:
    # To Python, and so to a Literal, True equals 1.
    if isinstance(value, bool):
        raise ValueError("true and false are no versions")
    return value


class Model(Document):
    """The model to start from: `hub` with `revision`, or `s3`."""

    model_config = one_of(("hub", "revision"), ("s3",))

    hub: HubId | None = Field(None, description="Hugging Face model id, such as HuggingFaceTB/SmolLM2-135M-Instruct. Needs `revision`.")
    revision: Commit | None = Field(None, description="The hub commit, 40 hexadecimal digits: a branch may move between two attempts of one job.")
    s3: Location | None = Field(
        None,
        description="S3 prefix (this stack's or of its parameter ReadBuckets) or key prefix in this bucket, with config.json, *.safetensors and the tokenizer.",
    )

    @model_validator(mode="after")
    def _one_source(self) -> "Model":
        if (self.hub is None) == (self.s3 is None):
            raise ValueError("give either `hub` (with `revision`) or `s3`")
        if (self.hub is None) != (self.revision is None):
            raise ValueError("`hub` needs `revision`, the 40-digit commit of the model; `s3` takes none")
        return self

    def reference(self) -> str:
        """How the model is named in results: ``hub id@revision`` or the S3 prefix."""
        return f"{self.hub}@{self.revision}" if self.hub else str(self.s3)


class Training(Document):
    """How to train. The global batch is fixed; how it is split over micro-batches does not change it."""

    epochs: Annotated[float, Field(gt=0, le=1000)] = Field(1.0, description="Passes over the training rows; `max_steps` wins where both are given.")
    max_steps: Annotated[int, Field(ge=1, le=10**7)] | None = Field(None, description="Optimizer steps.")
    global_batch_size: Annotated[int, Field(ge=1, le=65536)] = Field(16, description="Rows for each optimizer step, over all micro-batches.")
    micro_batch_size: Annotated[int, Field(ge=1, le=4096)] = Field(
        4, description="Rows at once on the GPU; halved where memory runs out; must divide global_batch_size."
    )
    learning_rate: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None, description="Peak learning rate (AdamW); by method and adapter where not given: 2e-4 for sft with an adapter; the others in docs/training.md."
    )
    scheduler: Literal["cosine", "linear", "constant"] = Field("cosine", description="Learning-rate schedule after the warm-up.")
    warmup_ratio: Annotated[float, Field(ge=0, le=1)] = Field(0.03, description="Share of the steps spent warming up.")
    max_length: Annotated[int, Field(ge=8, le=1_048_576)] = Field(1024, description="Longest row in tokens.")
    packing: bool = Field(
        True,
        description="For sft: lay several short rows on one line instead of padding. Steps read the same rows and learn the same with it and without; "
        "only speed differs. Rows never see each other.",
    )
    max_truncated_fraction: Annotated[float, Field(ge=0, le=1)] = Field(
        0.01, description="Refuse to start when more than this share of supervised tokens would be cut off by max_length."
    )
    loss_on: Literal["assistant", "all"] = Field("assistant", description="For sft, tokens that carry loss: assistant turns (completions), or every token.")
    gradient_checkpointing: bool = Field(True, description="Recompute activations: less memory, about a quarter more time.")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field("auto", description="auto: bfloat16 where the GPU has it, else float16; float32 on a CPU.")
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = Field(42, description="Seed of data order, dropout and adapter initialisation.")
    logging_steps: Annotated[int, Field(ge=1, le=10**6)] = Field(1, description="Optimizer steps between two logged losses.")

    @model_validator(mode="after")
    def _batch_divides(self) -> "Training":
        if self.global_batch_size % self.micro_batch_size:
            raise ValueError(f"global_batch_size ({self.global_batch_size}) is not a multiple of micro_batch_size ({self.micro_batch_size})")
        return self


class IdleGpu(Document):
    """When a GPU counts as idle while the job trains, and what is then done. Loading and tokenizing count: they are paid for, too."""

    action: Literal["report", "stop"] = Field(
        "report",
        description="report: status object, e-mail (notify) and alarm. stop: also, once every GPU of the instance is idle, a last save and the end "
        "(FAILED, gpu_idle).",
    )
    percent: Annotated[float, Field(gt=0, le=100)] = Field(5.0, description="A GPU whose mean use over the window is below this is idle.")
    window: Duration = Field(1800, description="How long the mean looks back; nothing is judged sooner.")


class Limits(Document):
    """When to stop, whatever happens. All but `idle_gpu` count over every attempt of the job together."""

    max_runtime: Duration = Field(86400, description="Instance time, all attempts together; then a last save and the end (STOPPED_DEADLINE).")
    max_wait: Duration = Field(86400, description="Longest unbroken wait for capacity, the time in the queue and under a hold not counted; then FAILED.")
    max_attempts: Annotated[int, Field(ge=1, le=100)] = Field(20, description="Instances to start at most; then FAILED.")
    budget_usd: Annotated[float, Field(gt=0, le=1_000_000)] = Field(
        50.0, description="Estimated instance cost of all attempts; then a last save and the end (STOPPED_BUDGET)."
    )
    deadline: Annotated[UtcTime, BeforeValidator(time_written)] | None = Field(
        None, description="Latest end, with a zone: 2026-12-24T18:00:00+01:00; then a last save and the end (STOPPED_DEADLINE)."
    )
    idle_gpu: IdleGpu = IdleGpu()


class Checkpoint(Document):
    """Saves besides the one at a spot warning."""

    interval: Duration | Literal["auto"] = Field(
        "auto",
        description="Time between two saves; auto: as often as pays, by the measured cost of a save and of its upload, and the age of the instance.",
    )
    keep: Annotated[int, Field(ge=2, le=20)] = Field(2, description="Newest checkpoints kept; the one before the newest is the fallback.")

    @property
    def assumed_interval_s(self) -> int:
        """Of ``auto`` what is taken for it where nothing is measured."""
        return ASSUMED_S if self.interval == "auto" else self.interval


class Notify(Document):
    """Which e-mails to send, besides the one at the job's end."""

    on: tuple[Literal["accepted", "interrupted", "relaunched", "waiting", "budget", "idle"], ...] = Field(
        ("budget", "idle"),
        description="accepted, interrupted, relaunched, waiting (for capacity), budget (80 % of budget_usd is spent), idle (a GPU, see limits.idle_gpu).",
    )


class Manifest(Document):
    """One fine-tuning job."""

    version: Annotated[Literal[1], BeforeValidator(_no_truth)] = Field(1, description="Version of this format.")
    name: JobName = Field(description="The job's name: lower-case letters, digits and hyphens, 48 at most. One job of a name is active at a time.")
    model: Model
    data: Data
    after: Annotated[After | None, BeforeValidator(by_name, json_schema_input_type=JobName | After | None)] = Field(
        None, description="Start when that job has succeeded, with its adapter: a job's name, or a section that says more."
    )
    sweep: Sweep | None = None
    schedule: Schedule | None = None
    method: Method = Field(
        "sft",
        description="sft: supervised fine-tuning; dpo, kto, orpo (experimental in TRL): learning from preferences; reward: a reward model; "
        "grpo: reinforcement learning with reward functions.",
    )
    dpo: Dpo | None = None
    kto: Kto | None = None
    orpo: Orpo | None = None
    reward: Reward | None = None
    grpo: Grpo | None = None
    adapter: Adapter = Adapter()
    training: Training = Training()
    evaluation: Evaluation = Evaluation()
    compute: Compute
    limits: Limits = Limits()
    checkpoint: Checkpoint = Checkpoint()
    notify: Notify = Notify()
    report_to: ReportTo | None = Field(None, description="Send metrics to a tracking service as well, such as {mlflow: my-experiment}.")
    priority: Literal["high", "normal", "low"] = Field(
        "normal", description="Where more jobs wait than may run: high is taken as if it came 6 hours earlier, low as if 6 hours later."
    )

    @model_validator(mode="after")
    def _choices_go_together(self) -> "Manifest":
        check_method(self)
        wanted, fitting = self.data.format, FORMATS_OF[self.method]
        if wanted != "auto" and wanted not in fitting:
            others = " or ".join(methods_for(wanted))
            raise Located(("data", "format"), f"does not go with method {self.method}, which learns from {' or '.join(fitting)} rows; {wanted} is for {others}")
        if self.after is not None:
            self._can_follow(self.after)
        if self.sweep is not None:
            self._can_be_many(self.sweep)
        if self.schedule is not None and self.limits.deadline is not None:
            raise Located(("limits", "deadline"), "is one time for all jobs of the schedule: use limits.max_runtime, and schedule.until")
        suffix = (SUFFIX_CHARACTERS if self.sweep is not None else 0) + (DATE_CHARACTERS if self.schedule is not None else 0)
        if len(self.name) > MAX_NAME - suffix:
            raise Located(("name",), f"is too long: its jobs get {suffix} characters more, so {MAX_NAME - suffix} are the most")
        return self

    def _can_be_many(self, sweep: Sweep) -> None:
        if Limits().budget_usd != self.limits.budget_usd > sweep.budget_usd:
            raise Located(
                ("limits", "budget_usd"), f"({self.limits.budget_usd:g}) is one job's, and more than sweep.budget_usd ({sweep.budget_usd:g}) for all of them"
            )

    def _can_follow(self, before: After) -> None:
        if before.job == self.name:
            raise Located(("after",), "names this very job")
        if before.use == "adapter" and self.adapter.type == "full":
            raise Located(("after",), "goes on with an adapter, but adapter.type is full; say `after: {job: NAME, use: model}`, or choose lora")
