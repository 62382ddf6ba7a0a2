"""What a budget alert leads to: the account's may hold new launches, a job's own owes its owner a word."""

from control_plane.core.budget import BudgetAlert, next_month
from control_plane.core.events import BudgetAlerted
from control_plane.driver import Driver
from control_plane.ports import HoldStore, Letter
from jobspec.operator import Hold


def take_up(alert: BudgetAlert, driver: Driver, holds: HoldStore, *, pause: bool) -> str:
    """Act on the alert; returns what was done, in a sentence."""
    if alert.origin == "ledger":
        job = driver.drive(alert.job_id, BudgetAlerted())
        return f"{alert.job_id} was told of its budget" if job is not None else f"no job {alert.job_id}"
    now = driver.clock()
    stored = holds.current()
    held = stored if stored is not None and stored.holds_at(now) else None
    if alert.is_spent and pause and held is None:
        reason = f"AWS Budgets: {alert.budget_name or 'the monthly budget'} is spent (${alert.amount_usd:.2f} of ${alert.budgeted_usd:.2f})"
        holds.put(Hold(reason=reason, since=now, until=next_month(now)))
        done = f"New launches are held until {next_month(now):%Y-%m-%d}. Running jobs go on, each within its own budget_usd."
    elif held is not None:
        done = "New launches are held already."
    else:
        done = "Nothing was stopped; running jobs keep to their own budget_usd."
    amount = f"${alert.amount_usd:.2f}" if alert.amount_usd is not None else "an unreadable amount"
    subject = f"[Dropforge] {driver.project}: budget alert, {alert.alert_type.lower() or 'unread'} {amount}"
    body = f"{done}\n\nAWS Budgets figures are 8 to 12 hours late.\n\n{alert.message}\n"
    driver.post.publish(Letter(f"{driver.project}#budget#{now:%Y-%m-%dT%H}", subject[:100], body, {"project": driver.project, "kind": "budget"}))
    return done
