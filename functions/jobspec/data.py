"""The manifest's ``data`` section: files and their weights, formats of rows, and which method learns from which format."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from jobspec.base import Document
from jobspec.places import Commit, HubFile, HubId, Location, one_of

Format = Literal["chat", "prompt-completion", "text", "preference", "binary-preference", "prompt"]
#: What a manifest may ask for. Written out, not a union: a schema then says one list of choices.
WantedFormat = Literal["auto", "chat", "prompt-completion", "text", "preference", "binary-preference", "prompt"]

#: The rows that each method learns from.
FORMATS_OF: dict[str, tuple[Format, ...]] = {
    "sft": ("chat", "prompt-completion", "text"),
    "dpo": ("preference",),
    "orpo": ("preference",),
    "reward": ("preference",),
    "kto": ("binary-preference",),
    "grpo": ("prompt",),
}

DATA_COLUMN_PATTERN = r"^[A-Za-z0-9_][A-Za-z0-9 ._-]{0,63}$"
ColumnName = Annotated[str, StringConstraints(strict=True, pattern=DATA_COLUMN_PATTERN)]
#: How often a row may count for one that counts once.
Weight = Annotated[float, Field(gt=0, le=100)]
MAX_SOURCES = 32


def methods_for(found: str) -> tuple[str, ...]:
    """The methods that learn from rows of this format."""
    return tuple(method for method, formats in FORMATS_OF.items() if found in formats)


class Source(Document):
    """One of several sources of rows: `path`, or `hub` with `revision` and `file`."""

    model_config = one_of(("path",), ("hub", "revision", "file"))

    path: Location | None = Field(None, description="A file in S3: `s3://bucket/key` (this stack's or of its parameter ReadBuckets), or a key in this bucket.")
    hub: HubId | None = Field(None, description="Instead of path: a data set of the Hugging Face hub, such as HuggingFaceH4/ultrachat_200k.")
    revision: Commit | None = Field(None, description="The data set's commit, 40 hexadecimal digits.")
    file: HubFile | None = Field(None, description="Its file or files: data/train.jsonl, or data/train-*.parquet.")
    weight: Weight = Field(
        1.0, description="How often each row counts in one epoch: 3 takes each three times, 0.5 takes half of them, drawn by training.seed. Not for `eval`."
    )

    @model_validator(mode="after")
    def _one_place(self) -> "Source":
        if (self.path is None) == (self.hub is None):
            raise ValueError("give either `path`, or `hub` with `revision` and `file`")
        if len({self.hub is None, self.revision is None, self.file is None}) != 1:
            raise ValueError("`hub` needs `revision` (a 40-digit commit) and `file`; `path` takes neither")
        return self

    def called(self) -> str:
        """How messages call it."""
        return self.path or f"{self.hub}@{(self.revision or '')[:12]}/{self.file}"


Sources = Annotated[tuple[Source, ...], Field(min_length=1, max_length=MAX_SOURCES)]


class Columns(Document):
    """What the data set calls its columns, where that is not what Dropforge calls them."""

    messages: ColumnName | None = Field(None, description="A chat's messages, such as conversations.")
    prompt: ColumnName | None = Field(None, description="The prompt, such as question or instruction.")
    completion: ColumnName | None = Field(None, description="The completion, such as answer or response.")
    text: ColumnName | None = Field(None, description="The text, such as content.")
    chosen: ColumnName | None = Field(None, description="The preferred answer.")
    rejected: ColumnName | None = Field(None, description="The other answer.")
    label: ColumnName | None = Field(None, description="true for a good completion, false for a bad one.")

    def named(self) -> dict[str, str]:
        """Our name to theirs, where they differ."""
        return {ours: theirs for ours, theirs in self.model_dump().items() if theirs is not None and theirs != ours}


class Data(Document):
    """The rows to learn from: JSON Lines (plain, gzip or zstd) or Parquet. docs/data.md has an example of every format."""

    train: Location | Sources = Field(
        description="A file: `s3://bucket/key` (this stack's or of its parameter ReadBuckets), or a key in this bucket. Or a list of sources with weights."
    )
    eval: Location | Sources | None = Field(None, description="Held-out rows; without them `eval_fraction` of the training rows is held out.")
    format: WantedFormat = Field(
        "auto",
        description="chat: {messages: [{role, content}]}; prompt-completion: {prompt, completion}; text: {text}; preference: {prompt, chosen, rejected}; "
        "binary-preference: {prompt, completion, label}; prompt: {prompt} and what the reward functions read. "
        "auto looks at the first row, and which formats the method learns from, and holds all rows to it.",
    )
    columns: Columns = Columns()
    eval_fraction: Annotated[float, Field(ge=0, le=0.5)] = Field(
        0.05, description="Share of the training rows held out when `eval` is not given; 0 holds out none."
    )

    @model_validator(mode="after")
    def _eval_counts_once(self) -> "Data":
        if any(source.weight != 1 for source in self.eval_sources()):
            raise ValueError("held-out rows are counted once: leave `weight` out of data.eval")
        return self

    def train_sources(self) -> tuple[Source, ...]:
        """``train`` as a list, whichever way it was written."""
        return _as_sources(self.train)

    def eval_sources(self) -> tuple[Source, ...]:
        """``eval`` as a list, empty where there is none."""
        return _as_sources(self.eval)


def _as_sources(written: "str | tuple[Source, ...] | None") -> tuple[Source, ...]:
    return (Source(path=written),) if isinstance(written, str) else written or ()
