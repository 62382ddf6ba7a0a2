"""The run file, ``run.json``: what the agent asks of the trainer, and how the trainer answers. All paths are local.

Paths are relative to the folder of the run file, so that the same file holds on the host and inside the container.
``python -m trainer run RUN.json`` exits with an :class:`ExitCode`; it appends :class:`Progress` lines to
``progress_file``; it stops at the next step boundary, saved, once ``stop_file`` exists or SIGTERM came.
"""

from enum import IntEnum, StrEnum
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from jobspec.base import RELATIVE_PATH_PATTERN, Document, Finite, JobId, Sha256, Step, Text, UtcTime
from jobspec.compute import MAX_NODES
from jobspec.data import MAX_SOURCES, Columns, WantedFormat, Weight
from jobspec.manifest import Checkpoint, Training
from jobspec.marker import FailureCode, Results
from jobspec.methods import Adapter, Dpo, Evaluation, Grpo, Kto, Method, Orpo, Reward, check_method, default_learning_rate
from jobspec.saves import UPLOADED_NAME, Market
from jobspec.stages import StageSeconds

RelativePath = Annotated[str, StringConstraints(pattern=RELATIVE_PATH_PATTERN, max_length=512)]


#: An IPv4 address and a port.
RENDEZVOUS_PATTERN = r"^(\d{1,3}\.){3}\d{1,3}:\d{4,5}$"


class ExitCode(IntEnum):
    """What the trainer's exit status means. 75 is EX_TEMPFAIL of sysexits.h: try again later."""

    COMPLETED = 0
    FAILED = 1
    #: EX_IOERR: with several GPUs, one of the run's processes was ended from outside, here or on another instance. Nothing but the
    #: steps since the last checkpoint is lost: start again.
    LOST = 74
    INTERRUPTED = 75


#: Files of one source: a data set of the hub has its rows in dozens at most.
MAX_FILES = 200


class RunSource(Document):
    """Rows that count alike: one file, or several that are read as one, in this order."""

    files: Annotated[tuple[RelativePath, ...], Field(min_length=1, max_length=MAX_FILES)]
    #: How messages call it; its first file's path where empty.
    called: Annotated[str, StringConstraints(max_length=1100)] = ""
    #: How often each row counts in one epoch (``data.train`` in the manifest).
    weight: Weight = 1.0


class RunFile(Document):
    version: Literal[1] = 1
    job_id: JobId
    #: How the base model is named in the adapter's configuration and the model card.
    model_reference: Annotated[str, StringConstraints(max_length=1100)]
    model_dir: RelativePath = "model"
    #: A finished adapter to go on with, and the job that made it; a new adapter is begun where there is none.
    start_dir: RelativePath | None = None
    start_reference: Annotated[str, StringConstraints(max_length=1100)] = ""
    train_file: RelativePath = "data/train.jsonl"
    eval_file: RelativePath | None = None
    #: Instead of ``train_file`` and ``eval_file``, where the manifest names more than one.
    train_from: Annotated[tuple[RunSource, ...], Field(max_length=MAX_SOURCES)] = ()
    eval_from: Annotated[tuple[RunSource, ...], Field(max_length=MAX_SOURCES)] = ()
    data_format: WantedFormat = "auto"
    columns: Columns = Columns()
    eval_fraction: Annotated[float, Field(ge=0, le=0.5)] = 0.05
    method: Method = "sft"
    dpo: Dpo | None = None
    kto: Kto | None = None
    orpo: Orpo | None = None
    reward: Reward | None = None
    grpo: Grpo | None = None
    adapter: Adapter = Adapter()
    training: Training = Training()
    evaluation: Evaluation = Evaluation()
    checkpoint: Checkpoint = Checkpoint()
    #: The rows, tokenised and checked: made once, and taken from here by a resumed attempt (``jobspec.prepared``).
    prepared_dir: RelativePath = "prepared"
    #: Checkpoints live in ``checkpoints_dir/step-00000120/``; the agent puts downloaded ones there as well.
    checkpoints_dir: RelativePath = "checkpoints"
    #: The finished adapter, tokenizer, chat template, base revision, metrics and model card; complete once it exists.
    final_dir: RelativePath = "final"
    progress_file: RelativePath = "progress.jsonl"
    stop_file: RelativePath = "stop"
    #: Where the agent tells what the last upload took (``jobspec.saves.Uploaded``).
    published_file: RelativePath = UPLOADED_NAME
    #: Of the instance, as the ticket has it.
    market: Market = "spot"
    launched_at: UtcTime | None = None
    #: GPUs to train on in this instance, each with a process of its own; on a machine without a GPU so many processes on the CPU.
    processes: Annotated[int, Field(ge=1, le=64)] = 1
    #: Instances that train together, each with its own run file and as many processes; which of them this one is (0 leads: it alone
    #: writes checkpoints and the final folder), and where it listens for the others.
    nodes: Annotated[int, Field(ge=1, le=MAX_NODES)] = 1
    node_rank: Annotated[int, Field(ge=0, lt=MAX_NODES)] = 0
    rendezvous: Annotated[str, StringConstraints(pattern=RENDEZVOUS_PATTERN)] | None = None

    @property
    def ranks(self) -> int:
        """Processes that train together."""
        return self.processes * self.nodes

    @property
    def leads(self) -> bool:
        return self.node_rank == 0

    def train_sources(self) -> tuple[RunSource, ...]:
        """Where the training rows are, whichever way it was said."""
        return self.train_from or (RunSource(files=(self.train_file,)),)

    def eval_sources(self) -> tuple[RunSource, ...]:
        """Where the held-out rows are; empty where some of the training rows are held out."""
        return self.eval_from or ((RunSource(files=(self.eval_file,)),) if self.eval_file else ())

    @model_validator(mode="after")
    def _choices_go_together(self) -> "RunFile":
        check_method(self)
        if self.node_rank >= self.nodes:
            raise ValueError(f"node_rank {self.node_rank} is none of {self.nodes} nodes")
        if (self.nodes > 1) is not (self.rendezvous is not None):
            raise ValueError("several nodes, and only they, need a rendezvous: address:port of node 0")
        return self

    def resolved(self) -> "RunFile":
        """The same run with nothing left to a default that depends on something else: the learning rate."""
        if self.training.learning_rate is not None:
            return self
        rate = default_learning_rate(self.method, self.adapter.type)
        return self.model_copy(update={"training": self.training.model_copy(update={"learning_rate": rate})})


class ProgressKind(StrEnum):
    DATA = "data"  # rows, lengths, share supervised, rows cut
    STARTED = "started"  # model loaded; total_steps is known
    RESUMED = "resumed"  # from which checkpoint, and which were passed over and why (message)
    STEP = "step"
    EVAL = "eval"
    CHECKPOINT = "checkpoint"  # published locally at `step`
    SAMPLE = "sample"  # one answer of the model, before or after
    WARNING = "warning"  # a loss that stands out, a micro-batch that did not fit: the run goes on
    INTERRUPTED = "interrupted"
    COMPLETED = "completed"
    FAILED = "failed"


class Progress(Document):
    """One line of ``progress_file``. Losses are mean cross-entropy per supervised token (nats)."""

    kind: ProgressKind
    at: UtcTime
    step: Step = 0
    total_steps: Step | None = None
    loss: Finite | None = None
    learning_rate: Finite | None = None
    tokens_per_s: Finite | None = None
    #: Seconds that what this line reports took: a load, a save until it was on the disk, an evaluation.
    seconds: Finite | None = None
    #: Of a checkpoint: seconds in which no step was taken, and seconds until the next save, as reckoned now.
    stall_s: Finite | None = None
    next_s: Finite | None = None
    #: Of the first line of steps that a trainer writes: seconds of each stage from its start to the end of its first step.
    stages_s: StageSeconds = Field(default_factory=dict)
    message: Text = ""
    failure: FailureCode | None = None


class TrainerResults(Results):
    """``final/results.json``: the marker's results and the digests that prove a resume exact."""

    data_sha256: Sha256
    model_sha256: Sha256
    #: Of the adapter's file, or of the whole model's.
    weights_sha256: Sha256
    #: What the method counts besides its loss on the held-out rows, before training.
    eval_metrics_before: dict[str, Finite] = Field(default_factory=dict)
    #: The step whose weights were taken, where the best ones were asked for.
    best_step: Step | None = None
    stopped_early: bool = False
    #: Largest difference between the logits of adapter and merged model, and the largest logit there.
    merged_logit_difference: Finite | None = None
    merged_largest_logit: Finite | None = None
    #: Why there is no GGUF file, where one was asked for and the converter gave none.
    gguf_problem: Text = ""
