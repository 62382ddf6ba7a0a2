"""AWS's budget alerts: the plain-text mail parsed, and what an alert means for the project.

AWS Budgets speaks plain text over SNS and has no schema (aws.md, "Budgets"); its figures are hours late. So this is a
backstop beside the ledger, and a mail that cannot be read is passed on to a person, never dropped.
"""

import re
from datetime import UTC, datetime

from jobspec.base import Document, Finite, Text

SOURCE = "dropforge.budget"
DETAIL_TYPE = "Budget Alert"

_LINE = re.compile(r"^\s*([A-Z][A-Za-z ]{2,40}):\s*(.+?)\s*$", re.MULTILINE)
_AMOUNT = re.compile(r"\$?\s*([0-9][0-9,]*(?:\.[0-9]+)?)")


class BudgetAlert(Document):
    """An alert as it travels on the bus. ``origin``: aws-budgets for the account's, ledger for one job's own."""

    project: Text
    origin: Text
    budget_name: Text = ""
    #: ACTUAL or FORECASTED; empty where the mail could not be read.
    alert_type: Text = ""
    amount_usd: Finite | None = None
    budgeted_usd: Finite | None = None
    job_id: Text = ""
    #: The first lines of the mail, for a person.
    message: Text = ""

    @property
    def is_spent(self) -> bool:
        """The whole budget is really spent, not only forecast to be."""
        return self.alert_type == "ACTUAL" and self.amount_usd is not None and self.budgeted_usd is not None and self.amount_usd >= self.budgeted_usd


def parse_budget_mail(project: str, subject: str, message: str) -> BudgetAlert:
    """The alert in AWS Budgets' mail: its ``Key: value`` lines, for the wording of its sentences varies."""
    lines = {key.strip().lower(): value for key, value in _LINE.findall(message[:20_000])}
    alert_type = lines.get("alert type", "").upper()
    return BudgetAlert(
        project=project,
        origin="aws-budgets",
        budget_name=lines.get("budget name", "")[:200],
        alert_type=alert_type if alert_type in ("ACTUAL", "FORECASTED") else "",
        amount_usd=_amount(lines.get(f"{alert_type.lower()} amount", "")),
        budgeted_usd=_amount(lines.get("budgeted amount", "")),
        message=f"{subject[:200]}\n{message[:1500]}",
    )


def _amount(text: str) -> float | None:
    found = _AMOUNT.search(text)
    return float(found.group(1).replace(",", "")) if found else None


def next_month(now: datetime) -> datetime:
    """The start of the next calendar month (UTC): when a monthly budget begins anew."""
    return datetime(now.year + now.month // 12, now.month % 12 + 1, 1, tzinfo=UTC)
