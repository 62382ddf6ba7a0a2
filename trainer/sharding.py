"""What a run may be on several GPUs: how its batch is split over them, and which methods, settings and checkpoints do not go there."""

from jobspec.batches import SHARDED_METHODS, least_micro_batch, micro_batches, undivided
from jobspec.marker import FailureCode
from jobspec.runfile import RunFile
from trainer.checkpoints import Choice
from trainer.failures import TrainerFailure


def check_sharding(run: RunFile, dtype: str) -> None:
    """What full training on several GPUs does not do: raises TrainerFailure with what to choose instead."""
    lacks = None
    if run.adapter.type != "full" or run.ranks == 1:
        return
    if dtype == "float16":
        lacks = "training.dtype float16, whose gradient scaler knows no shards: choose bfloat16 or float32"
    elif run.method not in SHARDED_METHODS:
        lacks = f"method {run.method}, only for {' and '.join(SHARDED_METHODS)}: choose adapter.type lora, or an instance type with one GPU"
    if lacks:
        raise TrainerFailure(FailureCode.TRAINER_ERROR, f"adapter.type full on several GPUs is not for {lacks}.")


def micro_batches_of(run: RunFile) -> tuple[int, ...]:
    """The sizes to try, the largest first. Raises TrainerFailure where the run cannot be split over its GPUs."""
    check_sharding(run, run.training.dtype)
    least = least_micro_batch(run.method, run.kto)
    whole = run.training.global_batch_size
    if told := undivided(whole, run.ranks, least if run.ranks > 1 else 1):
        raise TrainerFailure(FailureCode.TRAINER_ERROR, f"{told}. Change it, or take an instance type with another number of GPUs.")
    return micro_batches(whole, run.training.micro_batch_size, run.ranks, least)


def check_ranks(run: RunFile, choice: Choice) -> None:
    """Raises TrainerFailure (identity_changed) where the checkpoint cannot be continued on this number of GPUs."""
    if choice.folder is not None and run.adapter.type == "full" and (choice.ranks == 1) is not (run.ranks == 1):
        raise TrainerFailure(
            FailureCode.IDENTITY_CHANGED,
            f"{choice.folder.name} was made by {choice.ranks} GPUs or processes, this run has {run.ranks}: adapter.type full keeps its optimizer otherwise on "
            "one than on several, and starting it afresh would change the training. Take an instance type with as many GPUs, or submit a new job.",
        )
