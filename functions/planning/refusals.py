"""What is refused before anything is paid: no memory for it, no time, no money; each with its numbers and the nearest that would do.

Only what is sure: memory 15 % over; hours at more of a GPU's peak than anything published; the lowest price that spot is sold at.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta

from jobspec.batches import least_micro_batch, undivided
from jobspec.instances import GPU_INSTANCES
from jobspec.manifest import Manifest
from jobspec.problems import problem
from jobspec.status import ProblemLine
from planning.estimate import FITS, TOO_LARGE, JobPlan, TypePlan, load_on
from planning.hardware import gpu_of
from planning.memory import GIB
from planning.speed import seconds_of

#: "Up to 90 % off": the lowest price that AWS names for spot, as a share of on-demand (EC2 Spot pages).
LEAST_SPOT_SHARE = 0.1
#: Rows are not cut shorter than this by a suggestion.
SHORTEST = 256


def refusals(plan: JobPlan, manifest: Manifest, now: datetime) -> tuple[ProblemLine, ...]:
    """What makes the job a sure loss; empty where it may well work."""
    return (*_split(plan, manifest), *_memory(plan, manifest), *_time(plan, manifest, now), *_money(plan, manifest))


def warnings(plan: JobPlan, manifest: Manifest, now: datetime) -> tuple[str, ...]:
    """What may go wrong, in sentences."""
    return tuple(_warnings(plan, manifest, now))


def _split(plan: JobPlan, manifest: Manifest) -> Iterator[ProblemLine]:
    """A step's rows that cannot be shared out evenly over the GPUs of a type that the job may run on."""
    for one in plan.types:
        if not one.micro_batch:
            told = undivided(plan.work.global_batch, one.ranks, least_micro_batch(manifest.method, manifest.kto))
            assert told is not None
            yield problem(
                ("training", "global_batch_size"),
                f"cannot be split evenly over the {one.ranks} GPUs of {_named(one)}",
                found=str(plan.work.global_batch),
                allowed=told.rpartition("is ")[2] + ", or other instance types",
            )
            return


def _named(one: TypePlan) -> str:
    return f"{one.nodes} {one.instance.name}" if one.nodes > 1 else one.instance.name


def _memory(plan: JobPlan, manifest: Manifest) -> Iterator[ProblemLine]:
    short = [one for one in plan.types if one.load > TOO_LARGE and one.micro_batch]
    if not short:
        return
    enough = [one for one in plan.types if one.verdict != "no"]
    compute = manifest.compute
    path = ("compute", "instance_types") if compute.instance_types is not None else ("compute", "gpu", "memory_gib")
    needs = f"rows of {plan.work.max_length} tokens, {short[-1].micro_batch} at a time, need about {short[-1].memory.total / GIB:.0f} GiB of GPU memory"
    found = ", ".join(f"{one.instance.name}: {gpu_of(one.instance).memory_bytes / GIB:.1f} GiB" for one in short)
    if not enough:
        changes = list(_nearest(plan, [one.instance.name for one in short]))
    elif compute.instance_types is not None:
        changes = [f"[{', '.join(one.instance.name for one in enough)}]"]
    else:
        changes = [f"{min(one.instance.gpu_memory_gib for one in enough):g}"]
    yield problem(path, f"lets the job start where it cannot fit: {needs}", found=found, allowed="; or ".join(changes) or "a smaller model")


def _nearest(plan: JobPlan, types: list[str]) -> Iterator[str]:
    """Changes, each of which alone would make the job fit on one of the types, or another offered type."""
    work, instances = plan.work, [GPU_INSTANCES[name] for name in types]

    def fits(**changes: int | str | bool) -> bool:
        return any(load_on(instance, plan.shape, work.having(**changes)) <= FITS for instance in instances)

    if not work.gradient_checkpointing and fits(gradient_checkpointing=True):
        yield "training.gradient_checkpointing: true"
    for adapter in {"full": ("lora", "qlora"), "lora": ("qlora",)}.get(work.adapter, ()):
        if fits(adapter=adapter):
            yield f"adapter.type: {adapter}"
            break
    length = work.max_length // 2
    while length >= SHORTEST:
        if fits(max_length=length):
            yield f"training.max_length: {length}"
            break
        length //= 2
    if work.dtype == "float32" and fits(dtype="auto"):
        yield "training.dtype: auto"
    others = sorted((one for one in GPU_INSTANCES.values() if load_on(one, plan.shape, work) <= FITS), key=lambda one: one.on_demand_usd_per_h)
    if others:
        yield f"compute.instance_types: [{', '.join(one.name for one in others[:2])}]"


def _time(plan: JobPlan, manifest: Manifest, now: datetime) -> Iterator[ProblemLine]:
    quickest = _quickest(plan)
    if quickest is None or quickest.hours is None:
        return
    least, limits = quickest.hours.least, manifest.limits
    if least > limits.max_runtime / 3600:
        yield problem(
            ("limits", "max_runtime"),
            f"is shorter than the job: {_at_least(quickest)}",
            found=f"{limits.max_runtime / 3600:.3g} h",
            allowed=f"{_hours(quickest.hours.typical)} (a guess), fewer epochs or steps, or a faster type{_faster(plan, limits.max_runtime / 3600)}",
        )
    if limits.deadline is not None and least > (limits.deadline - now).total_seconds() / 3600:
        left = (limits.deadline - now).total_seconds() / 3600
        yield problem(
            ("limits", "deadline"),
            f"comes before the job can be done, on-demand from the start included: {_at_least(quickest)}",
            found=f"{limits.deadline:%Y-%m-%d %H:%M} UTC, {left:.1f} h from now",
            allowed=f"{now + timedelta(hours=quickest.hours.typical):%Y-%m-%d %H:%M} UTC (a guess) or later, fewer epochs or steps, "
            f"or a faster type{_faster(plan, left)}",
        )


def _money(plan: JobPlan, manifest: Manifest) -> Iterator[ProblemLine]:
    priced = [(_least_usd(one, manifest), one) for one in plan.types if one.hours is not None]
    if not priced:
        return
    least, cheapest = min(priced, key=lambda pair: pair[0])
    if least <= manifest.limits.budget_usd:
        return
    on_demand = manifest.compute.market == "on-demand"
    typical = cheapest.usd_on_demand if on_demand else cheapest.usd_spot
    assert typical is not None
    share = "its on-demand price" if on_demand else "the lowest price that spot is sold at, a tenth of on-demand"
    yield problem(
        ("limits", "budget_usd"),
        f"cannot pay the job: {_at_least(cheapest)}, ${least:.2f} at {share}",
        found=f"${manifest.limits.budget_usd:.2f}",
        allowed=f"${typical.typical:.2f} or more (a guess), or fewer epochs or steps",
    )


def _least_usd(one: TypePlan, manifest: Manifest) -> float:
    assert one.hours is not None
    share = 1.0 if manifest.compute.market == "on-demand" else LEAST_SPOT_SHARE
    return one.hours.least * one.on_demand_usd_per_h * share * one.nodes


def _quickest(plan: JobPlan) -> TypePlan | None:
    timed = [(one.hours.least, at) for at, one in enumerate(plan.types) if one.hours is not None]
    return plan.types[min(timed)[1]] if timed else None


def _at_least(one: TypePlan) -> str:
    assert one.hours is not None
    return f"at the very least {_hours(one.hours.least)} on {one.instance.name}"


def _faster(plan: JobPlan, hours: float) -> str:
    """Offered types that would do it typically, or nothing."""
    work = plan.work
    fast = [
        one.name
        for one in sorted(GPU_INSTANCES.values(), key=lambda one: one.on_demand_usd_per_h)
        if seconds_of(plan.shape, replace(work), plan.rows, one).typical / 3600 <= hours and load_on(one, plan.shape, work) <= FITS
    ]
    return f", such as {fast[0]}" if fast else " (none offered is fast enough)"


def _hours(hours: float) -> str:
    return f"{hours * 60:.0f} minutes" if hours < 2 else f"{hours:.1f} hours"


def _warnings(plan: JobPlan, manifest: Manifest, now: datetime) -> Iterator[str]:
    tight = [one.instance.name for one in plan.types if one.verdict == "tight"]
    if tight:
        yield f"Memory may run out on {', '.join(tight)}."
    smaller = [one for one in plan.types if one.micro_batch < plan.work.micro_batch and one.verdict != "no"]
    if smaller:
        told = ", ".join(f"{one.micro_batch} on {one.instance.name}" for one in smaller)
        yield f"micro_batch_size {plan.work.micro_batch} is too large for a GPU or for its share of a step; the trainer would come down to {told}."
    yield from _methods(plan, manifest)
    late = [one.instance.name for one in plan.types if not one.save_in_time]
    if late:
        yield f"A last save takes longer than a spot notice on {', '.join(late)}: an interruption then costs the work since the newest save in S3."
    yield from _limits(plan, manifest, now)
    if not plan.rows and plan.work.max_steps is None:
        yield "How many rows there are is not known, so there is no guess of hours and dollars."


def _methods(plan: JobPlan, manifest: Manifest) -> Iterator[str]:
    idle = [one.instance.name for one in plan.types if one.ranks < one.nodes * one.instance.gpus]
    if idle:
        yield f"adapter.type full with method {manifest.method} is trained on one GPU: on {', '.join(idle)} the others would be idle."


def _limits(plan: JobPlan, manifest: Manifest, now: datetime) -> Iterator[str]:
    limits, timed = manifest.limits, [one.hours.typical for one in plan.types if one.hours is not None]
    if not timed:
        return
    shortest = min(timed)
    if shortest > limits.max_runtime / 3600:
        yield f"limits.max_runtime is {limits.max_runtime / 3600:.3g} h; the guess is {_hours(shortest)}."
    if limits.deadline is not None and now + timedelta(hours=shortest) > limits.deadline:
        yield f"limits.deadline is in {(limits.deadline - now).total_seconds() / 3600:.1f} h; the guess is {_hours(shortest)}."
    market = manifest.compute.market
    dollars = min(guess.typical for one in plan.types if (guess := one.usd_on_demand if market == "on-demand" else one.usd_spot) is not None)
    if dollars > limits.budget_usd:
        yield f"limits.budget_usd is ${limits.budget_usd:.2f}; the guess is ${dollars:.2f}."
