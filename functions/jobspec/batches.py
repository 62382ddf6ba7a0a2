"""How a step's rows are split over micro-batches and GPUs. The global batch is what the user asked for: it is never changed.

Rows of a step = micro-batch x accumulation x GPUs. The trainer splits so, and a plan reckons with it.
"""

from jobspec.methods import Kto, Method

#: Methods whose full training is shared out over several GPUs; the others hold a second model beside, or a part that is drawn new.
SHARDED_METHODS = ("sft", "orpo")


def gpus_used(gpus: int, method: str, adapter: str) -> int:
    """Of an instance's GPUs those that train: all of them, or one where full training is not shared out."""
    return 1 if adapter == "full" and method not in SHARDED_METHODS else gpus


def least_micro_batch(method: Method, kto: Kto | None) -> int:
    """Rows that a micro-batch needs: KTO's own loss pairs those of one."""
    return 2 if method == "kto" and (kto is None or kto.loss_type == "kto") else 1


def micro_batches(global_batch: int, wanted: int, ranks: int = 1, least: int = 1) -> tuple[int, ...]:
    """Micro-batches of one GPU: the largest that is no larger than ``wanted``, then about half of it again and again; each divides the GPU's share.

    Empty where the global batch cannot be split over so many GPUs (:func:`undivided` says why).
    """
    share = global_batch // ranks
    if share * ranks != global_batch:
        return ()
    sizes: list[int] = []
    most = wanted
    while fitting := [size for size in range(least, most + 1) if share % size == 0]:
        sizes.append(fitting[-1])
        most = sizes[-1] // 2
    return tuple(sizes)


def undivided(global_batch: int, ranks: int, least: int = 1) -> str | None:
    """Why the global batch cannot be split over so many GPUs, and the nearest that can; None where it can."""
    share = ranks * least
    if global_batch % share == 0:
        return None
    below = global_batch // share * share
    nearest = f"{below} or {below + share}" if below else f"{share}"
    each = "" if least == 1 else f", {least} rows of a micro-batch at least for each"
    return f"training.global_batch_size {global_batch} cannot be split evenly over {ranks} GPUs{each}: the nearest that can is {nearest}"
