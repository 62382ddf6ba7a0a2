"""What a budget alert leads to: the account's or the project's may hold new launches, a job's own owes its owner a word."""

from datetime import datetime

from control_plane.core.budget import BudgetAlert
from control_plane.core.events import BudgetAlerted
from control_plane.core.ledger import next_month
from control_plane.driver import Driver
from control_plane.ports import HoldStore, Letter, SpendStore
from jobspec.operator import Hold


def take_up(alert: BudgetAlert, driver: Driver, holds: HoldStore, spend: SpendStore, *, pause: bool) -> str:
    """Act on the alert; returns what was done, in a sentence."""
    match alert.origin:
        case "ledger":
            job = driver.drive(alert.job_id, BudgetAlerted())
            return f"{alert.job_id} was told of its budget" if job is not None else f"no job {alert.job_id}"
        case "project-ledger":
            return _month_is_spent(alert, driver, holds, spend, pause=pause)
        case "aws-budgets":
            return _account_was_alerted(alert, driver, holds, pause=pause)


def _month_is_spent(alert: BudgetAlert, driver: Driver, holds: HoldStore, spend: SpendStore, *, pause: bool) -> str:
    """Once a month: after that a person's ``resume`` stands. Marked last, so that a crash in between tells twice rather than never."""
    month, now = alert.budget_name, driver.clock()
    if spend.month(month).alerted:
        return f"the cap of {month} was told of before"
    done = _held_until_next_month(
        f"MonthlyCapUsd is spent (${alert.amount_usd:.2f} of ${alert.budgeted_usd:.2f}, by Dropforge's ledger)", holds, now, pause=pause
    )
    subject = f"{driver.project}: this month's cap is spent, ${alert.amount_usd:.2f} of ${alert.budgeted_usd:.2f}"
    counted = f"Counted: instances of this stack's jobs in {month} (UTC), at the prices in force. What each cost: dropforge cost --stack {driver.project}"
    go_on = f"Go on all the same: dropforge resume --stack {driver.project}. For good: deploy with a higher MonthlyCapUsd."
    _publish(driver, f"{driver.project}#cap#{month}", subject, f"{done}\n\n{counted}\n{go_on}\n")
    spend.mark_alerted(month, now)
    return done


def _account_was_alerted(alert: BudgetAlert, driver: Driver, holds: HoldStore, *, pause: bool) -> str:
    now = driver.clock()
    if alert.is_spent:
        reason = f"AWS Budgets: {alert.budget_name or 'the monthly budget'} is spent (${alert.amount_usd:.2f} of ${alert.budgeted_usd:.2f})"
        done = _held_until_next_month(reason, holds, now, pause=pause)
    else:
        done = "Nothing was stopped; running jobs keep to their own budget_usd."
    amount = f"${alert.amount_usd:.2f}" if alert.amount_usd is not None else "an unreadable amount"
    subject = f"{driver.project}: budget alert, {alert.alert_type.lower() or 'unread'} {amount}"
    _publish(driver, f"{driver.project}#budget#{now:%Y-%m-%dT%H}", subject, f"{done}\n\nAWS Budgets figures are 8 to 12 hours late.\n\n{alert.message}\n")
    return done


def _held_until_next_month(reason: str, holds: HoldStore, now: datetime, *, pause: bool) -> str:
    """Holds new launches, where the stack's BudgetAction says so and nothing holds them yet; says what is so now."""
    stored = holds.current()
    if stored is not None and stored.holds_at(now):
        return "New launches are held already."
    if not pause:
        return "Nothing was stopped (BudgetAction is notify); running jobs keep to their own budget_usd."
    holds.put(Hold(reason=reason, since=now, until=next_month(now)))
    return f"New launches are held until {next_month(now):%Y-%m-%d}. Running jobs go on, each within its own budget_usd."


def _publish(driver: Driver, notice_id: str, subject: str, body: str) -> None:
    driver.post.publish(Letter(notice_id, f"[Dropforge] {subject}"[:100], body, {"project": driver.project, "kind": "budget"}))
