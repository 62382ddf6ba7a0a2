"""What a budget alert leads to: the account's or the project's may hold new launches, a job's own owes its owner a word."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from control_plane.core.events import BudgetAlerted
from control_plane.core.months import next_month
from control_plane.ports import HoldStore, Letter, Post, SpendStore
from jobspec.operator import Hold

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from control_plane.core.budget import BudgetAlert
    from control_plane.core.events import Hint
    from control_plane.core.state import Job


@dataclass(frozen=True, slots=True)
class Alerts:
    """Takes up alerts for one project. ``drive``: the driver's, which only a job's own alert needs. ``pause``: its BudgetAction says so."""

    project: str
    now: datetime
    post: Post
    holds: HoldStore
    spend: SpendStore
    drive: Callable[[str, Hint], Job | None]
    pause: bool

    def take_up(self, alert: BudgetAlert) -> str:
        """Act on the alert; returns what was done, in a sentence."""
        match alert.origin:
            case "ledger":
                job = self.drive(alert.job_id, BudgetAlerted())
                return f"{alert.job_id} was told of its budget" if job is not None else f"no job {alert.job_id}"
            case "project-ledger":
                return self._month_is_spent(alert)
            case "aws-budgets":
                return self._account_was_alerted(alert)

    def _month_is_spent(self, alert: BudgetAlert) -> str:
        """Once a month: after that a person's ``resume`` stands. Marked last, so that a crash in between tells twice rather than never."""
        month = alert.budget_name
        if self.spend.month(month).alerted:
            return f"the cap of {month} was told of before"
        done = self._held_until_next_month(f"MonthlyCapUsd is spent (${alert.amount_usd:.2f} of ${alert.budgeted_usd:.2f}, by Dropforge's ledger)")
        subject = f"{self.project}: this month's cap is spent, ${alert.amount_usd:.2f} of ${alert.budgeted_usd:.2f}"
        counted = f"Counted: instances of this stack's jobs in {month} (UTC), at the prices in force. What each cost: dropforge cost --stack {self.project}"
        go_on = f"Go on all the same: dropforge resume --stack {self.project}. For good: deploy with a higher MonthlyCapUsd."
        self._publish(f"{self.project}#cap#{month}", subject, f"{done}\n\n{counted}\n{go_on}\n")
        self.spend.mark_alerted(month, self.now)
        return done

    def _account_was_alerted(self, alert: BudgetAlert) -> str:
        if alert.is_spent:
            reason = f"AWS Budgets: {alert.budget_name or 'the monthly budget'} is spent (${alert.amount_usd:.2f} of ${alert.budgeted_usd:.2f})"
            done = self._held_until_next_month(reason)
        else:
            done = "Nothing was stopped; running jobs keep to their own budget_usd."
        amount = f"${alert.amount_usd:.2f}" if alert.amount_usd is not None else "an unreadable amount"
        subject = f"{self.project}: budget alert, {alert.alert_type.lower() or 'unread'} {amount}"
        self._publish(f"{self.project}#budget#{self.now:%Y-%m-%dT%H}", subject, f"{done}\n\nAWS Budgets figures are 8 to 12 hours late.\n\n{alert.message}\n")
        return done

    def _held_until_next_month(self, reason: str) -> str:
        """Holds new launches, where the stack's BudgetAction says so and nothing holds them yet; says what is so now."""
        stored = self.holds.current()
        if stored is not None and stored.holds_at(self.now):
            return "New launches are held already."
        if not self.pause:
            return "Nothing was stopped (BudgetAction is notify); running jobs keep to their own budget_usd."
        self.holds.put(Hold(reason=reason, since=self.now, until=next_month(self.now)))
        return f"New launches are held until {next_month(self.now):%Y-%m-%d}. Running jobs go on, each within its own budget_usd."

    def _publish(self, notice_id: str, subject: str, body: str) -> None:
        self.post.publish(Letter(notice_id, f"[Dropforge] {subject}"[:100], body, {"project": self.project, "kind": "budget"}))
