"""Planted bugs of ends: limits, cancellations, and a job that is over."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

from control_plane.core import closing, decide, ledger, placement, replacing
from control_plane.core.state import Job, JobState
from tests.simulation.planting import Patch, mutant


@mutant("an ended job goes on reading markers")
def _ends_do_not_absorb(patch: Patch) -> None:
    old = decide._look

    def look(job: Job, seen: Any, now: Any) -> Any:
        if job.ended and job.state is not JobState.SUCCEEDED and any(s is not None and s.marker is not None for s in seen.markers.values()):
            return job.model_copy(update={"state": JobState.SUCCEEDED}), []
        return old(job, seen, now)

    patch.set(decide, "_look", look)
    patch.set(closing, "end", _leaving_attempts_open(closing.owe))
    patch.set(decide, "end", _leaving_attempts_open(closing.owe))
    patch.set(replacing, "end", _leaving_attempts_open(closing.owe))


def _leaving_attempts_open(owe: Callable[..., Job]) -> Callable[..., Job]:
    return lambda job, state, reason, now: owe(closing.moved(job, state, reason, now), closing.NoticeKind.END, now)


@mutant("the run time of a job starts anew with each attempt")
def _deadline_per_attempt(patch: Patch) -> None:
    def stop_at(job: Job, now: Any) -> Any:
        assert job.manifest is not None
        return now + timedelta(seconds=job.manifest.limits.max_runtime)

    patch.set(placement, "stop_at", stop_at)


@mutant("the budget counts the newest attempt only")
def _budget_per_attempt(patch: Patch) -> None:
    patch.set(ledger, "job_cost_usd", lambda job, now: sum(ledger.cost_usd(a, now) for a in job.attempts[-1:] if a.gone_at is None))


@mutant("the budget is not looked at")
def _no_budget(patch: Patch) -> None:
    patch.set(ledger, "projected_usd", lambda job, now: 0.0)


@mutant("a deleted manifest is not noticed")
def _cancel_is_ignored(patch: Patch) -> None:
    old = decide._ended_by_order
    patch.set(
        decide, "_ended_by_order", lambda job, look, now: old(job.model_copy(update={"cancel_asked_at": None}), replace(look, manifest_present=None), now)
    )


@mutant("a job is settled while an instance of it still lives")
def _settled_too_early(patch: Patch) -> None:
    old = closing.is_clear

    def is_clear(job: Job) -> bool:
        return old(job.model_copy(update={"attempts": ()}))

    patch.set(closing, "is_clear", is_clear)
    patch.set(decide, "_owed", _without_ends(decide._owed))


def _without_ends(old: Callable[..., Any]) -> Callable[..., Any]:
    return lambda job, look, now: [] if job.ended else old(job, look, now)
