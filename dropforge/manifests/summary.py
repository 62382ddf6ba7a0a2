"""What a manifest would run, and the most it may cost, in two lines."""

from jobspec import on_demand
from jobspec.children import limit_usd
from jobspec.instances import PRICES_REGION
from jobspec.manifest import Manifest
from jobspec.units import duration_text


def summary(manifest: Manifest, home: str = PRICES_REGION) -> str:
    """``home``: the stack's region, where one is known."""
    types = manifest.compute.candidate_types()
    regions = manifest.compute.regions or (home,)
    cheapest = on_demand.least_usd_per_h(types[0], regions)
    limits = manifest.limits
    rows = " + ".join(source.called() for source in manifest.data.train_sources())
    more = ""
    if manifest.after is not None:
        what = "" if manifest.after.use == "nothing" else f", from its {manifest.after.use}"
        more += f"\nStarts when {manifest.after.job} has succeeded{what}."
    if (schedule := manifest.schedule) is not None:
        until = f", until {schedule.until:%Y-%m-%d %H:%M} UTC" if schedule.until is not None else ""
        more += f"\nBy schedule: {schedule.cron} ({schedule.timezone}){until}; one job at a time, each as above."
    if (sweep := manifest.sweep) is not None:
        more += (
            f"\nA sweep of {sweep.size} jobs, {sweep.concurrency} at a time, for ${sweep.budget_usd:g} in all and ${limit_usd(manifest):g} each; "
            f"the best by {sweep.metric} ({sweep.goal})."
        )
    if manifest.adapter.gguf:
        more += "\nadapter.gguf: only an image that holds llama.cpp's converter makes that file; Dropforge's own does not (docs/training.md, GGUF)."
    return (
        f"{manifest.name}: {manifest.model.reference()} on {rows}, {manifest.compute.market}, {', '.join(types)}\n"
        f"At most {duration_text(limits.max_runtime)} of instance time and ${limits.budget_usd:g}; "
        f"on-demand would be ${cheapest:.2f} an hour ({types[0]}, {' or '.join(regions)}), spot is usually well under half of that." + more
    )
