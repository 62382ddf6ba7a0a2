"""The birth of a job: accepted, refused, or refused beside an active one. A version of a manifest has one job id for ever."""

import hashlib
from datetime import datetime

from control_plane.core.closing import owe
from control_plane.core.events import Offers
from control_plane.core.kin import Parent
from control_plane.core.state import Job, JobState, ManifestRef, NoticeKind, Transition
from jobspec.children import Child, instance_of
from jobspec.manifest import Manifest
from jobspec.reading import past_deadline
from jobspec.regions import region_of
from jobspec.status import ProblemLine
from jobspec.sweep import told


def job_id_of(name: str, ref: ManifestRef) -> str:
    """``<name>-<10 hex digits>``: the same for every delivery of the same event, another for the next version."""
    digest = hashlib.sha256(f"{ref.bucket}/{ref.key}/{ref.version_id}".encode()).hexdigest()
    return f"{name}-{digest[:10]}"


def accepted(manifest: Manifest, ref: ManifestRef, now: datetime, remark: str = "") -> Job:
    """A job that begins. ``remark``: what its plan expects."""
    reason = f"the manifest is valid. {remark}" if remark else "the manifest is valid"
    job = _born(manifest.name, ref, manifest, JobState.ACCEPTED, reason[:500], now)
    return owe(job, NoticeKind.ACCEPTED, now)


def born_of(parent: Job, child: Child, limit_usd: float, now: datetime) -> Job:
    """A job of a sweep, accepted with it: its manifest lies where the sweep's does, and is deleted with it."""
    assert parent.manifest is not None
    assert parent.manifest.sweep is not None
    limits = child.manifest.limits.model_copy(update={"budget_usd": limit_usd})
    job = _born(
        child.name,
        parent.manifest_ref,
        child.manifest.model_copy(update={"limits": limits}),
        JobState.ACCEPTED,
        f"of sweep {parent.name}: {told(child.choice)}"[:500],
        now,
    )
    job = job.model_copy(update={"parent": Parent(job_id=parent.job_id, name=parent.name, mails=parent.manifest.sweep.mails == "each")})
    return owe(job, NoticeKind.ACCEPTED, now)


def born_at(schedule: Job, at: datetime, now: datetime) -> Job:
    """The job, or the sweep, that a schedule puts at one of its times. It sends its own e-mails."""
    assert schedule.manifest is not None
    manifest = instance_of(schedule.manifest, at)
    job = _born(manifest.name, schedule.manifest_ref, manifest, JobState.ACCEPTED, f"of schedule {schedule.name}, for {at:%Y-%m-%d %H:%M} UTC", now)
    job = job.model_copy(update={"parent": Parent(job_id=schedule.job_id, name=schedule.name, mails=True)})
    return owe(job, NoticeKind.ACCEPTED, now)


def rejected(name: str, ref: ManifestRef, problems: tuple[ProblemLine, ...], now: datetime, *, beside: str | None = None) -> Job:
    """A job that ends where it begins: its problems, one e-mail, a status object. ``beside``: the active job it ran into."""
    reason = (
        f"{len(problems)} problem(s) in the manifest; the first: {problems[0].path or 'the manifest'} {problems[0].message}"
        if problems
        else "the manifest was refused"
    )
    job = _born(name, ref, None, JobState.REJECTED, reason[:500], now)
    return owe(job.model_copy(update={"problems": problems, "refused_beside": beside}), NoticeKind.END, now)


def late_problems(manifest: Manifest, offers: Offers, peers: tuple[str, ...], now: datetime) -> tuple[ProblemLine, ...]:
    """What only the stack and the clock can say of a manifest that is valid in itself. ``peers``: the stack's other regions, read or not."""
    problems = list(past_deadline(manifest, now))
    zones = sorted(zone for one in (offers, *offers.peers) for zone in one.subnets)
    unread = set(peers) - {one.region for one in offers.peers}
    regions = (offers.region, *peers)
    strange = [region for region in manifest.compute.regions or () if region not in regions]
    if strange:
        problems.append(
            ProblemLine(
                path="compute.regions",
                message="names a region that this stack has no peer in (parameter PeerRegions)",
                found=", ".join(strange),
                allowed=", ".join(regions),
            )
        )
    wanted = manifest.compute.zones
    if wanted is not None and not any(zone in zones or region_of(zone) in unread for zone in wanted):
        problems.append(ProblemLine(path="compute.zones", message="names no zone of this stack", found=", ".join(wanted), allowed=", ".join(zones)))
    return tuple(problems)


def _born(name: str, ref: ManifestRef, manifest: Manifest | None, state: JobState, reason: str, now: datetime) -> Job:
    return Job(
        job_id=job_id_of(name, ref),
        name=name,
        manifest_ref=ref,
        manifest=manifest,
        state=state,
        reason=reason,
        accepted_at=now,
        updated_at=now,
        history=(Transition(at=now, state=state, reason=reason),),
    )
