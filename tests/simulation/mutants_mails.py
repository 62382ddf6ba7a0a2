"""Planted bugs of e-mails: claims, the publish ledger, and what is told of an end."""

from datetime import timedelta
from typing import Any

from control_plane import driver as driver_room
from control_plane.adapters import publish_ledger
from control_plane.core import accept, closing
from control_plane.core.state import Job, JobState
from tests.simulation.planting import Patch, mutant


@mutant("an e-mail is published before it is claimed")
def _published_before_it_is_claimed(patch: Patch) -> None:
    def claim(job: Job, now: Any) -> Any:
        due = [n for n in job.notices if closing._is_due(job, n, now)]
        return job, [closing.Publish(n.notice_id) for n in due]

    patch.set(closing, "claim_notices", claim)
    patch.set(driver_room.Driver, "_publish", _publish_unclaimed)


def _publish_unclaimed(self: Any, job: Job, notice_id: str) -> Any:
    notice = next(n for n in job.notices if n.notice_id == notice_id)
    self.post.publish(self._letter(job, notice))
    return driver_room.NoticePublished(notice_id)


@mutant("an e-mail is marked as published when it is claimed")
def _marked_before_it_is_published(patch: Patch) -> None:
    old = closing.claim_notices

    def claim(job: Job, now: Any) -> Any:
        job, letters = old(job, now)
        marked = tuple(n.model_copy(update={"published_at": now}) if n.claimed_at == now else n for n in job.notices)
        return job.model_copy(update={"notices": marked}), letters

    patch.set(closing, "claim_notices", claim)


@mutant("a claim that nobody marked is published again, whatever the ledger says")
def _the_ledger_is_not_asked(patch: Patch) -> None:
    old = closing.reckoned
    patch.set(closing, "reckoned", lambda job, in_ledger, now: old(job, dict.fromkeys(in_ledger, False), now))


@mutant("the ledger notes nothing")
def _the_ledger_is_not_kept(patch: Patch) -> None:
    patch.set(publish_ledger.DynamoLedger, "note", lambda self, notice_id, message_id, at: 1)


@mutant("a claim that nobody marked is left alone")
def _never_published_again(patch: Patch) -> None:
    patch.set(closing, "CLAIM_LASTS", timedelta(days=30))


@mutant("a claim is given up while its publish may still be under way")
def _claims_are_short(patch: Patch) -> None:
    patch.set(closing, "CLAIM_LASTS", timedelta(seconds=1))


@mutant("a cancelled job ends without an e-mail")
def _cancelled_in_silence(patch: Patch) -> None:
    old = closing.owe

    def owe(job: Job, kind: Any, now: Any, **named: Any) -> Job:
        return job if job.state is JobState.CANCELLED else old(job, kind, now, **named)

    patch.set(closing, "owe", owe)


@mutant("a refused manifest ends without an e-mail")
def _rejected_in_silence(patch: Patch) -> None:
    old = accept.owe
    patch.set(accept, "owe", lambda job, kind, now: job if job.state is JobState.REJECTED else old(job, kind, now))


@mutant("the e-mail of an end is published before the end is saved")
def _told_before_it_is_true(patch: Patch) -> None:
    old = driver_room.Driver._save

    def save(self: Any, job: Job, event: Any) -> Any:
        decision = driver_room.decide(job, event, self.clock())
        for action in decision.actions:
            if isinstance(action, closing.Publish) and action.notice_id.endswith("#end"):
                self._performed(decision.job, action, [])
        return old(self, job, event)

    patch.set(driver_room.Driver, "_save", save)
