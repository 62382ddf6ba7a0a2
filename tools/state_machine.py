"""Writes docs/state-machine.md from the core's own table: ``python -m tools.state_machine [--check]``."""

import sys
from pathlib import Path

from control_plane.core.state import ENDS, TRANSITIONS, JobState
from tools.generated import write_or_check

TARGET = Path("docs/state-machine.md")

_HEAD = """# The life of a job

Generated from `TRANSITIONS` in `functions/control_plane/core/state.py` by `python -m tools.state_machine`; do not edit.
Every change of state goes through that table: one that it does not know is a programmer's error, and raises.

```mermaid
stateDiagram-v2
"""

_FOOT = """```

Every state on the left may also become FAILED, CANCELLED, STOPPED_DEADLINE or STOPPED_BUDGET; the diagram leaves those
arrows out. Ends absorb: nothing revives a finished job. An attempt is one instance; an interruption ends an attempt, not the job.

"""


def page() -> str:
    """The whole page: a diagram, and a table with every allowed change and what causes it."""
    arrows = ["  [*] --> ACCEPTED: a valid manifest", "  [*] --> REJECTED: problems in the manifest"]
    arrows += [f"  {state} --> {to}: {why}" for state, nexts in TRANSITIONS.items() for to, why in nexts.items() if why]
    arrows += [f"  {state} --> [*]" for state in JobState if state in ENDS]
    rows = [f"| {state} | {to} | {why or 'its order, or its limit'} |" for state, nexts in TRANSITIONS.items() for to, why in nexts.items()]
    table = ["| from | to | when |", "|---|---|---|", *rows]
    return _HEAD + "\n".join(arrows) + "\n" + _FOOT + "\n".join(table) + "\n"


if __name__ == "__main__":
    sys.exit(write_or_check(TARGET, page(), "the core"))
