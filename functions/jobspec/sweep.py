"""The manifest's ``sweep``: one job for each choice of values, and what is asked of all of them together."""

from difflib import get_close_matches
from itertools import product
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, StringConstraints, model_validator

from jobspec.base import Document
from jobspec.methods import Located
from jobspec.places import one_of

MAX_JOBS = 64
#: ``-001`` is appended to the sweep's name.
SUFFIX_CHARACTERS = 4
#: What decides a run and has one value. Not what decides where it runs, on which rows, or what it is measured on.
SWEEPABLE = (
    *(f"training.{key}" for key in ("epochs", "max_steps", "learning_rate", "scheduler", "warmup_ratio", "global_batch_size", "micro_batch_size")),
    *(f"training.{key}" for key in ("max_length", "packing", "loss_on", "seed")),
    *(f"adapter.{key}" for key in ("type", "r", "alpha", "dropout", "rslora", "dora")),
    *(f"dpo.{key}" for key in ("beta", "loss_type", "label_smoothing")),
    *(f"kto.{key}" for key in ("beta", "loss_type", "desirable_weight", "undesirable_weight")),
    "orpo.beta",
    "reward.center_rewards_coefficient",
    *(f"grpo.{key}" for key in ("beta", "epsilon", "loss_type", "temperature", "num_generations", "max_completion_length")),
)
METRIC_PATTERN = r"^[A-Za-z][A-Za-z0-9_./-]{0,63}$"

Swept: TypeAlias = bool | int | float | Annotated[str, StringConstraints(max_length=64)]
Choice: TypeAlias = dict[str, Swept]


class Sweep(Document):
    """Several jobs of one manifest, told apart by some values: every combination (`grid`), or those that are listed (`cases`)."""

    model_config = one_of(("grid",), ("cases",))

    grid: Annotated[dict[str, Annotated[tuple[Swept, ...], Field(min_length=1, max_length=MAX_JOBS)]], Field(min_length=1, max_length=8)] | None = Field(
        None, description="Values by key, such as `training.learning_rate: [1e-4, 3e-4]`; one job for every combination, 64 at most."
    )
    cases: Annotated[tuple[Choice, ...], Field(min_length=1, max_length=MAX_JOBS)] | None = Field(
        None, description="Instead of grid: one job each, such as `- {adapter.r: 8, adapter.alpha: 16}`."
    )
    metric: Annotated[str, StringConstraints(strict=True, pattern=METRIC_PATTERN)] = Field(
        "eval_loss", description="What the best job is chosen by: eval_loss (held-out rows, at the end), train_loss, or a metric that the method measures."
    )
    goal: Literal["min", "max"] = Field("min", description="Whether less or more of the metric is better.")
    concurrency: Annotated[int, Field(ge=1, le=16)] = Field(
        2, description="Jobs of the sweep that may be at work at a time; the stack's MaxConcurrentJobs holds too."
    )
    budget_usd: Annotated[float, Field(gt=0, le=1_000_000)] = Field(
        50.0,
        description="Estimated instance cost of all jobs together. Each job's limits.budget_usd is at most its equal part of this for `concurrency` jobs, "
        "and a job is started only while what is left covers its limit.",
    )
    mails: Literal["sweep", "each"] = Field("sweep", description="sweep: one e-mail at the sweep's end. each: also those that each job would send by itself.")

    @model_validator(mode="after")
    def _can_be_swept(self) -> "Sweep":
        if (self.grid is None) == (self.cases is None):
            raise ValueError("give either `grid` or `cases`")
        for at, choice in [((), self.grid)] if self.grid is not None else [((n,), case) for n, case in enumerate(self.cases or ())]:
            for key in choice or ():
                if key not in SWEEPABLE:
                    near = get_close_matches(key, SWEEPABLE, n=1)
                    hint = f"did you mean `{near[0]}`?" if near else f"what can: {', '.join(SWEEPABLE)}"
                    raise Located((self.kind, *at, key), f"cannot be swept; {hint}")
        choices = self.choices()
        if len(choices) > MAX_JOBS:
            raise Located((self.kind,), f"makes {len(choices)} jobs; a sweep has {MAX_JOBS} at most")
        for number, choice in enumerate(choices):
            if choice in choices[:number] or not choice:
                raise Located((self.kind,), f"has a choice twice: {told(choice)}" if choice else "has a case without a value")
        return self

    @property
    def kind(self) -> Literal["grid", "cases"]:
        return "grid" if self.grid is not None else "cases"

    @property
    def size(self) -> int:
        return len(self.choices())

    def choices(self) -> tuple[Choice, ...]:
        """The values of each job, in order: of a grid the last key changes first."""
        if self.grid is None:
            return self.cases or ()
        return tuple(dict(zip(self.grid, values, strict=True)) for values in product(*self.grid.values()))


def told(choice: Choice) -> str:
    """``learning_rate 0.0003, r 8``: the keys without their section."""
    return ", ".join(f"{key.partition('.')[2]} {_shown(value)}" for key, value in choice.items())


def _shown(value: Swept) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)
