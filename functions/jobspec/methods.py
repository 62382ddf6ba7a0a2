"""What may be trained, and how: the methods with their options, the adapters, and which of them go together.

Each method is a trainer of TRL 1.16 and keeps TRL's names for its options. Where TRL calls a trainer experimental
(its module ``trl.experimental``), the option section says so.
"""

from collections.abc import Iterator
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, StringConstraints, model_validator

from jobspec.base import Document

MODULE_PATTERN = r"^[A-Za-z0-9_.]{1,64}$"
COLUMN_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]{0,63}$"
#: Any text on one line; what a regular expression may do is bounded when it runs (trainer/rewards.py).
REGEX_PATTERN = r"^.{1,500}$"

Method: TypeAlias = Literal["sft", "dpo", "kto", "orpo", "reward", "grpo"]
Beta = Annotated[float, Field(gt=0, le=100)]
Weight = Annotated[float, Field(ge=-1000, le=1000)]


class Located(ValueError):
    """A complaint of a whole section about one of its keys: ``at`` leads to the key."""

    def __init__(self, at: tuple[str | int, ...], message: str) -> None:
        super().__init__(message)
        self.at = at


class Adapter(Document):
    """What is trained: a low-rank adapter (`lora`), one on a base in 4 bits (`qlora`, NVIDIA GPUs only), or every weight (`full`)."""

    type: Literal["lora", "qlora", "full"] = Field(
        "lora", description="lora: low-rank adapter; qlora: the same on a 4-bit (nf4) base, least memory, NVIDIA GPU; full: every weight, most memory."
    )
    r: Annotated[int, Field(ge=1, le=512)] = Field(16, description="Rank.")
    alpha: Annotated[int, Field(ge=1, le=1024)] = Field(32, description="Scale: the update is multiplied by alpha / r (rsLoRA: alpha / sqrt(r)).")
    dropout: Annotated[float, Field(ge=0, le=0.9)] = Field(
        0.05, description="Dropout on the adapter's input; dpo, kto, orpo and reward run without (TRL turns dropout off)."
    )
    target_modules: Literal["all-linear"] | tuple[Annotated[str, StringConstraints(strict=True, pattern=MODULE_PATTERN)], ...] = Field(
        "all-linear", description="Layers that get an adapter: all-linear, or module names such as [q_proj, v_proj]."
    )
    rslora: bool = Field(False, description="rsLoRA: scale by alpha / sqrt(r), so that a high rank learns as fast as a low one.")
    dora: bool = Field(False, description="DoRA: learn size and direction of each weight apart; a little better at low rank, clearly slower.")
    merge: bool = Field(
        False, description="Also give a merged model (16-bit base plus adapter), ready to serve; how far its logits are from the adapter's is recorded."
    )
    gguf: bool = Field(
        False, description="Also give the merged model as one GGUF file, in 16 bits, for llama.cpp: with `merge`, and an image that holds its converter."
    )

    @model_validator(mode="after")
    def _full_has_no_rank(self) -> "Adapter":
        if self.type == "full":
            for name, field in type(self).model_fields.items():
                if name != "type" and getattr(self, name) != field.default:
                    raise Located((name,), "is for lora and qlora; `type: full` trains every weight and has no adapter")
        return self


class Dpo(Document):
    """Direct preference optimization: rows with prompt, chosen and rejected."""

    beta: Beta = Field(0.1, description="How strongly the model is held to the base model; higher holds more.")
    loss_type: Literal["sigmoid", "sigmoid_norm", "hinge", "ipo", "robust", "apo_zero", "apo_down"] = Field(
        "sigmoid",
        description="sigmoid: DPO itself; ipo: does not run off on few, clear pairs; robust: where labels may be wrong; others: TRL's DPOConfig.",
    )
    label_smoothing: Annotated[float, Field(ge=0, le=0.49)] = Field(0.0, description="For robust: the share of pairs labelled the wrong way.")

    @model_validator(mode="after")
    def _smoothing_is_for_robust(self) -> "Dpo":
        if self.label_smoothing and self.loss_type != "robust":
            raise Located(("label_smoothing",), f"is for `loss_type: robust`, not {self.loss_type}")
        return self


class Kto(Document):
    """Kahneman-Tversky optimization: rows with prompt, completion and a label (true: good, false: bad), no pairs needed."""

    beta: Beta = Field(0.1, description="How strongly the model is held to the base model; higher holds more.")
    loss_type: Literal["kto", "apo_zero_unpaired"] = Field("kto", description="kto; apo_zero_unpaired does without the KL term.")
    desirable_weight: Annotated[float, Field(gt=0, le=1000)] = Field(1.0, description="Weight of the good rows: raise it where they are few.")
    undesirable_weight: Annotated[float, Field(gt=0, le=1000)] = Field(1.0, description="Weight of the bad rows: raise it where they are few.")


class Orpo(Document):
    """Odds-ratio preference optimization (TRL calls its trainer experimental): preference pairs without a reference model."""

    beta: Beta = Field(0.1, description="Weight of the preference against the plain loss (lambda in the paper).")


class Reward(Document):
    """Reward modelling: a model with one output, the score of an answer, from preference pairs."""

    center_rewards_coefficient: Annotated[float, Field(gt=0, le=10)] | None = Field(
        None, description="Pulls the mean score towards 0 (0.01 is usual); none: scores float."
    )


class RewardRule(Document):
    """One reward function of the packaged set; 0 to 1, times its weight."""

    name: Literal["exact_match", "contains", "numeric_match", "regex", "length", "json_valid", "think_format"] = Field(
        description="exact_match, contains, numeric_match (last number): against a column of the row; regex: a pattern is found; "
        "length: short enough; json_valid: one JSON value; think_format: <think>...</think>, then an answer."
    )
    weight: Weight = Field(1.0, description="Factor; negative punishes.")
    column: Annotated[str, StringConstraints(strict=True, pattern=COLUMN_PATTERN)] | None = Field(
        None, description="For exact_match, contains and numeric_match: the row's column with the right answer; `answer` where not given."
    )
    pattern: Annotated[str, StringConstraints(strict=True, pattern=REGEX_PATTERN)] | None = Field(
        None, description="For regex: a Python regular expression, searched in the completion."
    )
    max_characters: Annotated[int, Field(ge=1, le=10**6)] | None = Field(
        None, description="For length: full reward up to here, none from twice as many on; 1000 where not given."
    )

    @model_validator(mode="after")
    def _options_fit_the_name(self) -> "RewardRule":
        owners = {"column": ("exact_match", "contains", "numeric_match"), "pattern": ("regex",), "max_characters": ("length",)}
        for key, names in owners.items():
            if getattr(self, key) is not None and self.name not in names:
                raise Located((key,), f"is for {', '.join(names)}, not {self.name}")
        if self.name == "regex" and self.pattern is None:
            raise Located(("pattern",), "is missing: `regex` needs it")
        return self


class Grpo(Document):
    """Group relative policy optimization: prompts; the model's own answers are scored by reward functions."""

    rewards: Annotated[tuple[RewardRule, ...], Field(min_length=1, max_length=8)] = Field(description="Reward functions; their weighted sum is the reward.")
    num_generations: Annotated[int, Field(ge=2, le=256)] = Field(
        8, description="Answers for each prompt; divides training.global_batch_size, which counts answers."
    )
    max_completion_length: Annotated[int, Field(ge=1, le=65536)] = Field(256, description="Longest answer in tokens; the prompt has the rest of max_length.")
    temperature: Annotated[float, Field(gt=0, le=10)] = Field(1.0, description="Of the sampling of answers.")
    beta: Annotated[float, Field(ge=0, le=100)] = Field(0.0, description="Weight of the KL term against the base model; 0 needs no reference pass.")
    epsilon: Annotated[float, Field(gt=0, le=1)] = Field(0.2, description="Clipping of the policy ratio.")
    loss_type: Literal["dapo", "grpo", "dr_grpo", "bnpo"] = Field("dapo", description="How token losses are averaged; as in TRL's GRPOConfig.")


class Evaluation(Document):
    """Held-out rows during training; before and after it they are always measured."""

    interval_steps: Annotated[int, Field(ge=1, le=10**7)] | None = Field(None, description="Optimizer steps between two evaluations.")
    patience: Annotated[int, Field(ge=1, le=1000)] | None = Field(
        None, description="Stop early after so many evaluations in a row without improvement of the held-out loss (grpo: reward)."
    )
    min_improvement: Annotated[float, Field(ge=0, le=1000)] = Field(0.0, description="A smaller change of the held-out loss is no improvement.")
    keep_best: bool = Field(False, description="End with the adapter of the best evaluation, not with the last one.")


#: The option section of each method; `sft` has its options under `training` and `data`.
OPTIONS: dict[str, type[Document]] = {"dpo": Dpo, "kto": Kto, "orpo": Orpo, "reward": Reward, "grpo": Grpo}
#: Peak learning rates where the manifest gives none, for an adapter and for full training. Full: TRL's defaults (reward: a
#: tenth of it, which is one for adapters). Adapters: ten times as much (Thinking Machines, "LoRA Without Regret", 2025).
_LEARNING_RATES: dict[str, tuple[float, float]] = {
    "sft": (2e-4, 2e-5),
    "dpo": (1e-5, 1e-6),
    "kto": (1e-5, 1e-6),
    "orpo": (1e-5, 1e-6),
    "reward": (1e-4, 1e-5),
    "grpo": (1e-5, 1e-6),
}


def default_learning_rate(method: str, adapter: str) -> float:
    """Peak learning rate for a method and an adapter's type, where none is given."""
    return _LEARNING_RATES[method][adapter == "full"]


def options_of(job: Any) -> Document | None:
    """The options of ``job``'s method, defaults where it gives none. ``job`` is a manifest or a run file."""
    if job.method not in OPTIONS:
        return None
    given: Document | None = getattr(job, job.method)
    return given if given is not None else OPTIONS[job.method]()


def check_method(job: Any) -> None:
    """Raises Located for the first of ``job``'s choices that do not go together."""
    for at, message in _misfits(job):
        raise Located(at, message)


def _misfits(job: Any) -> Iterator[tuple[tuple[str | int, ...], str]]:
    training, adapter = job.training, job.adapter
    for name in OPTIONS:
        if name != job.method and getattr(job, name) is not None:
            yield (name,), f"is for `method: {name}`, but the method is {job.method}"
    if job.method != "sft" and training.loss_on != "assistant":
        yield ("training", "loss_on"), f"is for `method: sft`; {job.method} always compares completions"
    if adapter.gguf and not adapter.merge:
        yield ("adapter", "gguf"), "needs `merge: true`: the merged model is what becomes a GGUF file"
    if adapter.gguf and job.method == "reward":
        yield ("adapter", "gguf"), "is for models that speak; a reward model gives a score"
    if job.method == "kto" and training.micro_batch_size < 2 and (job.kto is None or job.kto.loss_type == "kto"):
        yield ("training", "micro_batch_size"), "must be 2 at least for kto: its KL term pairs the rows of a micro-batch"
    if job.method == "grpo":
        yield from _grpo_misfits(job)
    if job.evaluation.patience is not None and job.evaluation.interval_steps is None:
        yield ("evaluation", "patience"), "needs evaluation.interval_steps: without evaluations there is nothing to wait for"
    if job.evaluation.keep_best and job.evaluation.interval_steps is None:
        yield ("evaluation", "keep_best"), "needs evaluation.interval_steps: without evaluations there is no best"
    if job.evaluation.keep_best and adapter.type == "full":
        yield ("evaluation", "keep_best"), "is for adapters: each checkpoint would hold every weight of the model twice"


def _grpo_misfits(job: Any) -> Iterator[tuple[tuple[str | int, ...], str]]:
    training = job.training
    if job.grpo is None:
        yield ("grpo",), "is missing: `method: grpo` needs at least grpo.rewards, such as [{name: exact_match}]"
        return
    if training.global_batch_size % job.grpo.num_generations:
        yield ("grpo", "num_generations"), f"({job.grpo.num_generations}) does not divide training.global_batch_size ({training.global_batch_size})"
    if job.grpo.max_completion_length >= training.max_length:
        yield (
            ("grpo", "max_completion_length"),
            f"({job.grpo.max_completion_length}) leaves a prompt no room in training.max_length ({training.max_length})",
        )
