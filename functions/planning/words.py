"""A plan in a sentence, for a status, an e-mail or a terminal."""

from jobspec.manifest import Manifest
from planning.estimate import JobPlan, TypePlan
from planning.memory import GIB
from planning.speed import Guess


def expectation(plan: JobPlan, manifest: Manifest) -> str:
    """What to expect on the cheapest type that has room, or on the roomiest one."""
    best = preferred(plan, manifest)
    memory = f"about {best.memory.total / GIB:.0f} of {best.gpu_bytes / GIB:.0f} GiB of GPU memory on {best.instance.name}"
    if best.hours is None or best.usd_spot is None or best.usd_on_demand is None:
        return f"Expected: {memory}."
    dollars = f"${best.usd_spot.typical:.2f} on spot, ${best.usd_on_demand.typical:.2f} on demand"
    return f"Expected, by guess: {hours(best.hours)}, {dollars}; {memory}."


def preferred(plan: JobPlan, manifest: Manifest) -> TypePlan:
    """The type that a person would take: it has room, and the whole job costs least there."""
    on_demand = manifest.compute.market == "on-demand"

    def worth(one: TypePlan) -> tuple[bool, float]:
        price = one.on_demand_usd_per_h if on_demand else one.instance.spot_usd_per_h
        return one.verdict == "no", price * (one.hours.typical if one.hours is not None else 1)

    return min(plan.types, key=worth)


def hours(guess: Guess) -> str:
    """``1.8 h (0.3 to 4.5)``, in minutes where it is short."""
    if guess.most < 1.5:
        return f"{guess.typical * 60:.0f} min ({guess.least * 60:.0f} to {guess.most * 60:.0f})"
    return f"{guess.typical:.1f} h ({guess.least:.1f} to {guess.most:.1f})"
