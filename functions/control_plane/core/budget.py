"""AWS's budget alerts: the plain-text mail parsed, and what an alert means for the project.

AWS Budgets speaks plain text over SNS and has no schema (aws.md, "Budgets"); its figures are hours late. So this is a
backstop beside the ledger, and a mail that cannot be read is passed on to a person, never dropped.
"""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, StringConstraints

from jobspec.base import Document, Finite, JobId

SOURCE = "dropforge.budget"
DETAIL_TYPE = "Budget Alert"

#: A sum that a float holds to the cent; a longer row of digits is no sum of money.
_AMOUNT = re.compile(r"(-?)\s?\$?\s?(?<![0-9,.])([0-9][0-9,]{0,14}(?:\.[0-9]{1,9})?)(?![0-9,.]*[0-9])")
_MAX_MAIL_LINES = 200


def _printable(text: str) -> str:
    """Printable ASCII on the lines it has: an alert goes into a subject, a body and a log line."""
    return "".join(char if " " <= char <= "~" or char == "\n" else " " for char in text)


def _one_line(text: str) -> str:
    return _printable(text).replace("\n", " ")


Line = Annotated[str, StringConstraints(max_length=200), AfterValidator(_one_line)]


class BudgetAlert(Document):
    """An alert as it travels on the bus. ``origin``: aws-budgets for the account's, ledger for one job's own, project-ledger for the month's."""

    project: Line
    origin: Literal["aws-budgets", "ledger", "project-ledger"]
    budget_name: Line = ""
    #: ACTUAL or FORECASTED; empty where the mail could not be read.
    alert_type: Literal["ACTUAL", "FORECASTED", ""] = ""
    amount_usd: Finite | None = None
    budgeted_usd: Finite | None = None
    job_id: JobId | Literal[""] = ""
    #: The first lines of the mail, for a person.
    message: Annotated[str, StringConstraints(max_length=2000), AfterValidator(_printable)] = ""

    @property
    def is_spent(self) -> bool:
        """The whole budget is really spent, not only forecast to be."""
        return self.alert_type == "ACTUAL" and self.amount_usd is not None and self.budgeted_usd is not None and self.amount_usd >= self.budgeted_usd


def parse_budget_mail(project: str, subject: str, message: str) -> BudgetAlert:
    """The alert in AWS Budgets' mail: its ``Key: value`` lines, for the wording of its sentences varies. Raises nothing, whatever the mail holds."""
    # Cut and made printable before anything looks at it: so the work is bounded, and half surrogate pairs are gone.
    head = _printable(message[:20_000])
    lines = {key.strip().lower(): value.strip() for line in head.split("\n")[:_MAX_MAIL_LINES] for key, colon, value in [line.partition(":")] if colon}
    alert_type: Literal["ACTUAL", "FORECASTED", ""] = ""
    match lines.get("alert type", "").upper():
        case "ACTUAL":
            alert_type = "ACTUAL"
        case "FORECASTED":
            alert_type = "FORECASTED"
    return BudgetAlert(
        project=project,
        origin="aws-budgets",
        budget_name=lines.get("budget name", "")[:200],
        alert_type=alert_type,
        amount_usd=_amount(lines.get(f"{alert_type.lower()} amount", "")) if alert_type else None,
        budgeted_usd=_amount(lines.get("budgeted amount", "")),
        message=f"{_printable(subject[:200])}\n{head[:1500]}",
    )


def _amount(text: str) -> float | None:
    found = _AMOUNT.search(text[:100])
    return float(found.group(1) + found.group(2).replace(",", "")) if found else None
